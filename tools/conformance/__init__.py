"""py-libp2p's own test suite, run on this transport and on the stock one.

`python -m conformance`, or `make conformance`. Nothing here is installed with the package, and
no test is written here: which of py-libp2p's tests are run, on what, and how the results compare.
"""
