"""The cases: what a dialer is asked to do, and what must be true for it to be green.

A case gets two peers, one of which dials the other, and a way to their listeners. It
raises `Failed`, or `Absent` where the peer has no such thing; what it returns is a remark
for whoever reads a green cell, and most have none. No processes are started here, and no
verdict is looked up.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from interop.peer import OURS
from interop.program import Line
from interop.tap import Tap, tapped

if TYPE_CHECKING:
    from interop.matrix import Stage
    from interop.peer import Peer

LISTENER_CODE, DIALER_CODE = 42, 43

HYBRID = "X25519MLKEM768"

# Any valid peer id that nobody in the run has: the specification's first test vector.
STRANGER = "12D3KooWM6CgA9iBFZmcYAHA6A2qvbAxqfkmrYiRQuz3XEsk4Ksv"


GOOD_CERTIFICATES = ("ed25519", "p384", "rsa", "critical")
"""By the key that signs itself, or by the mark on libp2p's extension; any other kind is bad."""


class Failed(Exception):
    """The case is red. The message is the evidence."""


class Absent(Exception):
    """The peer has nothing that this case could show. The message says what is missing."""


def must(condition: bool, said: object) -> None:
    if not condition:
        raise Failed(str(said))


def needs(word: str, *peers: Peer) -> None:
    """The case is about something that not every project has."""
    for peer in peers:
        if word not in peer.can:
            raise Absent(f"no {word} in {peer.name}")


@dataclass(frozen=True)
class Case:
    """One column."""

    group: str
    """What stands together on the page and in the picture."""
    name: str
    title: str
    run: Callable[[Stage], Awaitable[str | None]]
    limit: float = 30
    """Seconds, start of the programs included."""
    is_quiet: bool = False
    """It waits more than it works, so it runs beside the others."""
    shows: bool = False
    """Its remark is what it saw, so that without one it is red."""


async def asked(stage: Stage, name: str, **options: Any) -> Line:
    """The facts that the dialer told of a case that must succeed."""
    said = await stage.dial(name, **options)
    must(said["ok"], said.get("error"))
    return said


@asynccontextmanager
async def read(address: str) -> AsyncIterator[Tap]:
    """A tap that must have read both hellos: without them a case has no evidence."""
    async with tapped(address) as tap:
        yield tap
        missing = [side for side, seen in (("dialer", tap.offered), ("listener", tap.agreed)) if not seen]
        must(not missing, f"the tap could not read the hello of the {' and of the '.join(missing)}")


def handshake(key: str) -> Callable[[Stage], Awaitable[None]]:
    """Both peer ids are right, with this type of key at either end, as far as each has it."""

    async def run(stage: Stage) -> None:
        dialers = {key, "ed25519"} & set(stage.dialer.keys)
        listeners = {key, "ed25519"} & set(stage.listener.keys)
        pairs = [pair for pair in product(sorted(dialers), sorted(listeners)) if key in pair]
        if not pairs or key not in stage.peer.keys:
            raise Absent(f"no {key} keys in this peer")
        for dialer_key, listener_key in pairs:
            said = await asked(stage, "handshake", key=dialer_key, listener_key=listener_key)
            listener = await stage.listening(key=listener_key)
            must(said["remote"] == listener.peer, f"the dialer took {listener.peer} for {said['remote']}")
            await listener.event("connected", said["self"])

    return run


async def wrong_peer(stage: Stage) -> None:
    listener = await stage.listening()
    right = await stage.dial("handshake")
    must(right["ok"], f"the right peer id was refused too: {right.get('error')}")
    wrong = listener.address.replace(listener.peer, STRANGER)
    said = await stage.dial("handshake", address=wrong)
    must(not said["ok"], f"{listener.peer} was taken for {STRANGER}")


async def ping(stage: Stage) -> None:
    said = await asked(stage, "ping")
    must(said["rounds"] == 100, said)


async def identify(stage: Stage) -> None:
    said = await asked(stage, "identify")
    must("/ipfs/ping/1.0.0" in said["protocols"], f"protocols: {said['protocols']}")
    observed = said["observed"]
    is_quic = observed is not None and "/udp/" in observed and "/quic-v1" in observed
    must(is_quic, f"observed address: {observed}")


async def echo(stage: Stage) -> None:
    said = await asked(stage, "echo")
    must(said["same"] is True and said["bytes"] == 1 << 20, said)


