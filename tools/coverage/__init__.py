"""Measures which lines of each package the tests of both languages run.

`make coverage`. The engine is built again with counters, so that the Python tests count for it, too. The
build of `make build` is not changed.
"""
