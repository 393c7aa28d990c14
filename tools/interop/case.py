"""The cases: what a dialer does, and when the result is green.

A case gets two peers, one of which dials the other, and access to their listeners. It raises `Failed`, or
`Absent` if the peer lacks the feature; it may return a remark on a green cell. Starts no processes and
decides no verdicts.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from testkit.program import Line
from tools.interop.peer import OURS, QUIC
from tools.interop.tap import Tap, tapped

if TYPE_CHECKING:
    from tools.interop.matrix import Listening, Stage
    from tools.interop.peer import Peer

LISTENER_CODE, DIALER_CODE = 42, 43

HYBRID = "X25519MLKEM768"

# The SHA-256 of no certificate, as the multihash of a multiaddr: 32 zeros.
OTHER_HASH = f"uEi{'A' * 44}"

# A valid peer id that no peer of the run has: the specification's first test vector.
OTHER_PEER = "12D3KooWM6CgA9iBFZmcYAHA6A2qvbAxqfkmrYiRQuz3XEsk4Ksv"


KEY_IN_ID = {"ed25519": "12D3KooW", "secp256k1": "16Uiu2"}
"""The beginning of peer ids that contain their public key. Those of other types are a hash, "Qm"."""

GOOD_CERTIFICATES = ("ed25519", "p384", "rsa", "critical")
"""The valid kinds: by the key of the certificate, or a critical libp2p extension. All others are invalid."""


class Failed(Exception):
    """The case is red. The message is the evidence."""


class Absent(Exception):
    """The peer lacks the feature of this case. The message names it."""


def must(condition: bool, answer: object) -> None:
    if not condition:
        raise Failed(str(answer))


def needs(feature: str, *peers: Peer) -> None:
    """Raise Absent if a peer lacks this optional feature."""
    for peer in peers:
        if feature not in peer.can:
            raise Absent(f"no {feature} in {peer.name}")


@dataclass(frozen=True)
class Case:
    """One column."""

    group: str
    """The group of the case on the page and in the picture."""
    name: str
    title: str
    run: Callable[[Stage], Awaitable[str | None]]
    limit: float = 30
    """Seconds, including the start of the programs."""
    is_quiet: bool = False
    """It mostly waits, so it runs concurrently with others."""
    shows: bool = False
    """The remark is its evidence, so that the case is red without one."""
    quic_only: str = ""
    """Why it is absent over WebTransport."""


async def asked(stage: Stage, name: str, **options: Any) -> Line:
    """The dialer's facts about a case that must succeed."""
    answer = await stage.dial(name, **options)
    must(answer["ok"], answer.get("error"))
    return answer


@asynccontextmanager
async def read(address: str) -> AsyncIterator[Tap]:
    """Require that the tap has read both hellos: without them a case has no evidence."""
    async with tapped(address) as tap:
        yield tap
        missing = [side for side, seen in (("dialer", tap.offered), ("listener", tap.agreed)) if not seen]
        must(not missing, f"the tap could not read the hello of the {' and of the '.join(missing)}")


def handshake(key: str) -> Callable[[Stage], Awaitable[None]]:
    """Both peer ids are right, with this type of key at each end that supports it."""

    async def run(stage: Stage) -> None:
        dialers = {key, "ed25519"} & set(stage.dialer.keys)
        listeners = {key, "ed25519"} & set(stage.listener.keys)
        pairs = [pair for pair in product(sorted(dialers), sorted(listeners)) if key in pair]
        if not pairs or key not in stage.peer.keys:
            raise Absent(f"no {key} keys in this peer")
        for dialer_key, listener_key in pairs:
            answer = await asked(stage, "handshake", key=dialer_key, listener_key=listener_key)
            listener = await stage.listening(key=listener_key)
            must(
                answer["remote"] == listener.peer,
                f"the dialer verified {answer['remote']} instead of {listener.peer}",
            )
            await listener.event("connected", answer["self"])
            # A program that ignores --key would show nothing.
            for peer, type_of_key in ((answer["self"], dialer_key), (listener.peer, listener_key)):
                must(peer.startswith(KEY_IN_ID.get(type_of_key, "Qm")), f"{peer} has no {type_of_key} key")

    return run


