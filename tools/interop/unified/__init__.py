"""The applications that libp2p's unified-testing runs: transport (`ping`) and perf (`perf`)."""
