"""The protocol of `cat`: standard input to a stream, and the stream to standard output, at the same time."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys

from libp2p_quic._command import standard_input
from libp2p_quic.asyncio.connection import cancel_all
from libp2p_quic.asyncio.stream import Stream

CAT = "/libp2p-quic/cat/1.0.0"


class InputError(Exception):
    """Standard input cannot be read. The text is the reason."""


class ByteExchange:
    """Both directions of one stream, with the number and the SHA-256 of their bytes."""

    def __init__(self, stream: Stream) -> None:
        self.sent = 0
        self.received = 0
        self._stream = stream
        self._sent_digest = hashlib.sha256()
        self._received_digest = hashlib.sha256()

    @property
    def digests(self) -> dict[str, str]:
        """The SHA-256 of each direction, in hex."""
        return {
            "sent_sha256": self._sent_digest.hexdigest(),
            "received_sha256": self._received_digest.hexdigest(),
        }

    async def run(self) -> None:
        """Exchange until both sides have finished. A person at a terminal need not finish: the peer's end
        suffices. Raises QUICError, InputError, and OSError if standard output cannot be written:
        BrokenPipeError if nobody reads it any more."""
        sending = asyncio.create_task(self._send())
        receiving = asyncio.create_task(self._receive())
        try:
            pending = {sending, receiving}
            while pending and not (receiving.done() and standard_input.is_terminal()):
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for each in done:
                    each.result()
        finally:
            await cancel_all({sending, receiving})
        self._stream.finish()

    async def _send(self) -> None:
        while data := await self._read():
            await self._stream.write(data)
            self._sent_digest.update(data)
            self.sent += len(data)
        self._stream.finish()

    async def _read(self) -> bytes:
        try:
            return await standard_input.read()
        except OSError as error:
            raise InputError(error.strerror or str(error)) from error

    async def _receive(self) -> None:
        while data := await self._stream.read():
            self._received_digest.update(data)
            self.received += len(data)
            view, target = memoryview(data), sys.stdout.fileno()
            # It blocks while nobody reads a pipe, and the peer then waits, too. Standard output is not set to
            # non-blocking, since other programs may write to the same pipe.
            while view:
                view = view[os.write(target, view) :]
