"""`libp2p-quic dial` names the cause of failures that are made on purpose, and shows a dial that succeeds.

Each test runs the command in a process of its own, against a real listener or a server that refuses.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from multiaddr import Multiaddr

from libp2p_quic._command import certificate as certificates
from libp2p_quic._command import nat as nats
from libp2p_quic._command.explanation import of_dial
from libp2p_quic._command.identify import IDENTIFY
from libp2p_quic._dial_attempt import PeerCertificate
from libp2p_quic._engine_errors import ConnectionLostError
from libp2p_quic._exception_types import dial_error
from libp2p_quic._webtransport_address import NEEDS_CERTHASH, certificate_hash_text
from libp2p_quic.asyncio import Address, Connection, Endpoint, EndpointConfig, Identity, Stream
from testkit.asyncio_ends import LOOPBACK, ends
from testkit.command import COMMAND, ended, events, finished, running, terminal
from testkit.expired_server import expired_server
from testkit.refusing_server import refusing_server
from testkit.relay import Relay
from testkit.unwilling import black_hole, dead_port, old_server, one_answer_of, other_server

PEER = "12D3KooWQnwEGNqcM2nAcPtRR9rAX8Hrg4k9kJLCHoTR5chJfz6d"
ROOT = Path(__file__).parent.parent
QUICK = ("--timeout", 0.5)

Failure = tuple[int, dict[str, Any]]


def failure(*arguments: object) -> Failure:
    """Exit status and the last JSON object of a dial. Its texts are on standard error, too."""
    done = ended("dial", "--json", *arguments)
    error = events(done.stdout.decode())[-1]
    shown = done.stderr.decode()
    assert "Traceback" not in shown
    if error["event"] == "error":
        assert f"error: {error['text']}" in shown
        assert f"try: {error['next_step']}" in shown
        assert error["next_step"]
    return done.returncode, error


def with_loop(serve: Callable[[], Awaitable[Failure]]) -> Failure:
    async def main() -> Failure:
        return await serve()

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("address", "step"),
    [
        ("/ip4/192.0.2.1/tcp/4001", "this is a TCP address"),
        ("/ip4/192.0.2.1/udp/4001", "add /quic-v1 after the port: /ip4/192.0.2.1/udp/4001/quic-v1"),
        ("example.com:4001", "/dns/example.com/udp/4001/quic-v1"),
        ("https://[2001:db8::1]:4001/", "/ip6/2001:db8::1/udp/4001/quic-v1"),
        (PEER, "this is a peer id without an address"),
        (f"/dnsaddr/bootstrap.libp2p.io/p2p/{PEER}", "dig +short TXT _dnsaddr.bootstrap.libp2p.io"),
        (f"/ip4/192.0.2.1/udp/1/quic-v1/p2p/{PEER}/p2p-circuit", "an address behind a relay"),
        ("/ip4/192.0.2.1/udp/1/webrtc-direct", "does not speak webrtc-direct"),
        ("/ip4/192.0.2.400/udp/1/quic-v1", "an address is /ip4/"),
        ("/ip4/192.0.2.1/udp/1/quic-v1/p2p/12D3", "an address is /ip4/"),
        ("hello", "an address is /ip4/"),
    ],
)
def test_text_that_is_no_address_to_dial(address: str, step: str) -> None:
    status, error = failure(address)
    assert (status, error["cause"]) == (2, "address")
    assert step in error["next_step"]


@pytest.mark.parametrize(
    ("address", "cause", "text"),
    [
        ("/ip4/224.0.0.1/udp/9/quic-v1", "not_dialable", "it is a multicast group"),
        ("/ip4/255.255.255.255/udp/9/quic-v1", "not_dialable", "it is the broadcast address"),
        ("/ip4/0.0.0.0/udp/9/quic-v1", "not_dialable", "it stands for every address of a listener"),
        ("/ip4/240.0.0.1/udp/9/quic-v1", "not_dialable", "is reserved"),
        ("/ip6/fe80::1/udp/9/quic-v1", "not_dialable", "a link-local address needs the zone"),
        ("/ip6zone/nope/ip6/fe80::1/udp/9/quic-v1", "zone", "this machine has no such interface"),
        ("/ip4/127.0.0.1/udp/0/quic-v1", "port_0", "port 0 cannot be dialed"),
        (
            "/ip4/127.0.0.1/udp/9/quic-v1/webtransport",
            "certhash",
            "an address of WebTransport needs /certhash",
        ),
        ("/dns4/nothing.invalid/udp/9/quic-v1", "name", "cannot resolve /dns4/nothing.invalid"),
    ],
)
def test_address_that_cannot_be_reached(address: str, cause: str, text: str) -> None:
    status, error = failure(address)
    assert (status, error["cause"]) == (3, cause)
    assert text in error["text"]


def test_dead_port() -> None:
    status, error = failure(*QUICK, dead_port())
    assert (status, error["cause"]) == (3, "dead_port")


def test_black_hole() -> None:
    with black_hole() as address:
        status, error = failure(*QUICK, address)
    assert (status, error["cause"]) == (3, "no_answer")
    assert "check its UDP port" in error["next_step"]


def test_handshake_whose_answers_are_lost() -> None:
    async def serve() -> Failure:
        async with ends() as two:
            port = int(two.listener.address.split("/")[4])
            async with one_answer_of(port) as address:
                return await asyncio.to_thread(failure, "--timeout", 3, address)

    status, error = with_loop(serve)
    assert (status, error["cause"]) == (3, "incomplete_handshake")


@pytest.mark.parametrize("reason", ["port 0 cannot be dialed", "no such interface", NEEDS_CERTHASH])
def test_reason_of_a_peer_names_no_cause(reason: str) -> None:
    """In the process of the test: a close of a peer seldom overtakes the end of the handshake."""
    lost = ConnectionLostError(f"connection closed by the peer: {reason}", "peer", "closed", 5, reason)
    assert of_dial(dial_error(lost, LOOPBACK)).cause == "closed"


def test_wrong_peer() -> None:
    async def serve() -> Failure:
        async with ends() as two:
            found = await asyncio.to_thread(failure, f"{two.listener.address}/p2p/{PEER}")
            assert str(two.far.peer_id) in found[1]["text"]
            return found

    assert with_loop(serve)[1]["cause"] == "wrong_peer"


def test_server_of_another_protocol() -> None:
    async def serve() -> Failure:
        async with other_server("h3") as address:
            return await asyncio.to_thread(failure, address)

    assert with_loop(serve)[1]["cause"] == "not_libp2p"


def test_server_without_a_libp2p_identity() -> None:
    async def serve() -> Failure:
        async with other_server("libp2p") as address:
            return await asyncio.to_thread(failure, address)

    assert with_loop(serve)[1]["cause"] == "certificate"


@pytest.mark.parametrize("protocol", ["libp2p", "h3"])
def test_certificate_that_is_not_valid_now_is_a_wrong_clock(protocol: str) -> None:
    with expired_server(protocol) as (address, multihash):
        if protocol == "h3":
            address += f"/webtransport/certhash/{certificate_hash_text(multihash)}"
        status, error = failure(address)
    assert (status, error["cause"]) == (3, "clock")


@pytest.mark.parametrize(
    ("alert", "cause", "told"),
    [
        (40, "refused_handshake", "the peer ended the TLS handshake (TLS alert handshake_failure)"),
        (42, "refused_certificate", "the peer does not accept our certificate (TLS alert bad_certificate)"),
        (45, "clock", "our certificate is not valid at the time of the peer's clock"),
        (49, "gated", "the peer does not admit our host key (TLS alert access_denied)"),
    ],
)
def test_peer_that_refuses_with_a_tls_alert(alert: int, cause: str, told: str) -> None:
    """The dialer's handshake is complete by then; it is no connection."""

    async def serve() -> Failure:
        async with refusing_server(alert, "invalid peer certificate: BadEncoding") as address:
            return await asyncio.to_thread(failure, address)

    status, error = with_loop(serve)
    assert (status, error["cause"]) == (3, cause)
    code = f"{0x100 + alert:#x}"
    assert f"handshake refused by the peer (code {code}): invalid peer certificate: Bad" in error["text"]
    assert told in error["text"]


