"""Resolves multiaddrs to IP literals: names that are dialed, and wildcards that are listened on.
Only this module queries DNS or the system's network interfaces.
"""

from __future__ import annotations

import socket
from functools import partial
from typing import Any

import trio
from libp2p.utils.address_validation import get_available_interfaces
from multiaddr import Multiaddr

from libp2p_quic._addr import QUICAddress, to_multiaddr
from libp2p_quic._sockaddr import FAMILIES, interface_index, literals
from libp2p_quic.exceptions import DialError

# Lookups at once in one trio run, half of what trio allows to all threads.
_LOOKUPS = 20
# For one lookup. The system's resolver asks a second name server after 5 s (resolv.conf(5)). Seconds.
_LIMIT = 10.0
_limiter: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("libp2p_quic lookups")

_WILDCARDS = {"0.0.0.0": "ip4", "::": "ip6"}
_LOOPBACKS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


async def resolved(address: QUICAddress) -> list[str]:
    """The IP literals of the host of ``address``, best first (RFC 6724).

    A literal is returned unchanged; a zone is replaced by the index of its interface, as in
    "fe80::1%2". Always a checkpoint. Raises DialError if the name or the zone is unknown, or if no
    name server answers within 10 s.
    """
    await trio.lowlevel.checkpoint()
    if address.zone is not None:
        try:
            return [f"{address.host}%{interface_index(address.zone)}"]
        except (OSError, ValueError) as error:
            raise DialError(f"/ip6zone/{address.zone}: this machine has no such interface") from error
    if address.name_protocol is None:
        return [address.host]
    family = FAMILIES[address.name_protocol]
    try:
        with trio.fail_after(_LIMIT):
            found = await _looked_up(address.host, address.port, family)
    except trio.TooSlowError as error:
        what = f"/{address.name_protocol}/{address.host}"
        raise DialError(f"cannot resolve {what}: no answer within {_LIMIT:g} s") from error
    except (OSError, UnicodeError) as error:
        # UnicodeError: an invalid name, for instance one with a label of 64 letters.
        reason = getattr(error, "strerror", None) or error
        raise DialError(f"cannot resolve /{address.name_protocol}/{address.host}: {reason}") from error
    return literals(found)


async def _looked_up(host: str, port: int, family: int) -> list[Any]:
    """getaddrinfo in a thread of our own limit.

    The system's resolver cannot be interrupted. If the dial is canceled its thread continues, for
    half a minute without a DNS server, and must not hold one of the program's threads meanwhile.
    """
    resolver = trio.socket.set_custom_hostname_resolver(None)
    trio.socket.set_custom_hostname_resolver(resolver)
    if resolver is not None or not host.isascii():
        # The program's resolver, or IDNA 2008, which trio applies.
        return await trio.socket.getaddrinfo(host, port, family=family, type=socket.SOCK_DGRAM)
    try:
        limiter = _limiter.get()
    except LookupError:
        limiter = trio.CapacityLimiter(_LOOKUPS)
        _limiter.set(limiter)
    lookup = partial(socket.getaddrinfo, host.encode(), port, family=family, type=socket.SOCK_DGRAM)
    # trio_typing, a dependency of py-libp2p, has an older signature.
    run = partial(trio.to_thread.run_sync, limiter=limiter, abandon_on_cancel=True)  # type: ignore[call-arg]
    return await run(lookup)


def reachable(host: str, port: int, protocol: str) -> tuple[Multiaddr, ...]:
    """The addresses at which a socket bound to ``host`` can be dialed. A wildcard has one for each
    interface, the loopback's last. Queried on each call, as interfaces come and go.
    """
    if host not in _WILDCARDS:
        return (to_multiaddr(host, port, protocol),)
    interfaces = get_available_interfaces(port, "udp")
    found = [each for each in interfaces if str(each).startswith(f"/{_WILDCARDS[host]}/")]
    if not found:
        # In a container with only the loopback, py-libp2p returns nothing.
        return (to_multiaddr(_LOOPBACKS[host], port, protocol),)
    return tuple(each.encapsulate(Multiaddr(f"/{protocol}")) for each in found)
