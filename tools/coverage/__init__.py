"""Which lines of the four rooms the tests of both languages run.

`make coverage`. The engine is built anew with counters in it, so that the Python tests count
for it as well; what `make build` made stays as it is.
"""