def test_address_with_the_hash_of_an_old_certificate() -> None:
    async def serve() -> Failure:
        async with Endpoint(Identity.generate()) as far:
            listener = await far.listen(f"{LOOPBACK}/webtransport")
            assert listener.webtransport_address is not None
            right = Address.parse(listener.webtransport_address)
            old = replace(right, certificate_hashes=(b"\x12\x20" + bytes(32),))
            return await asyncio.to_thread(failure, old)

    status, error = with_loop(serve)
    assert (status, error["cause"]) == (3, "certhash")
    assert "current address" in error["next_step"]


def test_listener_without_webtransport() -> None:
    async def serve() -> Failure:
        async with ends() as two:
            certificate = certificate_hash_text(b"\x12\x20" + bytes(32))
            address = f"{two.listener.address}/webtransport/certhash/{certificate}"
            return await asyncio.to_thread(failure, address)

    status, error = with_loop(serve)
    assert (status, error["cause"]) == (3, "no_webtransport")


def test_server_with_old_drafts_only() -> None:
    async def serve() -> Failure:
        async with old_server() as address:
            return await asyncio.to_thread(failure, address)

    assert with_loop(serve)[1]["cause"] == "version"


@pytest.mark.parametrize("key", ["denied", "limit"])
def test_listener_that_refuses_before_the_handshake(key: str) -> None:
    async def serve() -> Failure:
        async with ends(far=EndpointConfig(max_connections=1)) as two:
            connections = await two.connected() if key == "limit" else ()
            if key == "denied":
                two.far.deny_addresses(["127.0.0.1"])
            assert not any(each.is_closed for each in connections)
            return await asyncio.to_thread(failure, two.address)

    assert with_loop(serve)[1]["cause"] == "limit"