async def wrong_peer(stage: Stage) -> None:
    listener = await stage.listening()
    right = await stage.dial("handshake")
    must(right["ok"], f"the right peer id was refused, too: {right.get('error')}")
    wrong = listener.address.replace(listener.peer, OTHER_PEER)
    answer = await stage.dial("handshake", address=wrong)
    must(not answer["ok"], f"{listener.peer} was accepted as {OTHER_PEER}")


async def ping(stage: Stage) -> None:
    answer = await asked(stage, "ping")
    must(answer["rounds"] == 100, answer)


async def identify(stage: Stage) -> None:
    answer = await asked(stage, "identify")
    must("/ipfs/ping/1.0.0" in answer["protocols"], f"protocols: {answer['protocols']}")
    observed = answer["observed"]
    is_quic = observed is not None and "/udp/" in observed and "/quic-v1" in observed
    must(is_quic, f"observed address: {observed}")


async def echo(stage: Stage) -> None:
    answer = await asked(stage, "echo")
    must(answer["same"] is True and answer["bytes"] == 1 << 20, answer)


async def streams(stage: Stage) -> None:
    answer = await asked(stage, "streams")
    must(answer["same"] == answer["streams"] == 100, answer)


async def bulk(stage: Stage) -> None:
    answer = await asked(stage, "bulk")
    must(answer["up"] is True and answer["down"] is True and answer["bytes"] == 64 << 20, answer)


async def load(stage: Stage) -> None:
    answer = await asked(stage, "load")
    must(answer["same"] == answer["streams"] == 300 and answer["up"] is True, answer)


async def slow(stage: Stage) -> None:
    answer = await asked(stage, "slow")
    must(answer["down"] is True and answer["bytes"] == 16 << 20, answer)


async def note(stage: Stage) -> None:
    listener = await stage.listening()
    answer = await asked(stage, "note")
    heard = await listener.event("note", answer["self"])
    must(heard["bytes"] == answer["bytes"] == 65_536, f"{heard['bytes']} of {answer['bytes']} bytes arrived")


async def stop(stage: Stage) -> None:
    answer = await asked(stage, "stop")
    must(answer["answered"] == answer["closed"] == answer["streams"] == 1100, answer)


async def early(stage: Stage) -> None:
    answer = await asked(stage, "early")
    must(answer["rounds"] == 10, answer)


async def linger(stage: Stage) -> None:
    needs("linger", stage.dialer)
    listener = await stage.listening()
    answer = await asked(stage, "linger")
    heard = await listener.event("note", answer["self"])
    must(heard["bytes"] == answer["bytes"] == 65_536, f"{heard['bytes']} of {answer['bytes']} bytes arrived")


async def certificate(stage: Stage) -> str:
    """Every type of key in the peer's certificate is accepted, and a critical extension."""
    kinds = [kind for kind in stage.peer.certificates if kind in GOOD_CERTIFICATES]
    if not kinds:
        raise Absent(f"no certificates but P-256 in {stage.peer.name}")
    for kind in kinds:
        answer, _ = await shown(stage, kind)
        must(answer["ok"], f"{kind}: {answer.get('error')}")
    return ", ".join(kinds)


async def bad_certificate(stage: Stage) -> str:
    if stage.listener.transport != QUIC:
        return await other_hash(stage)
    kinds = [kind for kind in stage.peer.certificates if kind not in GOOD_CERTIFICATES]
    if not kinds:
        raise Absent(f"no bad certificates in {stage.peer.name}")
    refused = []
    for kind in kinds:
        answer, listener = await shown(stage, kind)
        must(not answer["ok"], f"{kind}: it was accepted")
        refused.append((kind, answer["self"], listener))
    await accepted_now(stage, "a valid certificate")
    for kind, dialer, listener in refused:
        must(listener.count("connected", dialer) == 0, f"{kind}: the listener accepted it")
    return ", ".join(kinds)


