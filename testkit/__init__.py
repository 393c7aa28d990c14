"""What tests and tools share: real py-libp2p hosts, peers as programs, drawing.

`near` makes a host in the test's own process, `far` starts one in a process of its own
(the program is `host`). `payload` makes the bytes that they transfer, `census` counts what they leave
behind. It holds no tests and no mocks.
"""
