"""`libp2p-quic receive`: stores a file of a peer, after consent, and goes on where a transfer broke off."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import click

from libp2p_quic._command import file_name
from libp2p_quic._command.consent import Consent, consent_options
from libp2p_quic._command.explanation import Explanation
from libp2p_quic._command.file_protocol import FILE, FileProtocolError, Offer, Receiver
from libp2p_quic._command.interruption import Interruption, run
from libp2p_quic._command.listening import (
    PeerGate,
    addresses_option,
    announce,
    opened,
    peer_gate,
    reached_at,
    serve_until,
)
from libp2p_quic._command.options import identity_of, key_option
from libp2p_quic._command.output import (
    INTERRUPTED,
    CommandFailedError,
    Output,
    UnusableArgumentError,
    json_option,
)
from libp2p_quic._command.partial_file import PartialFile, PartialFileError
from libp2p_quic._command.quantity import parsed_size, size
from libp2p_quic._command.services import PING, handlers, ping
from libp2p_quic._command.transfer_progress import TransferProgress
from libp2p_quic._exception_types import QUICError
from libp2p_quic._identity import Identity
from libp2p_quic.asyncio.configuration import EndpointConfig
from libp2p_quic.asyncio.connection import Connection
from libp2p_quic.asyncio.endpoint import Endpoint
from libp2p_quic.asyncio.listener import Listener
from libp2p_quic.asyncio.stream import Stream

# Peers that may wait for an answer at the same time, all of them and those of one IP address.
_MOST_PEERS, _MOST_OF_ONE_ADDRESS = 16, 4
_MOST_STREAMS = 4


def _size(context: click.Context, parameter: click.Parameter, value: str) -> int:
    try:
        return parsed_size(value)
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None


@click.command(
    epilog="""
\b
Examples:
  libp2p-quic receive
  libp2p-quic receive Downloads --from 12D3KooW... --keep-open
  libp2p-quic receive --listen /ip4/0.0.0.0/udp/4001/quic-v1 --key node.key --max-size 1GiB