async def streams(stage: Stage) -> None:
    said = await asked(stage, "streams")
    must(said["same"] == said["streams"] == 100, said)


async def bulk(stage: Stage) -> None:
    said = await asked(stage, "bulk")
    must(said["up"] is True and said["down"] is True and said["bytes"] == 64 << 20, said)


async def load(stage: Stage) -> None:
    said = await asked(stage, "load")
    must(said["same"] == said["streams"] == 300 and said["up"] is True, said)


async def slow(stage: Stage) -> None:
    said = await asked(stage, "slow")
    must(said["down"] is True and said["bytes"] == 16 << 20, said)


async def note(stage: Stage) -> None:
    listener = await stage.listening()
    said = await asked(stage, "note")
    heard = await listener.event("note", said["self"])
    must(heard["bytes"] == said["bytes"] == 65_536, f"{heard['bytes']} of {said['bytes']} bytes came")


async def stop(stage: Stage) -> None:
    said = await asked(stage, "stop")
    must(said["answered"] == said["closed"] == said["streams"] == 1100, said)


async def early(stage: Stage) -> None:
    said = await asked(stage, "early")
    must(said["rounds"] == 10, said)


async def linger(stage: Stage) -> None:
    needs("linger", stage.dialer)
    listener = await stage.listening()
    said = await asked(stage, "linger")
    heard = await listener.event("note", said["self"])
    must(heard["bytes"] == said["bytes"] == 65_536, f"{heard['bytes']} of {said['bytes']} bytes came")


async def certificate(stage: Stage) -> str:
    """Whatever key the peer's certificate has, and however its extension is marked."""
    kinds = [kind for kind in stage.peer.certificates if kind in GOOD_CERTIFICATES]
    if not kinds:
        raise Absent(f"no certificates but P-256 in {stage.peer.name}")
    for kind in kinds:
        said = await shown(stage, kind)
        must(said["ok"], f"{kind}: {said.get('error')}")
    return ", ".join(kinds)


async def bad_certificate(stage: Stage) -> str:
    kinds = [kind for kind in stage.peer.certificates if kind not in GOOD_CERTIFICATES]
    if not kinds:
        raise Absent(f"no bad certificates in {stage.peer.name}")
    good = await stage.dial("handshake")
    must(good["ok"], f"a good certificate was refused too: {good.get('error')}")
    for kind in kinds:
        said = await shown(stage, kind)
        must(not said["ok"], f"{kind}: it was taken")
        listener = await stage.listening()
        must(listener.count("connected", said["self"]) == 0, f"{kind}: the listener took it")
    return ", ".join(kinds)


async def shown(stage: Stage, kind: str) -> Line:
    """A handshake in which the peer shows that kind of certificate."""
    if stage.listener is not stage.peer:
        return await stage.dial("handshake", certificate=kind)
    seed = secrets.token_hex(32)
    async with stage.own_listener(seed=seed, certificate=kind) as listener:
        return await stage.dial("handshake", address=listener.address)


async def server_name(stage: Stage) -> str:
    needs("server name", stage.dialer)
    listener = await stage.listening()
    seen = []
    for name in ("127.0.0.1", "l", f"{'x' * 63}.example", listener.peer):
        async with read(listener.address) as tap:
            said = await stage.dial("handshake", address=tap.address, name=name)
            must(said["ok"], f"{name}: {said.get('error')}")
        # Some libraries send only what is a name of a host.
        must(tap.server_name in (name, None), f"the dialer sent {tap.server_name} and not {name}")
        seen += [name] if tap.server_name else []
    must(bool(seen), "the dialer sent none of the names")
    return ", ".join("its peer id" if name == listener.peer else name for name in seen)


async def many(stage: Stage) -> None:
    async with AsyncExitStack() as stack:
        own = [stage.own_listener(seed=secrets.token_hex(32)) for _ in range(4)]
        listeners = [await stage.listening(), *[await stack.enter_async_context(each) for each in own]]
        first, *more = [listener.address for listener in listeners]
        said = await asked(stage, "many", address=first, more=more)
        must(sorted(said["remotes"]) == sorted(each.peer for each in listeners), said)
        for listener in listeners:
            await listener.event("connected", said["self"])


async def back(stage: Stage) -> None:
    needs("both roles", stage.dialer, stage.listener)
    said = await asked(stage, "back")
    must(said["answer"] == 1, said)


