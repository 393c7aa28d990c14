"""A file that is not complete yet: keeps what has arrived until the rest comes, in this run or a later one.

It is hidden, beside the file that it becomes. Nothing is overwritten, and no link is followed.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import stat
from pathlib import Path
from types import TracebackType

_SUFFIX = ".libp2p-quic-part"
# The part of a file that is hashed between two chances to stop.
_BLOCK = 4 * 1024 * 1024


class PartialFileError(Exception):
    """The partial file cannot be used, and the text says why."""


class PartialFile:
    """Open it with ``with``. One process at a time has it.

    ``size`` is the number of bytes that it has, and ``digest`` their SHA-256 so far, after `hashed`.
    """

    def __init__(self, folder: Path, name: str) -> None:
        """``name`` has passed `file_name.objection`. Raises PartialFileError, and OSError of the system."""
        self.target = folder / name
        self._path = folder / f".{name}{_SUFFIX}"
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o666)
        try:
            self.size = self._locked_size()
        except (OSError, PartialFileError):
            os.close(self._descriptor)
            raise
        self.digest = hashlib.sha256()

    def _locked_size(self) -> int:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PartialFileError(f"{self.target.name} is being received already") from None
        found = os.fstat(self._descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise PartialFileError(f"{self._path.name} is no regular file")
        # Its last owner may have completed or removed it since it was opened.
        try:
            is_same = os.path.samestat(found, os.lstat(self._path))
        except FileNotFoundError:
            is_same = False
        if not is_same:
            raise PartialFileError(f"{self.target.name} was received just now")
        return found.st_size

    async def hashed(self) -> str:
        """The SHA-256 of all bytes, in hex. Reads them; canceling ends that."""
        position = 0
        while position < self.size:
            wanted = min(_BLOCK, self.size - position)
            block = await asyncio.to_thread(os.pread, self._descriptor, wanted, position)
            if not block:
                raise PartialFileError(f"{self._path.name} has become shorter")
            await asyncio.to_thread(self.digest.update, block)
            position += len(block)
        return self.digest.hexdigest()

    def restart(self) -> None:
        """Drop all bytes, as they are not those of the file."""
        os.ftruncate(self._descriptor, 0)
        self.size = 0
        self.digest = hashlib.sha256()

    def append(self, data: bytes) -> None:
        """Add bytes at the end. Raises OSError."""
        self.digest.update(data)
        view = memoryview(data)
        while view:
            taken = os.pwrite(self._descriptor, view, self.size)
            self.size += taken
            view = view[taken:]

    def complete(self, force: bool) -> None:
        """Give the file its name. Raises FileExistsError if the name is taken and not ``force``, and
        another OSError; the partial file is kept then."""
        if force:
            os.replace(self._path, self.target)
            return
        # A rename would replace a file that was made since the offer. Nobody else can have made this one.
        os.close(os.open(self.target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        try:
            os.replace(self._path, self.target)
        except OSError:
            os.unlink(self.target)
            raise

    def __enter__(self) -> PartialFile:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """Close it. One without bytes is removed."""
        try:
            if self.size == 0 and os.path.samestat(os.fstat(self._descriptor), os.lstat(self._path)):
                os.unlink(self._path)
        except FileNotFoundError:
            # It has got its name.
            return
        finally:
            os.close(self._descriptor)