@pytest.mark.parametrize(
    ("code", "cause"), [(0x1001, "limit"), (0x1002, "limit"), (0x1007, "gated"), (0x4741_5445, "gated")]
)
def test_listener_that_refuses_after_the_handshake(code: int, cause: str) -> None:
    async def serve() -> Failure:
        async with ends() as two:
            dialing = asyncio.create_task(asyncio.to_thread(failure, two.address))
            (await two.listener.accept()).close(code, "no")
            return await dialing

    status, error = with_loop(serve)
    assert (status, error["cause"]) == (3, cause)


def test_listener_that_closes_a_connection_in_use() -> None:
    async def serve() -> Failure:
        async with ends() as two:
            dialing = asyncio.create_task(asyncio.to_thread(failure, two.address))
            connection: Connection = await two.listener.accept()
            # Before the first stream, the close may overtake the end of the dial, which then fails.
            asked = await connection.accept_stream()
            connection.close(0, "no")
            found = await dialing
            assert asked.protocol is None  # The stream lives until here, and is not reset before the close.
            return found

    status, error = with_loop(serve)
    assert (status, error["cause"]) == (1, "closed")


def test_listener_whose_gate_denies() -> None:
    with running("listen", "--json", "--allow", PEER, LOOPBACK) as listener:
        status, error = failure(listener.event("listening")["address"])
    assert (status, error["cause"]) == (3, "gated")


def test_peer_that_completes_the_handshake_and_is_silent() -> None:
    async def serve() -> Failure:
        async with ends() as two:
            dialing = asyncio.create_task(asyncio.to_thread(failure, "--timeout", 3, two.address))
            connection: Connection = await two.listener.accept()
            found = await dialing
            assert connection.remote_address
            return found

    status, error = with_loop(serve)
    assert (status, error["cause"]) == (1, "silent")


def test_dial_to_oneself(tmp_path: Path) -> None:
    finished("identity", "make", "a.key", cwd=tmp_path)
    key = tmp_path / "a.key"
    with running("listen", "--json", "--key", key, LOOPBACK) as listener:
        address = listener.event("listening")["address"]
        for each in (address, address.partition("/p2p/")[0]):
            status, error = failure("--key", key, each)
            assert (status, error["cause"]) == (3, "self")


