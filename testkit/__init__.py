"""What the tests talk to: real py-libp2p hosts.

`near` makes a host in the test's own process, `far` starts one in a process of its own
(the program is `host`). `payload` is what they move, `census` counts what they leave
behind. No test lives here, and nothing here stands in for the thing that is tested.
"""