async def listening(stage: Stage) -> None:
    needs("both roles", stage.dialer)
    said = await asked(stage, "listening")
    observed, own = said["observed"], said["addrs"]
    must(bool(own), "the dialer did not listen")
    if "same port" in stage.dialer.can:
        must(observed is not None, "no observed address")
        # /ip4/HOST/udp/PORT/...
        ports = [each.split("/")[4] for each in own]
        must(observed.split("/")[4] in ports, f"listening on {own}, but it dialed from {observed}")


async def perf(stage: Stage) -> None:
    needs("perf", stage.dialer, stage.listener)
    said = await asked(stage, "perf")
    must(said["sent"] == said["received"] == 8 << 20, said)


async def post_quantum(stage: Stage) -> str:
    """Offered by who has it, agreed if both have it, and no harm if only one has it."""
    listener = await stage.listening()
    async with read(listener.address) as tap:
        said = await asked(stage, "handshake", address=tap.address)
    must(said["remote"] == listener.peer, f"the dialer took {listener.peer} for {said['remote']}")
    has, takes = ("post-quantum" in each.can for each in (stage.dialer, stage.listener))
    seen = f"{tap.agreed} agreed of {' and '.join(tap.offered)}{', asked again' if tap.was_retried else ''}"
    seen += f"; SNI {tap.server_name}" if tap.server_name else ""
    must((HYBRID in tap.offered) is has, f"{stage.dialer.name} has post-quantum: {has}; {seen}")
    must(
        (tap.agreed == HYBRID) is (has and takes), f"{stage.listener.name} has post-quantum: {takes}; {seen}"
    )
    return seen


async def retry(stage: Stage) -> str:
    """The listener believes no address that was not proven. RFC 9000 section 8.1.2."""
    needs("retry", stage.listener)
    async with stage.own_listener(seed=secrets.token_hex(32), retry="always") as listener:
        for name in ("handshake", "ping"):
            async with read(listener.address) as tap:
                said = await asked(stage, name, address=tap.address)
                must(tap.sent_retry, "the listener sent no Retry packet")
            must(said.get("remote", listener.peer) == listener.peer, f"{listener.peer} is another: {said}")
            await listener.event("connected", said["self"])
        times = listener.count("connected", said["self"])
        must(times == 1, f"one dial made {times} connections")
    return f"a Retry packet, then {tap.agreed}"


async def reset(stage: Stage) -> None:
    listener = await stage.listening()
    said = await asked(stage, "reset")
    codes = (said["read_code"], said["write_code"])
    if "reset" in stage.listener.can:
        must(said["cut"] is True, "the listener's reset looked like an orderly end")
        for code in codes:
            must(
                is_code(code, stage.listener, stage.dialer, "reset code", LISTENER_CODE),
                f"reset and stop codes: {codes}",
            )
    end = await listener.event("end", said["self"])
    if "reset" in stage.dialer.can:
        must(end["how"] == "cut", "the dialer's reset looked like an orderly end")
        must(
            is_code(end["code"], stage.dialer, stage.listener, "reset code", DIALER_CODE),
            f"code of the reset: {end}",
        )


async def close(stage: Stage) -> None:
    listener = await stage.listening()
    said = await asked(stage, "close")
    code = said["code"]
    must(said["cut"] is True, "the listener's close looked like an orderly end of the stream")
    must(
        is_code(code, stage.listener, stage.dialer, "close code", LISTENER_CODE),
        f"code of the listener's close: {code}",
    )
    end = await listener.event("end", said["self"])
    must(end["how"] == "cut", "the dialer's close looked like an orderly end of the stream")
    must(
        is_code(end["code"], stage.dialer, stage.listener, "close code", DIALER_CODE),
        f"code of the dialer's close: {end}",
    )


def is_code(seen: int | None, sender: Peer, receiver: Peer, what: str, wanted: int) -> bool:
    """Whether a code is right, as far as its sender can choose it and its receiver show it,
    which ours always can."""
    if what not in sender.can:
        return True
    return seen == wanted or (seen is None and receiver.name != OURS)


async def idle(stage: Stage) -> None:
    listener = await stage.listening()
    said = await asked(stage, "idle")
    must(said["seconds"] >= 35, said)
    times = listener.count("connected", said["self"])
    must(times == 1, f"the connection was lost and made anew: {times} connections")


