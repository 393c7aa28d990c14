"""Which cells a run has: every one, those that are chosen by their parts, or those that are named."""

from __future__ import annotations

import re
from dataclasses import replace

from tools.nat.network import ROUTER_KINDS
from tools.nat.trial import PROGRAMS, Cell

# Pairs of routers, and what is special about the path; what go-libp2p would punch comes first.
PLACES: tuple[Cell, ...] = (
    Cell("", "", "", ("drop", "drop")),
    Cell("", "", "", ("forwarded", "symmetric")),
    Cell("", "", "", ("symmetric", "forwarded")),
    Cell("", "", "", ("hairpin", "hairpin"), is_shared=True),
    Cell("", "", "", ("firewall", "firewall")),
    Cell("", "", "", ("firewall6", "firewall6")),
    Cell("", "", "", ("drop", "drop"), delay=30, loss=2),
    Cell("", "", "", ("drop", "drop"), delay=80, loss=2),
    Cell("", "", "", ("drop", "drop"), delay=150, loss=2),
    Cell("", "", "", ("short", "short")),
    # The homes' first packets have to leave within the delay of each other: the one that arrives before the
    # router's own home has sent keeps the port from being mapped. Without loss, timing alone decides.
    Cell("", "", "", ("accept", "accept"), delay=30),
    Cell("", "", "", ("accept", "accept"), delay=80),
    # Without a delay nobody's timing suffices: the homes stay relayed.
    Cell("", "", "", ("accept", "accept")),
    Cell("", "", "", ("symmetric", "symmetric")),
)
PEERS = ("ours", "go", "rust")

# How `named` is told a cell.
SYNTAX = "ROUTERS[@DELAY[/LOSS]] LISTENER>DIALER [via RELAY]"
EXAMPLE = "symmetric|forwarded ours>go via rust, drop@30/2+accept@30 ours>ours+go>go via go+ours"

_NAMED = re.compile(r"(\S+)\s+(\S+)(?:\s+via\s+(\S+))?")
_PLACE = re.compile(r"(\w+)(?:\|(\w+))?(?:@(\d+)(?:/(\d+))?)?")


def cells(peers: tuple[str, ...], relays: tuple[str, ...], has_stock: bool) -> list[Cell]:
    """Every pair with ours through every relay, go with go too, as the reference, and rust with rust
    through its own. ``has_stock``: py-libp2p's own transport with ours too, through our relay."""
    found = []
    for place in PLACES:
        for listener in peers:
            for dialer in peers:
                pair = (listener, dialer)
                if "ours" in pair or pair == ("go", "go"):
                    among = relays
                else:
                    among = (listener,) if listener == dialer else ()
                found += [replace(place, listener=listener, dialer=dialer, relay=each) for each in among]
        is_first = place.routers == ("drop", "drop") and not place.path
        if has_stock and is_first and "ours" in peers and "ours" in relays:
            pairs = (("stock", "ours"), ("ours", "stock"))
            found += [replace(place, listener=each, dialer=other, relay="ours") for each, other in pairs]
    return found


def named(text: str) -> list[Cell]:
    """The cells of a text as `EXAMPLE`, each once. Raises ValueError, which says what is wrong.

    Commas are between entries, and a plus between alternatives of a part: an entry names each combination.
    Two routers are those of the listener and the dialer; one is both. Without ``via``: through every relay.
    """
    found: list[Cell] = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        match = _NAMED.fullmatch(entry)
        if match is None:
            raise ValueError(f"{entry!r} is not like {SYNTAX}")
        places, pairs, relays = match.groups(default="+".join(PEERS))
        for place in map(_place, places.split("+")):
            for pair in pairs.split("+"):
                listener, _, dialer = pair.partition(">")
                for relay in relays.split("+"):
                    _check("peer", listener, tuple(PROGRAMS))
                    _check("peer", dialer, tuple(PROGRAMS))
                    _check("relay", relay, PEERS)
                    found.append(replace(place, listener=listener, dialer=dialer, relay=relay))
    return list(dict.fromkeys(found))


def with_references(chosen: list[Cell]) -> list[Cell]:
    """With go-libp2p and itself before the first cell that is compared with it, where it is not chosen.

    Times are compared within a run only: the load of the machine differs between two.
    """
    found: list[Cell] = []
    known = set(chosen)
    for each in chosen:
        if each.is_compared and each.reference not in known:
            known.add(each.reference)
            found.append(each.reference)
        found.append(each)
    return found


def _place(text: str) -> Cell:
    match = _PLACE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not like ROUTERS[@DELAY[/LOSS]]")
    first, second, delay, loss = match.groups()
    routers = (first, second or first)
    for name in routers:
        _check("kind of router", name, tuple(ROUTER_KINDS))
    # Homes meet at their mapped addresses behind one router only.
    is_shared = routers == ("hairpin", "hairpin")
    return Cell("", "", "", routers, is_shared, int(delay or 0), int(loss or 0))


def _check(what: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise ValueError(f"{name!r} is no {what}: there are {', '.join(known)}")
