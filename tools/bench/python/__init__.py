"""The contenders in Python: this transport and py-libp2p's own, alone or in a host."""
