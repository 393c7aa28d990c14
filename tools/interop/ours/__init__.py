"""The peers of py-libp2p: on this project's transport, and on py-libp2p's own."""
