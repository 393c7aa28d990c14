"""What may happen to the mappings of a router that is a `testkit.machines.Machine`. Needs root."""

from __future__ import annotations

import socket
import struct

from testkit.machines import Machine

_MASQUERADE = """
table ip nat
delete table ip nat
table ip nat {
  chain postrouting {
    type nat hook postrouting priority 100;
    oifname "wan" meta l4proto udp masquerade RANGE
  }
}
"""


# A dropped packet leaves no entry in the connection tracking, so that it keeps no port from being mapped.
_DROP_UNASKED = """
table inet unasked {
  chain input {
    type filter hook input priority 0; policy accept;
    iifname "wan" ct state established,related accept
    iifname "wan" drop
  }
  chain forward {
    type filter hook forward priority 0; policy accept;
    iifname "wan" ct state established,related accept
    iifname "wan" drop
  }
}
"""


def drop_unasked(router: Machine) -> None:
    """From now on drop what comes in through the interface "wan" and answers nothing that went out."""
    router.run("nft -f -", _DROP_UNASKED)


def masquerade(router: Machine, ports: str = "") -> None:
    """Translate new mappings of UDP to the address of the interface "wan", in place of earlier rules.

    ``ports`` (default: the home's port where it is free) is a range of nftables such as "to :30000-30999".
    With a range of one port all mappings of a home have that port (RFC 4787 section 4.1,
    endpoint-independent); of a longer range the kernel takes any port for each mapping.
    """
    router.run("nft -f -", _MASQUERADE.replace("RANGE", ports))


def forget_mappings(router: Machine) -> None:
    """Flush the connection tracking: ctnetlink's IPCTNL_MSG_CT_DELETE for all entries."""
    # linux/netlink.h, linux/netfilter/nfnetlink.h and nfnetlink_conntrack.h
    nfnl_ctnetlink, delete, request, acknowledge, netfilter = 1, 2, 1, 4, 12
    message = struct.pack("=IHHIIBBH", 20, nfnl_ctnetlink << 8 | delete, request | acknowledge, 1, 0, 0, 0, 0)
    with router.entered(), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, netfilter) as asking:
        asking.send(message)
        (error,) = struct.unpack_from("=i", asking.recv(4096), 16)
    assert error == 0, f"the connection tracking cannot be flushed: error {error}"