async def accepted_now(stage: Stage, what: str) -> None:
    """A handshake that succeeds. The shared listener has reported by then what it accepted before."""
    good = await stage.dial("handshake")
    must(good["ok"], f"{what} was refused, too: {good.get('error')}")
    await (await stage.listening()).event("connected", good["self"])


async def other_hash(stage: Stage) -> str:
    """WebTransport's certificate is trusted by its hash alone."""
    listener = await stage.listening()
    before, *hashes = listener.address.split("/p2p/")[0].split("/certhash/")
    answer = await stage.dial("handshake", address=f"{before}/certhash/{OTHER_HASH}/p2p/{listener.peer}")
    must(not answer["ok"], f"{OTHER_HASH} was accepted for {' and '.join(hashes)}")
    await accepted_now(stage, "the right hash")
    must(listener.count("connected", answer["self"]) == 0, "the listener accepted it")
    return "another hash than the address's"


async def shown(stage: Stage, kind: str) -> tuple[Line, Listening]:
    """A handshake in which the peer sends this kind of certificate: the dialer's answer, and the listener."""
    if stage.listener is not stage.peer:
        return await stage.dial("handshake", certificate=kind), await stage.listening()
    seed = secrets.token_hex(32)
    async with stage.own_listener(seed=seed, certificate=kind) as listener:
        return await stage.dial("handshake", address=listener.address), listener


async def server_name(stage: Stage) -> str:
    needs("server name", stage.dialer)
    listener = await stage.listening()
    seen = []
    for name in ("127.0.0.1", "l", f"{'x' * 63}.example", listener.peer):
        async with read(listener.address) as tap:
            answer = await stage.dial("handshake", address=tap.address, name=name)
            must(answer["ok"], f"{name}: {answer.get('error')}")
        # Some libraries send only valid host names.
        must(tap.server_name in (name, None), f"the dialer sent {tap.server_name} and not {name}")
        seen += [name] if tap.server_name else []
    must(bool(seen), "the dialer sent none of the names")
    return ", ".join("its peer id" if name == listener.peer else name for name in seen)


async def many(stage: Stage) -> None:
    async with AsyncExitStack() as stack:
        own = [stage.own_listener(seed=secrets.token_hex(32)) for _ in range(4)]
        listeners = [await stage.listening(), *[await stack.enter_async_context(each) for each in own]]
        first, *more = [listener.address for listener in listeners]
        answer = await asked(stage, "many", address=first, more=more)
        must(sorted(answer["remotes"]) == sorted(each.peer for each in listeners), answer)
        for listener in listeners:
            await listener.event("connected", answer["self"])


async def back(stage: Stage) -> None:
    needs("both roles", stage.dialer, stage.listener)
    answer = await asked(stage, "back")
    must(answer["answer"] == 1, answer)


async def listening(stage: Stage) -> None:
    needs("both roles", stage.dialer)
    answer = await asked(stage, "listening")
    observed, own = answer["observed"], answer["addrs"]
    must(bool(own), "the dialer did not listen")
    if "same port" in stage.dialer.can:
        must(observed is not None, "no observed address")
        # /ip4/HOST/udp/PORT/...
        ports = [each.split("/")[4] for each in own]
        must(observed.split("/")[4] in ports, f"listening on {own}, but it dialed from {observed}")


async def perf(stage: Stage) -> None:
    needs("perf", stage.dialer, stage.listener)
    answer = await asked(stage, "perf")
    must(answer["sent"] == answer["received"] == 8 << 20, answer)