def test_host_key_that_is_a_public_key(tmp_path: Path) -> None:
    (tmp_path / "public.key").write_bytes(Identity.generate("ecdsa").public_key)
    status, error = failure("--key", tmp_path / "public.key", dead_port())
    assert (status, error["cause"]) == (2, "key")


def test_machine_without_a_route() -> None:
    """In a network namespace of its own, without an interface that is up."""
    alone = ["unshare", "--map-root-user", "--net"]
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], check=False).returncode:
        pytest.skip("needs network namespaces")
    command = [*alone, *COMMAND, "dial", "--json", "/ip4/192.0.2.1/udp/9/quic-v1"]
    done = subprocess.run(command, capture_output=True, check=False, timeout=100)
    assert events(done.stdout.decode())[-1]["cause"] == "no_route"


def test_every_address_of_a_name_is_tried() -> None:
    with black_hole() as address:
        name = address.replace("/ip4/127.0.0.1", "/dns4/localhost")
        done = ended("dial", "--json", *QUICK, name)
    attempts, error = events(done.stdout.decode())
    assert [each["address"] for each in attempts["attempts"]] == [address]
    (attempt,) = attempts["attempts"]
    assert (attempt["result"], attempt["cause"]) == ("failed", "no_answer")
    assert "did not answer" in attempt["text"]
    assert attempt["ended"] > 0.4
    assert (attempt["datagrams_sent"] > 0, attempt["datagrams_received"]) == (True, 0)
    assert (attempt["initial_sent"] is not None, attempt["first_answer"]) == (True, None)
    assert error["cause"] == "no_answer"


@pytest.mark.parametrize("command", ["cat", "dial", "perf", "ping"])
def test_dial_without_an_answer_tells_early_what_it_waits_for(command: str) -> None:
    with black_hole() as address, terminal(command, "--timeout", 300, address) as shown:
        shown.until(rf"waiting for {address}: [1-9]\d* datagrams? sent, none came back\n")
        shown.until(r"each address has 300 s \(--timeout\); Ctrl-C ends\n")
        shown.press("\x03")
        assert shown.end() == 130
    if command == "dial":
        told = r"attempt +\S+ at .* abandoned after .* \([1-9]\d* datagrams? sent, none"
        assert re.search(told, shown.screen)


def test_reported_port_is_told_early() -> None:
    with terminal("dial", "--timeout", 300, dead_port()) as shown:
        shown.until(r"waiting for \S+: the port is unreachable: no program listens there")


def test_failed_dial_tells_its_reason_once_and_is_quiet_in_a_pipe() -> None:
    with black_hole() as address:
        done = ended("dial", "--timeout", 1.5, address)
    shown, errors = done.stdout.decode(), done.stderr.decode()
    assert re.search(r"(?m)^attempt +\S+ at .* failed after [1-9]\d*\.\d+ s: no answer$", shown)
    assert "waiting for" not in errors
    assert (shown + errors).count("did not answer") == 1


def test_successful_dial_shows_each_step() -> None:
    with running("listen", "--json", LOOPBACK) as listener:
        address = listener.event("listening")["address"]
        with terminal("dial", address) as shown:
            assert shown.end() == 0
        told = {each["event"]: each for each in events(finished("dial", "--json", address))}
    names = [line.split()[0] for line in shown.screen.splitlines() if line[:1].islower()]
    assert names[:4] == ["address", "attempt", "peer", "host"]
    assert "as expected" in shown.screen
    assert "no NAT between us" in shown.screen
    assert told["attempts"]["attempts"][0]["result"] == "connected"
    assert told["connected"]["peer_id"] == address.rpartition("/")[2]
    assert told["connected"]["host_key_type"] == "Ed25519"
    assert told["connected"]["cipher_suite"] in ("TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256")
    assert (told["connected"]["key_exchange"], told["connected"]["alpn"]) == ("X25519MLKEM768", "libp2p")
    assert re.search(r"(?m)^cipher +TLS_\w+, key exchange X25519MLKEM768$", shown.screen)
    shows_certificate(shown.screen, told["connected"]["certificate"])
    shows_flights(shown.screen, told["flights"])
    assert told["identify"]["nat"] == "none"
    assert told["identify"]["protocols"][0] == "/echo/1.0.0"
    assert told["identify"]["observed_address"] == told["connected"]["local_address"]
    assert told["path"]["mtu"] >= 1200


