"""Files and terminals of Linux, macOS and other POSIX systems."""

from __future__ import annotations

import fcntl
import os
import termios
from pathlib import Path


class LockedFile:
    """A file that one process at a time has open, to read and write it. No link is followed."""

    def __init__(self, path: Path) -> None:
        """Open the file, or make it. Raises BlockingIOError if another process has it, and other OSErrors."""
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._descriptor)
            raise

    def status(self) -> os.stat_result:
        """Its size and kind."""
        return os.fstat(self._descriptor)

    def has_its_name(self) -> bool:
        """Whether no other process has renamed or removed it since it was opened."""
        try:
            return os.path.samestat(self.status(), os.lstat(self._path))
        except FileNotFoundError:
            return False

    def read_at(self, size: int, position: int) -> bytes:
        """At most ``size`` bytes from ``position`` on. Raises OSError."""
        return os.pread(self._descriptor, size, position)

    def write_at(self, data: memoryview, position: int) -> int:
        """Write at ``position``. Returns how many bytes the system took. Raises OSError."""
        return os.pwrite(self._descriptor, data, position)

    def truncate(self) -> None:
        """Drop all bytes."""
        os.ftruncate(self._descriptor, 0)

    def replace(self, target: Path) -> None:
        """Give it the name ``target``, also if a file has that. Only `close` may follow. Raises OSError."""
        os.replace(self._path, target)

    def remove(self) -> None:
        """Remove it if it still has its name, and close it."""
        try:
            # While it is locked: the next owner of the name must not lose its file.
            if self.has_its_name():
                os.unlink(self._path)
        finally:
            self.close()

    def close(self) -> None:
        """Close it. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def open_readable(path: str) -> int:
    """A descriptor that reads the bytes of a file. Does not wait for the writer of a pipe. Raises OSError."""
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK)


def open_new(path: str) -> int:
    """A descriptor that writes the bytes of a new file, which only its owner may read. Raises
    FileExistsError, and other OSErrors."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


def keep_owner(descriptor: int, path: str) -> None:
    """Give a file the owner of the file at ``path``. Raises OSError."""
    found = os.stat(path)
    os.fchown(descriptor, found.st_uid, found.st_gid)


def is_file_name(name: str) -> bool:
    """Whether a file can have this name in any folder."""
    return "/" not in name and "\0" not in name


def drop_typed(descriptor: int) -> None:
    """Drop what was typed at a terminal and was not read."""
    termios.tcflush(descriptor, termios.TCIFLUSH)