async def post_quantum(stage: Stage) -> str:
    """Offered by each peer that has it, agreed if both have it, and harmless if only one has it."""
    listener = await stage.listening()
    async with read(listener.address) as tap:
        answer = await asked(stage, "handshake", address=tap.address)
    must(
        answer["remote"] == listener.peer,
        f"the dialer verified {answer['remote']} instead of {listener.peer}",
    )
    has, takes = ("post-quantum" in each.can for each in (stage.dialer, stage.listener))
    seen = f"{tap.agreed} agreed of {' and '.join(tap.offered)}{', asked again' if tap.was_retried else ''}"
    seen += f"; SNI {tap.server_name}" if tap.server_name else ""
    must((HYBRID in tap.offered) is has, f"{stage.dialer.name} has post-quantum: {has}; {seen}")
    must(
        (tap.agreed == HYBRID) is (has and takes), f"{stage.listener.name} has post-quantum: {takes}; {seen}"
    )
    return seen


async def retry(stage: Stage) -> str:
    """The listener validates every address. RFC 9000 section 8.1.2."""
    needs("retry", stage.listener)
    async with stage.own_listener(seed=secrets.token_hex(32), retry="always") as listener:
        for name in ("handshake", "ping"):
            async with read(listener.address) as tap:
                answer = await asked(stage, name, address=tap.address)
                must(tap.sent_retry, "the listener sent no Retry packet")
            must(
                answer.get("remote", listener.peer) == listener.peer, f"{listener.peer} is another: {answer}"
            )
            await listener.event("connected", answer["self"])
        times = listener.count("connected", answer["self"])
        must(times == 1, f"one dial made {times} connections")
    return f"a Retry packet, then {tap.agreed}"


async def reset(stage: Stage) -> None:
    listener = await stage.listening()
    answer = await asked(stage, "reset")
    codes = (answer["read_code"], answer["write_code"])
    if "reset" in stage.listener.can:
        must(answer["cut"] is True, "the listener's reset looked like a clean end")
        for code in codes:
            must(
                is_code(code, stage.listener, stage.dialer, "reset code", LISTENER_CODE),
                f"reset and stop codes: {codes}",
            )
    end = await listener.event("end", answer["self"])
    if "reset" in stage.dialer.can:
        must(end["how"] == "cut", "the dialer's reset looked like a clean end")
        must(
            is_code(end["code"], stage.dialer, stage.listener, "reset code", DIALER_CODE),
            f"code of the reset: {end}",
        )


async def close(stage: Stage) -> None:
    listener = await stage.listening()
    answer = await asked(stage, "close")
    code = answer["code"]
    must(answer["cut"] is True, "the listener's close looked like a clean end of the stream")
    must(
        is_code(code, stage.listener, stage.dialer, "close code", LISTENER_CODE),
        f"code of the listener's close: {code}",
    )
    end = await listener.event("end", answer["self"])
    must(end["how"] == "cut", "the dialer's close looked like a clean end of the stream")
    must(
        is_code(end["code"], stage.dialer, stage.listener, "close code", DIALER_CODE),
        f"code of the dialer's close: {end}",
    )


def is_code(seen: int | None, sender: Peer, receiver: Peer, what: str, wanted: int) -> bool:
    """Whether a code is right, if its sender can choose it and its receiver can report it, as ours can."""
    if what not in sender.can:
        return True
    return seen == wanted or (seen is None and receiver.name != OURS)


async def idle(stage: Stage) -> None:
    listener = await stage.listening()
    answer = await asked(stage, "idle")
    must(answer["seconds"] >= 35, answer)
    times = listener.count("connected", answer["self"])
    must(times == 1, f"the connection was lost and established again: {times} connections")


async def restart(stage: Stage) -> None:
    if stage.listener.transport != QUIC:
        needs("same certificate", stage.listener)
    seed = secrets.token_hex(32)
    async with stage.own_listener(seed=seed) as first, stage.dialing("restart", first.address) as dialer:
        await dialer.line(lambda line: line.get("event") == "ready", 20, "ready")
        await first.program.kill()
        async with stage.own_listener(seed=seed, port=first.port) as second:
            must(second.address == first.address, f"{second.address} after {first.address}")
            await dialer.say(second.address)
            answer = await dialer.line(lambda line: "ok" in line, 50, "answer")
            must(answer["ok"], answer.get("error"))
            await second.event("connected", answer["self"])


