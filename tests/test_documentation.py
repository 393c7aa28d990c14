"""The pages are right: their Python programs run, their links resolve, and the reference is complete.

The blocks of a page run as one program in a process of its own, in the order in which a reader would type
them. test_examples.py runs the README's.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import signal
import subprocess
import sys
import textwrap
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import pytest
from libp2p.relay.circuit_v2 import protocol, transport

import libp2p_quic
import libp2p_quic.asyncio
from libp2p_quic import metrics
from libp2p_quic.asyncio import Endpoint, Identity, Stream
from testkit.names import free_port
from testkit.reset_stream import reset_by_a_peer
from tools import reference_pages
from tools.nat.network import RELAY, ROUTERS, Home, missing, town

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^( *)```python\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:|#)([^)\s#]+)")

RUN = """
import ast, inspect, sys, trio
source, *sys.argv = sys.argv[1:]
code = compile(source, sys.argv[0], "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
names = {"__name__": "__main__"}
async def main():
    await eval(code, names)
trio.run(main) if code.co_flags & inspect.CO_COROUTINE else exec(code, names)
"""
"""Runs a program that may await at its top level, because pages show the body of a coroutine."""

KEY = """
from libp2p.crypto.ed25519 import create_new_key_pair
key_pair = create_new_key_pair()
"""
HOST = f"""{KEY}
from libp2p import new_host
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p_quic import QUICTransport
from multiaddr import Multiaddr
host = new_host(key_pair=key_pair, transports=[QUICTransport(key_pair.private_key)])
peer = PeerInfo(ID.from_pubkey(create_new_key_pair().public_key), [Multiaddr("/ip4/127.0.0.1/udp/9/quic-v1")])
address, transport = peer.addrs[0], QUICTransport(key_pair.private_key)
running = host.run(listen_addrs=[])
await running.__aenter__()
"""
SURROUNDINGS = {
    "configuration.md": (KEY, ""),
    "errors.md": (HOST, "await transport.close()\nawait running.__aexit__(None, None, None)"),
    "metrics.md": (
        f"{KEY}import libp2p_quic\ntransport, PORT = libp2p_quic.QUICTransport(key_pair.private_key), 0",
        "server.shutdown(); server.server_close(); thread.join()",
    ),
}
"""Page: the setup that its text assumes, and the teardown."""

ADDRESS = r"/ip4/127\.0\.0\.1/udp/[1-9]\d*/quic-v1/p2p/12D3KooW\w+"
SHOWN = {
    "errors.md": r".*/udp/9/.* did not answer .*\n.*/udp/9/.*: canceled by this program: the peer did .*\n",
    "howto/two-transports.md": rf"(?s)(?=.*{ADDRESS}\n).*/ip4/127\.0\.0\.1/tcp/[1-9]\d*/p2p/12D3KooW\w+\n.*",
}
"""Page: the output of its program; the others print nothing."""

NEEDS_PEER = {
    "asyncio.md",
    "tutorial.md",
    "howto/behind-a-nat.md",
    "howto/browsers.md",
    "howto/failing-dial.md",
    "howto/stay-connected.md",
    "howto/watch-a-host.md",
}
"""Pages whose programs take an address or a signal; separate tests run them."""

PAGES = sorted(
    name
    for path in DOCS.glob("**/*.md")
    if (name := path.relative_to(DOCS).as_posix()) not in NEEDS_PEER and BLOCK.search(path.read_text())
)


def blocks(page: str) -> list[str]:
    return [textwrap.dedent(body) for _, body in BLOCK.findall((DOCS / page).read_text())]


def finished(*command: str, cwd: Path, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


@contextmanager
def running(*command: str, cwd: Path) -> Iterator[IO[str]]:
    """Run a program until the end of the block; yields what it prints."""
    with subprocess.Popen([sys.executable, *command], cwd=cwd, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout
        finally:
            process.kill()


@contextmanager
def listening(*command: str, cwd: Path) -> Iterator[str]:
    """Run a program until the end of the block; yields its first line."""
    with running(*command, cwd=cwd) as lines:
        yield lines.readline().strip()


def programs_of(page: str, folder: Path) -> dict[str, str]:
    """Write the programs of a page into the folder, each under the name above it."""
    text = (DOCS / page).read_text()
    programs = dict(re.findall(r"`(\w+\.py)`:\n\n```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    for name, program in programs.items():
        (folder / name).write_text(program)
    return programs


@pytest.fixture
def tutorial(tmp_path: Path) -> Path:
    """A folder with the tutorial's programs."""
    programs = programs_of("tutorial.md", tmp_path)
    assert len(programs) == len(blocks("tutorial.md")), "a program of the tutorial has no name"
    return tmp_path


def test_the_hosts_of_the_tutorial_exchange_a_message(tutorial: Path) -> None:
    with listening("server.py", cwd=tutorial) as address:
        assert re.fullmatch(ADDRESS, address)
        assert finished("client.py", address, "hello", cwd=tutorial) == "HELLO\n"


def test_the_tutorials_identity_is_kept_and_private(tutorial: Path) -> None:
    first = finished("identity.py", cwd=tutorial)
    assert re.fullmatch(r"12D3KooW\w+\n", first)
    assert finished("identity.py", cwd=tutorial) == first
    assert (tutorial / "host.key").stat().st_mode & 0o777 == 0o600


def test_the_tutorials_file_arrives(tutorial: Path) -> None:
    content = bytes(range(256)) * 4000
    (tutorial / "some.file").write_bytes(content)
    with listening("files.py", "receive", cwd=tutorial) as address:
        output = finished("files.py", "send", address, "some.file", cwd=tutorial)
    assert output == f"the peer has {len(content)} bytes\n"
    assert (tutorial / "received.bin").read_bytes() == content


def test_a_stream_that_breaks_does_not_end_the_tutorials_hosts(tutorial: Path) -> None:
    broken = r"stream \S+: reset by the peer with code 0x7\n"
    with running("server.py", cwd=tutorial) as lines:
        address = next(lines).strip()
        reset_by_a_peer(address, "/tutorial/upper/1.0.0")
        assert re.fullmatch(f"a stream broke: {broken}", next(lines))
        assert finished("client.py", address, "hello", cwd=tutorial) == "HELLO\n"
    with running("files.py", "receive", cwd=tutorial) as lines:
        address = next(lines).strip()
        reset_by_a_peer(address, "/tutorial/file/1.0.0")
        assert re.fullmatch(rf"\d bytes of an incomplete file: {broken}", next(lines))
        (tutorial / "some.file").write_bytes(b"whole")
        sent = finished("files.py", "send", address, "some.file", cwd=tutorial)
        assert sent == "the peer has 5 bytes\n"


def test_the_tutorials_client_tells_of_an_incomplete_answer(tutorial: Path) -> None:
    async def reset(stream: Stream) -> None:
        await stream.read(1)
        stream.reset(7)

    async def main() -> str:
        async with Endpoint(Identity.generate()) as endpoint:
            listener = await endpoint.listen("/ip4/127.0.0.1/udp/0/quic-v1")
            serving = asyncio.create_task(listener.serve({"/tutorial/upper/1.0.0": reset}))
            address = f"{listener.address}/p2p/{endpoint.peer_id}"
            told = await asyncio.to_thread(finished, "client.py", address, "hello", cwd=tutorial)
            serving.cancel()
            return told

    told = asyncio.run(main())
    assert re.fullmatch(
        r"0 bytes of an incomplete answer: stream \S+: reset by the peer with code 0x7\n", told
    )


def test_the_tutorials_limit_of_a_dial_is_explained(tutorial: Path) -> None:
    address = f"/ip4/127.0.0.1/udp/{free_port()}/quic-v1/p2p/{Identity.generate().peer_id}"
    told = finished("limited.py", address, cwd=tutorial)
    assert told.startswith(f"failed to dial {address}: canceled by this program: the peer did not answer")
    assert "ECONNREFUSED" in told


def test_the_tutorials_wrong_peer_is_refused(tutorial: Path) -> None:
    with listening("server.py", cwd=tutorial) as address:
        output = finished("wrong_peer.py", address, cwd=tutorial)
    assert re.fullmatch(r"PeerIdMismatchError: .*12D3KooW.*12D3KooW.*\n", output)


def test_the_program_that_debugs_a_dial_reports_each_outcome(tutorial: Path) -> None:
    (program,) = blocks("howto/failing-dial.md")
    with listening("server.py", cwd=tutorial) as address:
        output = finished("-c", program, address, cwd=tutorial)
    peer = address.rpartition("/")[2]
    assert output.startswith(f"connected to {peer}: ")
    assert "rtt=" in output
    assert re.match(r"\w+Error: .*127\.0\.0\.1/udp/", finished("-c", program, address, cwd=tutorial))


def test_the_program_that_watches_a_host_prints_its_counters(tmp_path: Path) -> None:
    programs_of("howto/watch-a-host.md", tmp_path)
    output = finished("watch.py", cwd=tmp_path)
    shown = (
        r"/ip4/127\.0\.0\.1/udp/[1-9]\d*/quic-v1 \{'connections_.*\n"
        r"12D3KooW\w+ ConnectionStatistics\(rtt=.*\n"
        r"EndpointStatistics\(connections_open=1, .*accepted_ip4=1, .*\n"
        r"ProcessStatistics\(endpoints=.*\n"
    )
    assert re.fullmatch(shown, output)


def test_the_node_with_metrics_is_scraped(tmp_path: Path) -> None:
    programs_of("howto/watch-a-host.md", tmp_path)
    command = [sys.executable, "node.py"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as node:
        try:
            assert node.stdout is not None
            assert re.fullmatch(ADDRESS, node.stdout.readline().strip())
            with urllib.request.urlopen(node.stdout.readline().strip(), timeout=60) as answer:
                assert b"\nlibp2p_quic_connections_open 0.0\n" in answer.read()
        finally:
            node.kill()


def test_the_node_in_the_browsers_reach_answers(tmp_path: Path) -> None:
    program = programs_of("howto/browsers.md", tmp_path)["node.py"]
    (tmp_path / "node.py").write_text(program.replace("/udp/4001/", "/udp/0/"))

    async def ask(address: str) -> bytes:
        async with Endpoint(Identity.generate()) as page:
            connection = await page.connect(address)
            stream = await connection.open_stream("/example/capitals/1.0.0")
            await stream.write("grüß dich".encode())
            stream.finish()
            return await stream.read_to_end()

    hashes = set()
    for _ in range(2):
        with listening("node.py", cwd=tmp_path) as address:
            assert asyncio.run(ask(address)).decode() == "GRÜSS DICH"
            hashes.add(address.partition("/webtransport")[2])
    assert len(hashes) == 1
    assert (tmp_path / "node.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_host_without_a_traceback(tmp_path: Path, number: signal.Signals) -> None:
    programs_of("howto/watch-a-host.md", tmp_path)
    command = [sys.executable, "end.py"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert re.fullmatch(ADDRESS, running.stdout.readline().strip())
        running.send_signal(number)
        _, complaints = running.communicate(timeout=100)
    assert (running.returncode, complaints) == (0, "")


def test_the_line_that_enables_hole_punching_runs(tmp_path: Path) -> None:
    assert finished("-c", blocks("howto/behind-a-nat.md")[0], cwd=tmp_path) == ""


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
@pytest.mark.slow
def test_the_programs_behind_nats_get_a_direct_connection(tmp_path: Path) -> None:
    """Each program of the page in a network of its own, with the commands of the page."""
    assert list(programs_of("howto/behind-a-nat.md", tmp_path)) == ["relay.py", "home.py", "dial.py"]
    with ExitStack() as stack:
        where = stack.enter_context(town(("drop", "drop")))

        def started(home: Home, program: str, *arguments: str) -> IO[str]:
            command = home.machine.command([sys.executable, program, *arguments])
            running = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
            stack.callback(running.wait)
            stack.callback(running.kill)
            assert running.stdout is not None
            return stack.enter_context(running.stdout)

        public = rf"/ip4/{re.escape(RELAY)}/udp/4001/quic-v1/p2p/12D3KooW\w+\n"
        addresses = started(where.relay, "relay.py")
        relay = next(line for line in addresses if re.fullmatch(public, line)).strip()
        peer = started(where.homes[0], "home.py", relay).readline().strip()
        assert re.fullmatch(r"12D3KooW\w+", peer)
        shown = started(where.homes[1], "dial.py", relay, peer).read().splitlines()
    assert shown[0] == f"/p2p/{relay.rpartition('/')[2]}/p2p-circuit/p2p/{peer}"
    # Without the peer id if the other home dialed; one line for each, if both did at the same time.
    assert set(shown[1:-1]) <= {(outer := f"/ip4/{ROUTERS[0]}/udp/4001/quic-v1"), f"{outer}/p2p/{peer}"}
    assert len(shown) > 2
    assert re.fullmatch(r"\[\d+\] ms", shown[-1])


@pytest.fixture
def asyncio_page(tmp_path: Path) -> Path:
    programs = programs_of("asyncio.md", tmp_path)
    # The last block is a function to paste.
    assert len(programs) == len(blocks("asyncio.md")) - 1
    return tmp_path


def test_the_asyncio_pages_ping_is_answered(asyncio_page: Path) -> None:
    with listening("ping_server.py", cwd=asyncio_page) as address:
        assert re.fullmatch(ADDRESS, address)
        told = finished("ping.py", address, cwd=asyncio_page)
        assert re.fullmatch(r"12D3KooW\w+ answered in [\d.]+ ms\n", told)


def test_the_asyncio_pages_file_arrives(asyncio_page: Path) -> None:
    content = bytes(range(256)) * 4000
    (asyncio_page / "some.file").write_bytes(content)
    with listening("transfer.py", "receive", cwd=asyncio_page) as address:
        command = [sys.executable, "transfer.py", "send", address, "some.file"]
        sent = subprocess.run(
            command, cwd=asyncio_page, capture_output=True, text=True, timeout=100, check=True
        )
    assert sent.stdout == f"the peer has {len(content)} bytes\n"
    shown = [int(each) for each in re.findall(r"(\d+) %", sent.stderr)]
    assert shown == sorted(shown)
    assert (len(shown), shown[-1]) == (-(-len(content) // 65_536), 100)
    assert (asyncio_page / "received.bin").read_bytes() == content


def test_the_asyncio_pages_requests_and_shutdown(asyncio_page: Path) -> None:
    command = [sys.executable, "upper.py", "serve"]
    with subprocess.Popen(command, cwd=asyncio_page, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        assert finished("upper.py", "request", address, "hello", cwd=asyncio_page) == "HELLO\n"
        server.send_signal(signal.SIGTERM)
        assert server.stdout.read() == "stopped\n"
    assert server.returncode == 0


def test_the_asyncio_pages_function_watches_a_connection(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    exec(blocks("asyncio.md")[-1], names)
    watch = names["watch"]
    assert callable(watch)

    async def closed() -> SimpleNamespace:
        return SimpleNamespace(by="peer", kind="closed", error_code=0, reason="bye")

    asyncio.run(watch(SimpleNamespace(closed=closed)))
    assert capsys.readouterr().out == "peer closed 0 bye\n"


@pytest.mark.parametrize("program", ["stay.py", "stay_asyncio.py"])
def test_the_programs_that_stay_connected_outlast_a_restart(tmp_path: Path, program: str) -> None:
    written = programs_of("howto/stay-connected.md", tmp_path)
    assert len(written) == len(blocks("howto/stay-connected.md"))
    identity, where = Identity.generate(), f"/ip4/127.0.0.1/udp/{free_port()}/quic-v1"

    async def pong(stream: Stream) -> None:
        while data := await stream.read(32):
            await stream.write(data)

    async def peer(lines: IO[str]) -> None:
        async def told(start: str) -> None:
            while not (await asyncio.to_thread(lines.readline)).startswith(start):
                pass

        async with Endpoint(identity) as endpoint:
            endpoint.deny_addresses(["127.0.0.1"])
            serving = asyncio.create_task((await endpoint.listen(where)).serve({"/ipfs/ping/1.0.0": pong}))
            await told("not connected: failed to dial")
            endpoint.deny_addresses([])
            await told("connected")
            serving.cancel()

    with running(program, f"{where}/p2p/{identity.peer_id}", cwd=tmp_path) as lines:
        for _ in range(2):
            asyncio.run(asyncio.wait_for(peer(lines), 50))
            assert re.match("not connected: .", lines.readline())


@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_a_page_runs(page: str, tmp_path: Path) -> None:
    before, after = SURROUNDINGS.get(page, ("", ""))
    program = "\n".join([before, *blocks(page), after])
    shown = finished("-W", "error::SyntaxWarning", "-c", RUN, program, page, cwd=tmp_path)
    assert re.fullmatch(SHOWN.get(page, ""), shown), shown


def test_py_libp2p_has_the_lines_of_its_relay_that_the_page_explains() -> None:
    page = (DOCS / "logging.md").read_text()
    rows = re.findall(r"^\| (`.*?) \| ([PT]), ", page, re.MULTILINE)
    sources = {"P": inspect.getsource(protocol), "T": inspect.getsource(transport)}
    told = [(text, sources[module]) for row, module in rows for text in re.findall("`(.+?)`", row)]
    assert len(told) > 12
    assert [text for text, source in told if text not in source] == []


def test_every_link_of_the_pages_leads_to_a_file() -> None:
    pages = [*ROOT.glob("*.md"), *DOCS.glob("**/*.md")]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in LINK.findall(page.read_text())
        if not (page.parent / target).exists()
    ]
    assert not broken


@pytest.mark.parametrize("page", reference_pages.PAGES, ids=lambda page: page.file)
def test_the_reference_is_made_of_the_docstrings(page: reference_pages.Page) -> None:
    expected = reference_pages.page_text(page)
    written = (reference_pages.FOLDER / page.file).read_text()
    assert written == expected, "run: python -m tools.reference_pages"


def test_the_reference_has_every_public_name() -> None:
    names = {page.file: page.names for page in reference_pages.PAGES}
    assert sorted(names["asyncio.md"]) == sorted(libp2p_quic.asyncio.__all__)
    assert sorted(names["metrics.md"]) == sorted(metrics.__all__)
    ours = sorted(names["api.md"] + names["exceptions.md"])
    # The module of the exceptions has a page, not an entry.
    assert ours == sorted(set(libp2p_quic.__all__) - {"exceptions"})


def test_a_member_of_a_class_is_in_the_reference_with_its_signature() -> None:
    api = (reference_pages.FOLDER / "api.md").read_text()
    dial = api.index("```py\nasync dial(maddr: Multiaddr) -> QUICConnection\n```\n\nDial `maddr`.")
    assert api.index("\n### QUICTransport\n") < dial < api.index("\n### QUICTransportConfig\n")
    assert "enable_autotls: bool = False," in api
    asyncio_part = (reference_pages.FOLDER / "asyncio.md").read_text()
    assert "```py\nasync open_stream(*protocols: str) -> Stream\n```" in asyncio_part
    assert "accept_any" not in asyncio_part