def shows_certificate(screen: str, told: dict[str, Any]) -> None:
    """That of the engine is valid from 1975 to 4096."""
    valid = "valid from 1975-01-01 00:00 to 4096-01-01 00:00 UTC"
    assert re.search(rf"(?m)^certificate ECDSA on P-256, {valid}", screen)
    assert told["key_type"] == "ECDSA on P-256"
    assert (told["not_before"], told["not_after"]) == (157_766_400, 67_090_118_400)
    assert re.fullmatch(r"([0-9a-f]{2}){16,20}", told["serial"])


def shows_flights(screen: str, told: dict[str, Any]) -> None:
    names = ["initial_sent", "first_answer", "server_hello", "handshake", "confirmed"]
    times = [told[name] for name in names]
    assert None not in times
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1]
    shown = re.search(r"(?m)^flights +(.*)", screen)
    assert shown
    steps = re.sub(r" at [\d.]+ (µs|ms|s)", "", shown[1])
    assert steps == "Initial sent, first answer, ServerHello, complete, confirmed"


async def test_flights_are_a_round_trip_apart() -> None:
    """One of 50 ms, less what a clock may show too early."""
    with running("listen", "--json", LOOPBACK) as listener:
        address = Multiaddr(listener.event("listening")["address"])
        async with Relay.to(address, "--delay", "25ms") as relay:
            shown = await trio.to_thread.run_sync(finished, "dial", "--json", relay.address)
    told = next(each for each in events(shown) if each["event"] == "flights")
    assert told["first_answer"] - told["initial_sent"] > 0.045
    assert told["confirmed"] - told["handshake"] > 0.045


def test_year_0_of_a_certificate_is_told() -> None:
    """A peer may choose any dates that X.509 can write."""
    text = certificates.told(PeerCertificate(-62_167_219_200, 253_402_300_799, "00ff", "Ed25519"))
    assert text == "Ed25519, valid from year 0 to 9999-12-31 23:59 UTC, serial 00ff"


def test_certificate_of_webtransport_is_shown() -> None:
    """It is the one of the address's hash, which is valid for two weeks at most."""

    async def serve() -> Failure:
        async with Endpoint(Identity.generate()) as far:
            listener = await far.listen(f"{LOOPBACK}/webtransport")
            assert listener.webtransport_address is not None
            serving = asyncio.create_task(listener.serve({"/other": lambda stream: stream.read()}))
            shown = await asyncio.to_thread(finished, "dial", "--json", listener.webtransport_address)
            serving.cancel()
            return 0, next(each for each in events(shown) if each["event"] == "connected")

    certificate = with_loop(serve)[1]["certificate"]
    assert certificate["key_type"] == "ECDSA on P-256"
    assert 0 < certificate["not_after"] - certificate["not_before"] <= 14 * 86_400


def test_peer_without_identify_is_a_connection() -> None:
    async def serve() -> Failure:
        async with Endpoint(Identity.generate("ecdsa")) as endpoint:
            listener = await endpoint.listen(LOOPBACK)
            serving = asyncio.create_task(listener.serve({"/other": lambda stream: stream.read()}))
            found = await asyncio.to_thread(failure, listener.address)
            serving.cancel()
            return found

    status, last = with_loop(serve)
    assert (status, last["event"]) == (0, "path")


async def _tell_nothing(stream: Stream) -> None:
    await stream.write(b"\x00")
    stream.finish()


