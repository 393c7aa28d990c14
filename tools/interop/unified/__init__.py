"""The programs for libp2p's unified-testing: `ping` for transport, `perf`, and `hole_punch`."""
