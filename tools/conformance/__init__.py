"""py-libp2p's own test suite, run on this transport and on the stock one.

`python -m tools.conformance`, or `make conformance`. It selects py-libp2p's tests, runs them on both
transports and compares the results. It has no tests of its own and is not installed.
"""
