"""A file that is not complete yet: keeps what has arrived until the rest comes, in this run or a later one.

It is hidden, beside the file that it becomes. Nothing is overwritten, and no link is followed.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from pathlib import Path
from types import TracebackType

from libp2p_quic._command.system import LockedFile, is_file_name

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
        if not is_file_name(name):
            raise PartialFileError(f"the receiver's system has no files of the name {name!r}")
        self.target = folder / name
        self._path = folder / f".{name}{_SUFFIX}"
        try:
            self._file = LockedFile(self._path)
        except BlockingIOError:
            raise PartialFileError(f"{name} is being received already") from None
        try:
            self.size = self._checked_size()
        except (OSError, PartialFileError):
            self._file.close()
            raise
        self.digest = hashlib.sha256()

    def _checked_size(self) -> int:
        found = self._file.status()
        if not stat.S_ISREG(found.st_mode):
            raise PartialFileError(f"{self._path.name} is no regular file")
        # Its last owner may have completed or removed it since it was opened.
        if not self._file.has_its_name():
            raise PartialFileError(f"{self.target.name} was received just now")
        return found.st_size

    async def hashed(self) -> str:
        """The SHA-256 of all bytes, in hex. Reads them; canceling ends that."""
        position = 0
        while position < self.size:
            wanted = min(_BLOCK, self.size - position)
            block = await asyncio.to_thread(self._file.read_at, wanted, position)
            if not block:
                raise PartialFileError(f"{self._path.name} has become shorter")
            await asyncio.to_thread(self.digest.update, block)
            position += len(block)
        return self.digest.hexdigest()

    def restart(self) -> None:
        """Drop all bytes, as they are not those of the file."""
        self._file.truncate()
        self.size = 0
        self.digest = hashlib.sha256()

    def append(self, data: bytes) -> None:
        """Add bytes at the end. Raises OSError."""
        self.digest.update(data)
        view = memoryview(data)
        while view:
            taken = self._file.write_at(view, self.size)
            self.size += taken
            view = view[taken:]

    def complete(self, force: bool) -> None:
        """Give the file its name; nothing may be added afterwards. Raises FileExistsError if the name is
        taken and not ``force``, and another OSError; the partial file is kept then."""
        if force:
            self._file.replace(self.target)
            return
        # A rename would replace a file that was made since the offer. Nobody else can have made this one.
        os.close(os.open(self.target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        try:
            self._file.replace(self.target)
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
        if self.size == 0:
            self._file.remove()
        else:
            self._file.close()
