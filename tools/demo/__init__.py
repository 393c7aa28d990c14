"""The demonstration: two hosts in two processes transfer one gibibyte.

`__main__` is the command line; `pair` starts the two processes and enforces their time limits; `peer` is
the program that both run; `payload` generates the bytes; `screen` is the output. Only `peer` names a
transport, in one place.
"""