async def ip6(stage: Stage) -> None:
    listener = await stage.listening(ip="6")
    must(listener.address.startswith("/ip6/"), f"the listener's address is {listener.address}")
    for name in ("handshake", "echo"):
        answer = await asked(stage, name, ip="6")
        must(answer.get("same", True) is True, answer)


CASES = (
    Case("identity", "ed25519", "handshake with Ed25519 keys, both peer ids right", handshake("ed25519")),
    Case("identity", "secp256k1", "handshake with secp256k1 keys", handshake("secp256k1"), 60),
    Case("identity", "ecdsa", "handshake with ECDSA keys on P-256", handshake("ecdsa"), 60),
    Case("identity", "ecdsa-p384", "handshake with ECDSA keys on P-384", handshake("ecdsa-p384"), 60),
    Case("identity", "ecdsa-p521", "handshake with ECDSA keys on P-521", handshake("ecdsa-p521"), 60),
    Case("identity", "rsa", "handshake with RSA keys", handshake("rsa"), 60),
    Case("identity", "wrong-id", "another peer than the one that was dialed is refused", wrong_peer, 60),
    Case(
        "identity",
        "certificate",
        "a certificate with an Ed25519, P-384 or RSA key, or a critical extension, is accepted",
        certificate,
        60,
        shows=True,
        quic_only="WebTransport's certificate is trusted by its hash",
    ),
    Case(
        "identity",
        "bad-certificate",
        "one that is expired, lacks libp2p's extension or has an unknown critical one is refused; over "
        "WebTransport, one that has another hash than the address",
        bad_certificate,
        60,
        shows=True,
    ),
    Case(
        "identity",
        "server-name",
        "a dialer that sends unusual names as SNI is accepted",
        server_name,
        60,
        shows=True,
        quic_only="dialers of WebTransport take the name from the address",
    ),
    Case(
        "identity",
        "post-quantum",
        "X25519MLKEM768 offered, and agreed if both have it",
        post_quantum,
        shows=True,
        quic_only="its handshake has the same key exchange, which the row of QUIC shows",
    ),
    Case(
        "identity",
        "retry",
        "a listener that always sends a Retry packet can be dialed",
        retry,
        60,
        shows=True,
        quic_only="one port serves both, and the row of QUIC shows it",
    ),
    Case("streams", "ping", "100 rounds of /ipfs/ping/1.0.0", ping),
    Case("streams", "identify", "/ipfs/id/1.0.0 gives protocols and the observed QUIC address", identify),
    Case("streams", "echo", "1 MiB echoed, with half-close", echo),
    Case("streams", "streams", "100 streams open at once", streams),
    Case("streams", "bulk", "64 MiB each way, with SHA-256", bulk, 150),
    Case(
        "streams", "load", "300 short streams, each finished, during 16 MiB on the same connection", load, 60
    ),
    Case("streams", "slow", "a reader that pauses for 2 s holds back 16 MiB, and no byte is lost", slow, 60),
    Case("streams", "perf", "/perf/1.0.0, 8 MiB each way", perf, 60),
    Case("streams", "back", "the listener opens a stream to its dialer", back),
    Case("endings", "reset", "reset and stop seen by the other side, with the code if it is reported", reset),
    Case("endings", "close", "close of a connection seen by the other side, with the code", close),
    Case(
        "endings",
        "stop",
        "1100 streams that the listener ends at once, unread, can be closed",
        stop,
        60,
    ),
    Case("endings", "note", "a stream that is written and closed at once arrives completely", note),
    Case("endings", "linger", "bytes written just before the connection is closed arrive", linger),
    Case(
        "endings", "early", "ten connections closed right after the handshake, then one that works", early, 60
    ),
    Case("connections", "many", "one dialer with five listeners at once", many, 60),
    Case(
        "connections",
        "listening",
        "a listener dials, too, and from the same port if the project can",
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
        "the listener is killed and restarts on the same port",
        restart,
        100,
        is_quiet=True,
    ),
)
