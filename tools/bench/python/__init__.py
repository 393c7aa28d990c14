"""The contenders that are Python: this transport and py-libp2p's own, alone or under a host."""
