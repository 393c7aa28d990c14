"""What the pages show is true: their Python runs, their links resolve, and the reference is complete.

The blocks of a page run as one program in a process of its own, as a reader would type them one after
another. test_examples.py runs the README's.
"""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import libp2p_quic

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
"""Runs a program that may await at its top level, as the inside of a coroutine is shown on a page."""

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
running = host.run(listen_addrs=[])
await running.__aenter__()
"""
SURROUNDINGS = {
    "configuration.md": (KEY, ""),
    "errors.md": (HOST, "await running.__aexit__(None, None, None)"),
}
"""Page: what its text takes for granted before its blocks, and what ends that after them."""

ADDRESS = r"/ip4/127\.0\.0\.1/udp/[1-9]\d*/quic-v1/p2p/12D3KooW\w+"
SHOWN = {
    "errors.md": r".*127\.0\.0\.1/udp/9.*\n",
    "howto/two-transports.md": rf"(?s)(?=.*{ADDRESS}\n).*/ip4/127\.0\.0\.1/tcp/[1-9]\d*/p2p/12D3KooW\w+\n.*",
}
"""Page: what its program prints; the others print nothing."""

NEEDS_PEER = {"tutorial.md", "howto/failing-dial.md"}
"""Pages whose programs take an address: tests of their own run them."""

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
def listening(*command: str, cwd: Path) -> Iterator[str]:
    """A program that runs until the end; gives the first line that it prints."""
    with subprocess.Popen([sys.executable, *command], cwd=cwd, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.fixture
def tutorial(tmp_path: Path) -> Path:
    """A folder with the tutorial's programs, each under the name above it."""
    page = (DOCS / "tutorial.md").read_text()
    programs = dict(re.findall(r"`(\w+\.py)`:\n\n```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE))
    assert len(programs) == len(blocks("tutorial.md")), "a program of the tutorial has no name"
    for name, program in programs.items():
        (tmp_path / name).write_text(program)
    return tmp_path


def test_the_tutorials_hosts_talk(tutorial: Path) -> None:
    with listening("server.py", cwd=tutorial) as address:
        assert re.fullmatch(ADDRESS, address)
        assert finished("client.py", address, "hello", cwd=tutorial) == "HELLO\n"


def test_the_tutorials_file_arrives(tutorial: Path) -> None:
    content = bytes(range(256)) * 4000
    (tutorial / "some.file").write_bytes(content)
    with listening("files.py", "receive", cwd=tutorial) as address:
        told = finished("files.py", "send", address, "some.file", cwd=tutorial)
    assert told == f"the peer has {len(content)} bytes\n"
    assert (tutorial / "received.bin").read_bytes() == content


def test_the_tutorials_wrong_peer_is_refused(tutorial: Path) -> None:
    with listening("server.py", cwd=tutorial) as address:
        told = finished("wrong_peer.py", address, cwd=tutorial)
    assert re.fullmatch(r"PeerIdMismatchError: .*12D3KooW.*12D3KooW.*\n", told)


def test_the_program_that_debugs_a_dial_says_what_happened(tutorial: Path) -> None:
    (program,) = blocks("howto/failing-dial.md")
    with listening("server.py", cwd=tutorial) as address:
        told = finished("-c", program, address, cwd=tutorial)
    peer = address.rpartition("/")[2]
    assert told.startswith(f"connected to {peer}: ")
    assert "'rtt'" in told
    assert re.match(r"\w+Error: .*127\.0\.0\.1/udp/", finished("-c", program, address, cwd=tutorial))


@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_a_page_runs(page: str, tmp_path: Path) -> None:
    before, after = SURROUNDINGS.get(page, ("", ""))
    program = "\n".join([before, *blocks(page), after])
    shown = finished("-W", "error::SyntaxWarning", "-c", RUN, program, page, cwd=tmp_path)
    assert re.fullmatch(SHOWN.get(page, ""), shown), shown


def test_every_link_of_the_pages_leads_to_a_file() -> None:
    pages = [*ROOT.glob("*.md"), *DOCS.glob("**/*.md")]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in LINK.findall(page.read_text())
        if not (page.parent / target).exists()
    ]
    assert not broken


def test_the_reference_has_every_public_name() -> None:
    text = "".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    named = re.findall(r"^\.\. (?:auto)?(?:class|data|exception|function):: (\w+)$", text, re.MULTILINE)
    assert sorted(named) == sorted(libp2p_quic.__all__), "docs/reference and libp2p_quic.__all__ differ"