async def restart(stage: Stage) -> None:
    seed = secrets.token_hex(32)
    async with stage.own_listener(seed=seed) as first, stage.dialing("restart", first.address) as dialer:
        await dialer.line(lambda line: line.get("event") == "ready", 20, "ready")
        await first.program.kill()
        async with stage.own_listener(seed=seed, port=first.port) as second:
            must(second.address == first.address, f"{second.address} after {first.address}")
            await dialer.say(second.address)
            said = await dialer.line(lambda line: "ok" in line, 50, "answer")
            must(said["ok"], said.get("error"))
            await second.event("connected", said["self"])


async def ip6(stage: Stage) -> None:
    for name in ("handshake", "echo"):
        said = await asked(stage, name, ip="6")
        must(said.get("same", True) is True, said)


CASES = (
    Case("who is there", "ed25519", "handshake with Ed25519 keys, both peer ids right", handshake("ed25519")),
    Case("who is there", "secp256k1", "handshake with secp256k1 keys", handshake("secp256k1"), 60),
    Case("who is there", "ecdsa", "handshake with ECDSA keys on P-256", handshake("ecdsa"), 60),
    Case("who is there", "ecdsa-p384", "handshake with ECDSA keys on P-384", handshake("ecdsa-p384"), 60),
    Case("who is there", "ecdsa-p521", "handshake with ECDSA keys on P-521", handshake("ecdsa-p521"), 60),
    Case("who is there", "rsa", "handshake with RSA keys", handshake("rsa"), 60),
    Case("who is there", "wrong-id", "another peer than the one that was dialed is refused", wrong_peer, 60),
    Case(
        "who is there",
        "certificate",
        "a certificate with an Ed25519, P-384 or RSA key, or a critical extension, is taken",
        certificate,
        60,
        shows=True,
    ),
    Case(
        "who is there",
        "bad-certificate",
        "one that expired, proves nothing or has an unknown critical extension is refused",
        bad_certificate,
        60,
        shows=True,
    ),
    Case(
        "who is there",
        "server-name",
        "a dialer that sends odd names as SNI is taken",
        server_name,
        60,
        shows=True,
    ),
    Case(
        "who is there",
        "post-quantum",
        "X25519MLKEM768 offered, and agreed if both have it",
        post_quantum,
        shows=True,
    ),
    Case(
        "who is there",
        "retry",
        "a listener that sends everybody a Retry packet first can be dialed",
        retry,
        60,
        shows=True,
    ),
    Case("streams", "ping", "100 rounds of /ipfs/ping/1.0.0", ping),
    Case("streams", "identify", "/ipfs/id/1.0.0 gives protocols and the observed QUIC address", identify),
    Case("streams", "echo", "1 MiB there and back, with half-close", echo),
    Case("streams", "streams", "100 streams open at once", streams),
    Case("streams", "bulk", "64 MiB each way, with SHA-256", bulk, 150),
    Case(
        "streams", "load", "300 short streams, each with its end, beside 16 MiB on one connection", load, 60
    ),
    Case("streams", "slow", "a reader that pauses for 2 s holds back 16 MiB, and none is lost", slow, 60),
    Case("streams", "perf", "/perf/1.0.0, 8 MiB each way", perf, 60),
    Case("streams", "back", "the listener opens a stream to its dialer", back),
    Case("endings", "reset", "reset and stop seen by the other side, with the code where it shows", reset),
    Case("endings", "close", "close of a connection seen by the other side, with the code", close),
    Case(
        "endings",
        "stop",
        "1100 streams that the listener ends at once, unread; to close them works",
        stop,
        60,
    ),
    Case("endings", "note", "a stream that is written and closed at once arrives whole", note),
    Case("endings", "linger", "what was written just before the connection was closed arrives", linger),
    Case(
        "endings", "early", "ten connections closed as soon as they are there, then one that works", early, 60
    ),
    Case("connections", "many", "one dialer with five listeners at once", many, 60),
    Case(
        "connections",
        "listening",
        "who listens dials too, and from the same port if the project can",
        listening,
    ),
    Case("connections", "ip6", "handshake and echo over IPv6", ip6, 60),
    Case(
        "connections",
        "idle",
        "nothing for 35 s, then the same connection still works",
        idle,
        90,
        is_quiet=True,
    ),
    Case(
        "connections",
        "restart",
        "the listener is killed and comes back on the same port",
        restart,
        100,
        is_quiet=True,
    ),
)
