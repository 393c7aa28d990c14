"""The protocol of `send` and `receive`: both sides of one stream, which carries one file.

A message is a JSON object after its length, two bytes in big-endian order; docs/howto/command-line.md has the
messages. Nothing that the peer claims is believed: sizes are checked here, names by the caller.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import IO, Any, TypeVar

from libp2p_quic._command.partial_file import PartialFile
from libp2p_quic._exception_types import QUICError, StreamError, StreamReset
from libp2p_quic.asyncio.stream import Stream

T = TypeVar("T")

FILE = "/libp2p-quic/file/1.0.0"

_LONGEST_MESSAGE = 4096
# A larger file has no size that programs agree on.
_LARGEST = (1 << 63) - 1
_BLOCK = 256 * 1024
_DIGEST_SIZE = 32
# The longest time without a byte from the sender. A disk that wakes up takes seconds. Seconds.
STALL = 60.0
# How fast any disk is read, to bound the time in which the sender compares what the receiver has.
# Bytes in a second.
_SLOWEST_DISK = 20e6


class FileProtocolError(Exception):
    """The peer does not follow the protocol, or stopped."""


class RefusedError(Exception):
    """The receiver does not take the file. The text is its reason."""


@dataclass(frozen=True)
class Offer:
    """What a sender wants to send. ``size`` is in bytes."""

    name: str
    size: int


class Sender:
    """Sends the first ``size`` bytes of ``file``, which is at its beginning, under ``name``."""

    def __init__(self, stream: Stream, file: IO[bytes], name: str, size: int) -> None:
        self._stream = stream
        self._file = file
        self._name = name
        self._size = size
        self._digest = hashlib.sha256()

    async def offer(self) -> int:
        """Wait until the receiver accepts. Returns the number of bytes that it has already.

        Raises RefusedError, FileProtocolError and QUICError.
        """
        await _write(self._stream, name=self._name, size=self._size)
        answer = await _read(self._stream)
        if answer.get("accepted") is not True:
            raise RefusedError(_text(answer, "reason"))
        offset, digest = _count(answer, "offset"), answer.get("sha256")
        if offset and (offset > self._size or await self._hashed(offset) != digest):
            # Another file, or another version of this one.
            offset = 0
            self._file.seek(0)
            self._digest = hashlib.sha256()
        await _write(self._stream, offset=offset)
        return offset

    async def _hashed(self, size: int) -> str:
        left = size
        while left:
            block = await asyncio.to_thread(self._file.read, min(16 * _BLOCK, left))
            if not block:
                raise FileProtocolError("the file has become shorter")
            await asyncio.to_thread(self._digest.update, block)
            left -= len(block)
        return self._digest.hexdigest()

    async def send(self, count: Callable[[int], None]) -> str:
        """Send the bytes that the receiver does not have. ``count`` gets the size of each block.

        Returns the SHA-256 of the whole file, in hex, when the receiver has compared and stored it. Raises
        RefusedError, FileProtocolError, QUICError and OSError.
        """
        try:
            await self._send_rest(count)
        except StreamError as error:
            # A receiver that cannot go on says why before it stops reading, or closes the connection.
            try:
                answer = await _read(self._stream)
            except (FileProtocolError, QUICError):
                raise error from None
        else:
            answer = await _read(self._stream)
        if answer.get("stored") is not True:
            raise RefusedError(_text(answer, "reason"))
        return self._digest.hexdigest()

    async def _send_rest(self, count: Callable[[int], None]) -> None:
        left = self._size - self._file.tell()
        while left:
            block = self._file.read(min(_BLOCK, left))
            if not block:
                raise FileProtocolError("the file has become shorter while it was sent")
            self._digest.update(block)
            await self._stream.write(block)
            count(len(block))
            left -= len(block)
        await self._stream.write(self._digest.digest())
        self._stream.finish()


class Receiver:
    """Receives one file. Each method raises FileProtocolError and QUICError."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._is_late = False
        self._is_accepted = False

    async def offer(self) -> Offer:
        """What the sender offers. The name is not checked yet."""
        message = await self._before(STALL, _read(self._stream))
        return Offer(_text(message, "name"), _count(message, "size"))

    async def accept(self, offer: Offer, partial: PartialFile) -> None:
        """Take the file into ``partial``, from which the bytes that are not the sender's are dropped.

        Raises also OSError and PartialFileError.
        """
        if partial.size > offer.size:
            partial.restart()
        digest = await partial.hashed()
        await _write(self._stream, accepted=True, offset=partial.size, sha256=digest)
        self._is_accepted = True
        limit = STALL + partial.size / _SLOWEST_DISK
        offset = _count(await self._before(limit, _read(self._stream)), "offset")
        if offset not in (0, partial.size):
            raise FileProtocolError(f"the sender begins at byte {offset}, which was not agreed on")
        if offset == 0:
            partial.restart()

    async def receive(self, offer: Offer, partial: PartialFile, count: Callable[[int], None]) -> bool:
        """Read the rest of the file. Returns whether its SHA-256 is the sender's. Raises also OSError."""
        while left := offer.size - partial.size:
            data = await self._before(STALL, self._stream.read(min(_BLOCK, left)))
            if not data:
                raise FileProtocolError("the sender finished the stream before the end of the file")
            partial.append(data)
            count(len(data))
        try:
            digest = await self._before(STALL, self._stream.read_exactly(_DIGEST_SIZE))
        except asyncio.IncompleteReadError:
            raise FileProtocolError("the sender finished the stream before the checksum") from None
        return digest == partial.digest.digest()

    async def answer(self, reason: str | None) -> None:
        """Tell the sender that the file is stored, or why it is not accepted or not stored."""
        name = "stored" if self._is_accepted else "accepted"
        await _write(self._stream, **{name: reason is None, "reason": reason or ""})
        self._stream.close()

    async def _before(self, limit: float, reading: Coroutine[Any, Any, T]) -> T:
        """What ``reading`` returns, within ``limit`` seconds. `asyncio.wait_for` can lose a cancellation."""
        timer = asyncio.get_running_loop().call_later(limit, self._give_up)
        try:
            return await reading
        except StreamReset:
            if self._is_late:
                raise FileProtocolError(f"the sender sent nothing for {limit:.3g} s") from None
            raise
        finally:
            timer.cancel()

    def _give_up(self) -> None:
        self._is_late = True
        self._stream.reset()


