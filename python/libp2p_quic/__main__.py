"""`python -m libp2p_quic` is the command `libp2p-quic`."""

from libp2p_quic._command import main

if __name__ == "__main__":
    main()
