"""`libp2p-quic send`: a file to a peer that runs `receive`, from where it broke off, with its checksum."""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import replace
from pathlib import Path
from typing import IO

import click

from libp2p_quic._command import file_name
from libp2p_quic._command.connecting import connected, failure
from libp2p_quic._command.explanation import Explanation
from libp2p_quic._command.file_protocol import FILE, FileProtocolError, RefusedError, Sender
from libp2p_quic._command.interruption import Interruption, run
from libp2p_quic._command.options import (
    address_argument,
    identity_of,
    key_option,
    timeout_option,
)
from libp2p_quic._command.output import (
    INTERRUPTED,
    CommandFailedError,
    Output,
    UnusableArgumentError,
    json_option,
)
from libp2p_quic._command.quantity import size
from libp2p_quic._command.system import open_readable
from libp2p_quic._command.transfer_progress import TransferProgress
from libp2p_quic._exception_types import ProtocolNotSupportedError, QUICError
from libp2p_quic.asyncio.address import Address
from libp2p_quic.asyncio.connection import Connection

_AGAIN = "run the same command again: it goes on where this one stopped"


@click.command(
    epilog="""
\b
Examples:
  libp2p-quic send backup.tar /ip4/192.0.2.1/udp/4001/quic-v1/p2p/12D3KooW...
  libp2p-quic send --key node.key --name today.log /var/log/syslog ADDR
"""
)
@click.argument("file", type=click.Path())
@address_argument
@click.option("--name", metavar="NAME", help="The name that the receiver gets. Default: that of FILE.")
@key_option
@timeout_option
@json_option
def send(
    file: str, address: Address, name: str | None, key_file: str | None, timeout: float, is_json: bool
) -> None:
    """Send FILE to ADDR, which `libp2p-quic receive` prints.

    The receiver accepts the peer id that this command prints; --key keeps it between runs. After a broken
    transfer the same command sends the rest. Both sides compare the SHA-256 of the whole file at the end.
    Exit status 1 if the receiver refuses, or the transfer breaks off.
    """
    output = Output(is_json)
    identity = identity_of(key_file, output)
    offered = Path(file).name if name is None else name
    if (why := file_name.objection(offered)) is not None:
        explanation = Explanation(
            "name", f"{offered!r} cannot be sent: {why}", "give another name: --name NAME"
        )
        raise UnusableArgumentError(explanation, is_json)

    async def command(interruption: Interruption) -> bool:
        opened, total = _opened(file, output)
        with opened:
            async with connected(address, identity, timeout, output) as connection:
                peer = str(connection.peer_id)
                output.note(f"we are {identity.peer_id}: the receiver may have to accept this peer")
                output.event("connected", peer_id=peer, own_peer_id=str(identity.peer_id))
                sending = _Sending(connection, opened, offered, total, output)
                return await interruption.measured(sending.run())

    if run(command):
        sys.exit(INTERRUPTED)


def _opened(file: str, output: Output) -> tuple[IO[bytes], int]:
    """A regular file and its size. Ends the command for anything else."""
    try:
        descriptor = open_readable(file)
    except OSError as error:
        text = f"cannot read {file}: {error.strerror or error}"
        raise UnusableArgumentError(
            Explanation("file", text, "check the path and its permissions"), output.is_json
        ) from error
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode):
        return os.fdopen(descriptor, "rb"), found.st_size
    os.close(descriptor)
    is_folder = stat.S_ISDIR(found.st_mode)
    kind, command = ("a folder", f"tar c {file}") if is_folder else ("no regular file", f"cat {file}")
    step = f"send its bytes: {command} | libp2p-quic cat ADDR"
    raise UnusableArgumentError(Explanation("file", f"{file} is {kind}", step), output.is_json)


class _Sending:
    """One file on its way."""

    def __init__(
        self, connection: Connection, file: IO[bytes], name: str, total: int, output: Output
    ) -> None:
        self._connection = connection
        self._file = file
        self._name = name
        self._size = total
        self._output = output

    async def run(self) -> None:
        """Send it. Ends the command with an explanation if that fails."""
        try:
            async with await self._connection.open_stream(FILE) as stream:
                sender = Sender(stream, self._file, self._name, self._size)
                start = await sender.offer()
                self._output.event("accepted", name=self._name, size=self._size, offset=start)
                await self._send(sender, start)
        except RefusedError as error:
            text = f"the receiver does not take {self._name}: {_shown(error)}"
            step = "ask the person who receives, or send it under another name: --name NAME"
            raise CommandFailedError(Explanation("refused", text, step), self._output.is_json) from None
        except ProtocolNotSupportedError as error:
            step = "the peer has to run: libp2p-quic receive"
            raise CommandFailedError(
                Explanation("protocol", str(error), step), self._output.is_json
            ) from error
        except FileProtocolError as error:
            raise CommandFailedError(
                Explanation("answer", str(error), _AGAIN), self._output.is_json
            ) from None
        except OSError as error:
            text = f"cannot read {self._name}: {error.strerror or error}"
            raise CommandFailedError(
                Explanation("file", text, "check the disk"), self._output.is_json
            ) from error

    async def _send(self, sender: Sender, start: int) -> None:
        is_stored = False
        with TransferProgress(self._output, self._name, self._size, start) as progress:
            try:
                digest = await sender.send(progress.count)
                is_stored = True
            except QUICError as error:
                ended = await failure(self._connection, error, self._output)
                ended.explanation = replace(ended.explanation, next_step=_AGAIN)
                raise ended from error
            finally:
                facts = progress.facts()
                if not is_stored:
                    done = f"{size(progress.position)} of {size(self._size)}"
                    self._output.text(f"broken off after {done} ({progress.told()})")
                    self._output.event("broken", name=self._name, **facts)
        self._output.text(f"sent {self._name}: {progress.told()}")
        self._output.text(f"sha256 {digest}")
        self._output.event("sent", name=self._name, sha256=digest, **facts)


def _shown(error: Exception) -> str:
    """A peer's text that cannot move the cursor of a terminal."""
    text = str(error)[:200]
    return text if text.isprintable() else repr(text)