async def _write(stream: Stream, **message: object) -> None:
    encoded = json.dumps(message).encode()
    await stream.write(len(encoded).to_bytes(2, "big") + encoded)


async def _read(stream: Stream) -> dict[str, object]:
    try:
        size = int.from_bytes(await stream.read_exactly(2), "big")
        if size > _LONGEST_MESSAGE:
            raise FileProtocolError(f"the peer sent a message of more than {_LONGEST_MESSAGE} bytes")
        message = json.loads(await stream.read_exactly(size))
    except asyncio.IncompleteReadError:
        raise FileProtocolError("the peer finished the stream before its message") from None
    except (ValueError, RecursionError):
        raise FileProtocolError("the peer sent a message that is not JSON") from None
    if not isinstance(message, dict):
        raise FileProtocolError("the peer sent a message that is no JSON object")
    return message


def _text(message: dict[str, object], name: str) -> str:
    found = message.get(name)
    # JSON can have halves of surrogate pairs, which no output can encode.
    if not isinstance(found, str) or _is_broken(found):
        raise FileProtocolError(f"the peer's message has no text {name!r}")
    return found


def _is_broken(text: str) -> bool:
    return not text.isascii() and any(0xD800 <= ord(each) < 0xE000 for each in text)


def _count(message: dict[str, object], name: str) -> int:
    found = message.get(name)
    # True and False are numbers in Python.
    if type(found) is not int or not 0 <= found <= _LARGEST:
        raise FileProtocolError(f"the peer's message has no size {name!r}")
    return found
