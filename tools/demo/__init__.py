"""The demonstration: two hosts, two processes, one gibibyte.

`python -m demo` tells the story (`__main__`); `pair` starts the two processes and keeps
their time limits; `peer` is the program that both of them run; `payload` is what they
move; `screen` is what you see. Only `peer` knows a transport, and it names it once.
"""