"""
)
@click.argument("folder", type=click.Path(), default=".")
@addresses_option
@consent_options
@click.option("-k", "--keep-open", is_flag=True, help="Receive files until Ctrl-C. Default: end after one.")
@click.option("--force", is_flag=True, help="Replace existing files of the same name.")
@click.option(
    "--max-size",
    default="64GiB",
    show_default=True,
    metavar="SIZE",
    callback=_size,
    help="Refuse larger files. The free space of the disk is a limit, too.",
)
@key_option
@json_option
def receive(
    folder: str,
    addresses: tuple[str, ...],
    admitted: tuple[str, ...],
    is_open: bool,
    keep_open: bool,
    force: bool,
    max_size: int,
    key_file: str | None,
    is_json: bool,
) -> None:
    """Wait for a file that `libp2p-quic send` sends, and store it in FOLDER (default: this one).

    Shows who offers what, and asks; with --from only that peer may send, without a question. An existing
    file is kept unless --force is given. What arrived of a broken transfer stays in a hidden file, and the
    next `send` of the same file sends the rest.
    """
    output = Output(is_json)
    identity = identity_of(key_file, output)
    if not os.path.isdir(folder):
        explanation = Explanation("file", f"{folder} is no folder", f"make it: mkdir -p {folder}")
        raise UnusableArgumentError(explanation, is_json)
    gate = peer_gate(admitted, "--from", output)
    config = EndpointConfig(
        max_connections=_MOST_PEERS,
        max_connections_per_address=_MOST_OF_ONE_ADDRESS,
        max_concurrent_streams=_MOST_STREAMS,
        gate_peer=gate,
    )
    consent = Consent(bool(admitted), is_open, output)

    async def command(interruption: Interruption) -> bool:
        async with Endpoint(identity, config) as endpoint:
            listeners = await opened(endpoint, addresses, output)
            found = announce(endpoint, listeners, output)
            output.note(f"waiting for: libp2p-quic send FILE {found[-1]}")
            receiving = _Receiving(identity, Path(folder), consent, force, max_size, keep_open, output)
            return await interruption.measured(receiving.run(listeners, gate))

    if run(command) and not keep_open:
        sys.exit(INTERRUPTED)


class _Receiving:
    """Takes files, one at a time."""

    def __init__(
        self,
        identity: Identity,
        folder: Path,
        consent: Consent,
        force: bool,
        max_size: int,
        keep_open: bool,
        output: Output,
    ) -> None:
        self._identity = identity
        self._folder = folder
        self._consent = consent
        self._force = force
        self._max_size = max_size
        self._keep_open = keep_open
        self._output = output
        self._turn = asyncio.Lock()
        self._addresses: list[str] = []
        self._end: asyncio.Future[None]

    async def run(self, listeners: Sequence[Listener], gate: PeerGate | None) -> None:
        """Receive one file, or files until canceled. Ends the command if a file cannot be stored, or the
        results cannot be written."""
        self._end = asyncio.get_running_loop().create_future()
        self._addresses = reached_at(listeners)
        await serve_until(self._end, listeners, self._serve, gate)

    async def _serve(self, connection: Connection) -> None:
        async def receive(stream: Stream) -> None:
            try:
                await self._offered(connection, Receiver(stream))
            except (FileProtocolError, QUICError) as error:
                stream.reset()
                self._output.note(f"no file of {connection.peer_id}: {error}")
            except CommandFailedError as error:
                stream.reset()
                self._end_with(error)

        served = {FILE: receive, PING: ping}
        await connection.serve(handlers(connection, self._identity.public_key, self._addresses, served))

    async def _offered(self, connection: Connection, receiver: Receiver) -> None:
        offer = await receiver.offer()
        peer = str(connection.peer_id)
        # The person is asked one question at a time.
        async with self._turn:
            facts = {"peer_id": peer, "name": offer.name, "size": offer.size}
            self._output.event("offer", **facts)
            objection = await self._objection(connection, offer)
            if connection.is_closed:
                # While the person was asked, who is told why.
                self._output.event("gone", **facts)
                return
            if objection is not None:
                self._output.text(f"refused {offer.name!r} of {peer}: {objection}")
                self._output.event("refused", **facts, reason=objection)
                await receiver.answer(objection)
                return
            try:
                with PartialFile(self._folder, offer.name) as partial:
                    await receiver.accept(offer, partial)
                    self._output.event("accepted", **facts, offset=partial.size)
                    await self._receive(receiver, offer, partial)
            except PartialFileError as error:
                await receiver.answer(str(error))
            except OSError as error:
                await self._unstored(receiver, offer, error)

    async def _objection(self, connection: Connection, offer: Offer) -> str | None:
        """Why the file is refused; None if it is welcome."""
        if self._end.done():
            return "the receiver has its file, and ends"
        if not self._consent.has_declined(connection.peer_id):
            if (reason := self._unfit(offer)) is not None:
                return reason
            if await self._consent.given(connection, f"{offer.name}, {size(offer.size)}"):
                return None
        return "the receiver declined"

    def _unfit(self, offer: Offer) -> str | None:
        """Why no person needs to be asked about a file."""
        if (wrong := file_name.objection(offer.name)) is not None:
            return wrong
        if os.path.lexists(self._folder / offer.name) and not self._force:
            return "a file of this name exists there"
        if offer.size > self._max_size:
            return f"it has {size(offer.size)}, and the receiver takes at most {size(self._max_size)}"
        if offer.size > shutil.disk_usage(self._folder).free:
            return f"it has {size(offer.size)}, and the receiver's disk has less"
        return None

    async def _receive(self, receiver: Receiver, offer: Offer, partial: PartialFile) -> None:
        with TransferProgress(self._output, offer.name, offer.size, partial.size) as progress:
            try:
                is_right = await receiver.receive(offer, partial, progress.count)
            except (FileProtocolError, QUICError, OSError, asyncio.CancelledError) as error:
                self._broken(offer, progress, error)
                raise
            told, facts = progress.told(), progress.facts()
        if not is_right:
            partial.restart()
            reason = "the checksum of what arrived differs: the file was changed while it was sent"
            with suppress(QUICError):
                await receiver.answer(reason)
            self._fail(Explanation("checksum", f"{offer.name}: {reason}", "send it again"))
            return
        partial.complete(self._force)
        digest = partial.digest.hexdigest()
        unwritten: CommandFailedError | None = None
        try:
            self._output.text(f"received {partial.target}: {told}")
            self._output.text(f"sha256 {digest}")
            self._output.event("received", name=offer.name, path=str(partial.target), sha256=digest, **facts)
        except CommandFailedError as error:
            # The file is stored all the same, which the sender must learn.
            unwritten = error
        with suppress(QUICError):
            # The sender may have left after the last byte.
            await receiver.answer(None)
        if unwritten is not None:
            self._end_with(unwritten)
        elif not self._keep_open and not self._end.done():
            self._end.set_result(None)

    def _broken(self, offer: Offer, progress: TransferProgress, error: BaseException) -> None:
        reason = str(error) or "interrupted"
        done = f"{size(progress.position)} of {size(offer.size)}"
        self._output.text(f"{offer.name} broke off after {done}: {reason}")
        self._output.event("broken", name=offer.name, reason=reason, **progress.facts())
        self._output.note("the same `send` sends the rest, also to a `receive` that is started later")

    async def _unstored(self, receiver: Receiver, offer: Offer, error: OSError) -> None:
        text = f"cannot store {offer.name}: {error.strerror or error}"
        try:
            await receiver.answer("the receiver cannot store it")
        finally:
            self._fail(Explanation("file", text, f"check {self._folder}, and send the file again"))

    def _fail(self, failure: Explanation) -> None:
        """End the command, unless it is to stay open: a sender must not be able to stop it."""
        if self._keep_open:
            self._output.warning(failure.text)
            self._output.event("failed", cause=failure.cause, text=failure.text)
        else:
            self._end_with(CommandFailedError(failure, self._output.is_json))

    def _end_with(self, error: CommandFailedError) -> None:
        if not self._end.done():
            self._end.set_exception(error)
