"""Resolves the host of an address to IP literals. Only this module queries DNS."""

from __future__ import annotations

import asyncio
import socket

from libp2p_quic._exception_types import DialError
from libp2p_quic._sockaddr import FAMILIES, interface_index, literals
from libp2p_quic.asyncio.address import Address
from libp2p_quic.asyncio.time_limit import ended_within

# For one lookup. The system's resolver asks a second name server after 5 s (resolv.conf(5)). Seconds.
_LIMIT = 10.0


async def resolved(address: Address) -> list[str]:
    """The IP literals of the host of ``address``, best first (RFC 6724).

    A literal is returned unchanged; a zone is replaced by the index of its interface, as in
    "fe80::1%2". Names are resolved in the loop's default executor; canceling does not wait for it.
    Raises DialError if the name or the zone is unknown, or if no name server answers within 10 s.
    """
    if address.zone is not None:
        try:
            return [f"{address.host}%{interface_index(address.zone)}"]
        except (OSError, ValueError) as error:
            raise DialError(f"/ip6zone/{address.zone}: this machine has no such interface") from error
    if address.name_protocol is None:
        return [address.host]
    family = FAMILIES[address.name_protocol]
    lookup = asyncio.get_running_loop().getaddrinfo(
        address.host, address.port, family=family, type=socket.SOCK_DGRAM
    )
    ended = await ended_within(_LIMIT, lookup)
    if ended is None:
        what = f"/{address.name_protocol}/{address.host}"
        raise DialError(f"cannot resolve {what}: no answer within {_LIMIT:g} s")
    try:
        found = ended.result()
    except (OSError, UnicodeError) as error:
        # UnicodeError: an invalid name, for instance one with a label of 64 letters.
        reason = getattr(error, "strerror", None) or error
        raise DialError(f"cannot resolve /{address.name_protocol}/{address.host}: {reason}") from error
    return literals(found)