def test_peer_that_tells_nothing_in_identify() -> None:
    async def serve() -> str:
        async with Endpoint(Identity.generate("ecdsa")) as endpoint:
            listener = await endpoint.listen(LOOPBACK)
            serving = asyncio.create_task(listener.serve({IDENTIFY: _tell_nothing}))
            found = await asyncio.to_thread(finished, "dial", listener.address)
            serving.cancel()
            return found

    shown = asyncio.run(serve())
    for name, text in [
        ("agent", "not told"),
        ("protocols", "not told"),
        ("we are", "not told for the peer: unknown whether a NAT is between us"),
    ]:
        assert re.search(f"(?m)^{name} +{text}$", shown)


def test_py_libp2p_host_tells_what_it_is() -> None:
    program = [sys.executable, str(ROOT / "examples" / "echo.py")]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as host:
        try:
            assert host.stdout is not None
            told = finished("dial", "--json", host.stdout.readline().strip())
        finally:
            host.kill()
    identified = next(each for each in events(told) if each["event"] == "identify")
    assert identified["agent"].startswith("py-libp2p/")
    assert "/ipfs/ping/1.0.0" in identified["protocols"]
    # It tells the right IP address and port, though with /tcp.
    assert identified["nat"] == "none"


async def test_translation_of_the_port_is_told() -> None:
    with running("listen", "--json", LOOPBACK) as listener:
        address = Multiaddr(listener.event("listening")["address"])
        async with Relay.to(address) as relay:
            shown = await trio.to_thread.run_sync(finished, "dial", relay.address)
            told = await trio.to_thread.run_sync(finished, "dial", "--json", relay.address)
    assert re.search(r"(?m)^we are .* for the peer: NAT between us, port changed from \d+; another", shown)
    assert next(each for each in events(told) if each["event"] == "identify")["nat"] == "port_changed"


@pytest.mark.parametrize(("options", "told"), [((), "ECN works"), (("--drop-marked", "both"), "ECN fails: ")])
async def test_path_that_drops_ecn_marks_is_told(options: tuple[str, ...], told: str) -> None:
    with running("listen", "--json", LOOPBACK) as listener:
        address = Multiaddr(listener.event("listening")["address"])
        async with Relay.to(address, *options) as relay:
            shown = await trio.to_thread.run_sync(finished, "dial", relay.address)
    assert re.search(rf"(?m)^path .* so far, {told}", shown), shown


OWN = "/ip4/192.168.1.2/udp/4001/quic-v1"


@pytest.mark.parametrize(
    ("own", "observed", "nat"),
    [
        (OWN, OWN, "none"),
        (OWN, "/ip4/192.168.1.2/tcp/4001", "none"),
        ("/ip6/2001:db8::1/udp/1/quic-v1", "/ip6/2001:db8:0:0::1/udp/1/quic-v1", "none"),
        ("/ip6zone/eth0/ip6/fe80::1/udp/1/quic-v1", "/ip6/fe80::1/udp/1/quic-v1", "none"),
        (OWN, "/ip4/203.0.113.7/udp/4001/quic-v1", "port_kept"),
        (OWN, "/ip4/203.0.113.7/udp/4002/quic-v1", "port_changed"),
        (OWN, "/ip4/192.168.1.2/udp/4002/quic-v1", "port_changed"),
        (OWN, "/ip6/64:ff9b::cb00:7107/udp/4002/quic-v1", "port_changed"),
        (OWN, "", "unknown"),
        (OWN, "/dns/example.com/udp/4001", "unknown"),
        (OWN, "/ip4/203.0.113.7", "unknown"),
        (OWN, "/ip4/203.0.113/udp/1", "unknown"),
        ("/ip4/0.0.0.0/udp/4001/quic-v1", "/ip4/192.168.1.2/udp/4001/quic-v1", "unknown"),
    ],
)
def test_observed_address_tells_of_a_nat(own: str, observed: str, nat: str) -> None:
    found = nats.between(own, observed)
    assert found.value == nat
    assert re.search("no NAT|port 4001 kept|port changed from 4001|unknown", nats.told(found, own))
