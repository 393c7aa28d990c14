"""Pictures of the screens of `libp2p-quic`, of real runs in a pseudo-terminal, for docs/howto.

``python -m tools.screens`` makes all of them, and with names those only. Each scene below runs the command
with a real peer, and takes the screen when it shows what the page tells.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.text import Text

from testkit.asyncio_ends import LOOPBACK
from testkit.command import Terminal, conversation, ended, finished, running, terminal
from testkit.screen import Screen
from testkit.unwilling import black_hole, dead_port

FOLDER = Path(__file__).parent.parent / "docs" / "howto" / "screens"
COLUMNS = 100

# rich's pictures load a font from elsewhere, which a page of documentation must not do.
_FONT = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)


def picture(command: str, raw: str) -> str:
    """An SVG of the screen after ``raw``, below the command that wrote it."""
    screen = Screen()
    screen.feed(f"\x1b[32m$ \x1b[0m\x1b[1m{command}\x1b[0m\n\r")
    screen.feed(raw)
    lines = screen.styled_lines(COLUMNS)
    while lines and not Text.from_ansi(lines[-1]).plain:
        lines.pop()
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True)
    for line in lines:
        console.print(Text.from_ansi(line), no_wrap=True, overflow="ignore", crop=False)
    # rich would name the styles by a hash of the text.
    made = _FONT.sub("", console.export_svg(title="libp2p-quic", unique_id="screen"))
    return "\n".join(line.rstrip() for line in made.splitlines()) + "\n"


@contextmanager
def listener(*options: object) -> Iterator[str]:
    """The address of a peer that serves everything."""
    with running("listen", "--json", *options, LOOPBACK) as process:
        yield process.event("listening")["address"]


def _ended(shown: Terminal) -> str:
    shown.end()
    return shown.raw


def dial() -> tuple[str, str]:
    """A dial that succeeds."""
    with listener() as address, terminal("dial", address) as shown:
        return f"libp2p-quic dial {address}", _ended(shown)


def dial_silent() -> tuple[str, str]:
    """A dial that nobody answers."""
    with black_hole() as address, terminal("dial", "--timeout", 3, address) as shown:
        return f"libp2p-quic dial --timeout 3 {address}", _ended(shown)


def dial_closed() -> tuple[str, str]:
    """A dial to a port on which no program listens."""
    address = dead_port()
    with terminal("dial", "--timeout", 3, address) as shown:
        return f"libp2p-quic dial --timeout 3 {address}", _ended(shown)


def ping() -> tuple[str, str]:
    """Five rounds."""
    with listener() as address, terminal("ping", "-c", 5, "-i", 0.2, address) as shown:
        return f"libp2p-quic ping -c 5 -i 0.2 {address}", _ended(shown)


def perf() -> tuple[str, str]:
    """In the middle of a measurement."""
    with listener() as address, terminal("perf", address) as shown:
        shown.until(r"\b[3-9]\.\d s .*window ")
        return f"libp2p-quic perf {address}", shown.raw


def listen() -> tuple[str, str]:
    """A listener with its QR code, one connection and one that is over."""
    with terminal("listen", LOOPBACK) as shown:
        address = shown.until(r"(/ip4/\S+/p2p/12D3KooW\w+)\n")[1]
        finished("ping", "-c", 1, address)
        with running("perf", "--direction", "both", "--seconds", 60, address):
            # The screen is read all the time: the listener waits for its terminal.
            shown.until(r"…\w{8} .*(?:\d{3} MiB|GiB) .* open ")
            return f"libp2p-quic listen {LOOPBACK}", shown.raw


@contextmanager
def _folders() -> Iterator[tuple[Path, Path]]:
    """The folder of a sender, with a file of 1 GiB, and that of a receiver."""
    with TemporaryDirectory() as folder:
        near, far = Path(folder) / "near", Path(folder) / "far"
        near.mkdir()
        far.mkdir()
        with (near / "backup.tar").open("wb") as sparse:
            sparse.truncate(1 << 30)
        yield near, far


def receive() -> tuple[str, str]:
    """A receiver that was asked and has its file."""
    with _folders() as (near, far), terminal("receive", "--listen", LOOPBACK, cwd=far) as shown:
        address = shown.until(r"send FILE (\S+)")[1]
        with running("send", "backup.tar", address, cwd=near):
            shown.until(r"\[y/N\] ")
            shown.press("y\n")
            return f"libp2p-quic receive --listen {LOOPBACK}", _ended(shown)


def send() -> tuple[str, str]:
    """In the middle of a transfer."""
    with _folders() as (near, far), running("receive", "--json", "--yes", cwd=far) as receiver:
        address = receiver.event("listening")["address"]
        with terminal("send", "backup.tar", address, cwd=near) as shown:
            shown.until(r" [4-9]\d% of ")
            return f"libp2p-quic send backup.tar {address}", shown.raw


def cat() -> tuple[str, str]:
    """The listening side of a conversation."""
    with conversation() as (shown, other):
        other.press("Did the file arrive?\n")
        shown.until("arrive")
        shown.press("Yes.\n")
        other.until("Yes")
        other.press("\x04")
        return f"libp2p-quic cat --listen {LOOPBACK}", _ended(shown)


def trace() -> tuple[str, str]:
    """The dialer's qlog of a measurement."""
    with TemporaryDirectory() as folder:
        with listener() as address:
            ended("perf", "--seconds", 1, address, env={"QLOGDIR": folder})
        (file,) = Path(folder).glob("*_client.sqlog")
        with terminal("trace", file.name, cwd=Path(folder)) as shown:
            return f"libp2p-quic trace {file.name}", _ended(shown)


def identity() -> tuple[str, str]:
    """A new key, and what it is."""
    with TemporaryDirectory() as folder:
        finished("identity", "make", "node.key", cwd=Path(folder))
        with terminal("identity", "show", "node.key", cwd=Path(folder)) as shown:
            return "libp2p-quic identity show node.key", _ended(shown)


SCENES: dict[str, Callable[[], tuple[str, str]]] = {
    "cat": cat,
    "dial": dial,
    "dial-silent": dial_silent,
    "dial-closed": dial_closed,
    "identity": identity,
    "listen": listen,
    "perf": perf,
    "ping": ping,
    "receive": receive,
    "send": send,
    "trace": trace,
}


def main(names: list[str]) -> None:
    FOLDER.mkdir(exist_ok=True)
    for name in names or SCENES:
        (FOLDER / f"{name}.svg").write_text(picture(*SCENES[name]()))
        print(FOLDER / f"{name}.svg")


if __name__ == "__main__":
    main(sys.argv[1:])
