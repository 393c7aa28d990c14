"""Files and consoles of Windows. Never run on Windows: docs/platforms.md."""

from __future__ import annotations

import errno
import msvcrt
import os
import sys
from contextlib import suppress
from pathlib import Path

# On other systems mypy reads no further.
assert sys.platform == "win32"


class LockedFile:
    """A file that one process at a time has open, to read and write it. No link is followed."""

    def __init__(self, path: Path) -> None:
        """Open the file, or make it. Raises BlockingIOError if another process has it, and other OSErrors."""
        if path.is_symlink():
            raise OSError(errno.ELOOP, "it is a link", str(path))
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_BINARY, 0o666)
        try:
            # The first byte is enough, also of an empty file: another LockedFile asks for the same one.
            msvcrt.locking(self._descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            os.close(self._descriptor)
            raise BlockingIOError(errno.EAGAIN, "another process has it", str(path)) from error
        except OSError:
            os.close(self._descriptor)
            raise

    def status(self) -> os.stat_result:
        """Its size and kind."""
        return os.fstat(self._descriptor)

    def has_its_name(self) -> bool:
        """Whether no other process has renamed or removed it since it was opened, which Windows refuses."""
        return True

    def read_at(self, size: int, position: int) -> bytes:
        """At most ``size`` bytes from ``position`` on. Raises OSError."""
        os.lseek(self._descriptor, position, os.SEEK_SET)
        return os.read(self._descriptor, size)

    def write_at(self, data: memoryview, position: int) -> int:
        """Write at ``position``. Returns how many bytes the system took. Raises OSError."""
        os.lseek(self._descriptor, position, os.SEEK_SET)
        return os.write(self._descriptor, data)

    def truncate(self) -> None:
        """Drop all bytes."""
        os.ftruncate(self._descriptor, 0)

    def replace(self, target: Path) -> None:
        """Give it the name ``target``, also if a file has that. Only `close` may follow. Raises OSError."""
        # Windows renames no file that is open.
        self.close()
        os.replace(self._path, target)

    def remove(self) -> None:
        """Remove it if it still has its name, and close it."""
        if self._descriptor < 0:
            return
        # Windows removes no file that is open, and so none that the next owner of the name has opened.
        self.close()
        with suppress(FileNotFoundError, PermissionError):
            os.unlink(self._path)

    def close(self) -> None:
        """Close it. Idempotent."""
        if self._descriptor < 0:
            return
        # Otherwise Windows unlocks the file some time after it was closed, which it does if this fails, too.
        with suppress(OSError):
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            msvcrt.locking(self._descriptor, msvcrt.LK_UNLCK, 1)
        os.close(self._descriptor)
        self._descriptor = -1


def open_readable(path: str) -> int:
    """A descriptor that reads the bytes of a file. Raises OSError."""
    return os.open(path, os.O_RDONLY | os.O_BINARY)


def open_new(path: str) -> int:
    """A descriptor that writes the bytes of a new file, which has the permissions of its folder. Raises
    FileExistsError, and other OSErrors."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_BINARY, 0o600)


def keep_owner(_descriptor: int, _path: str) -> None:
    """Do nothing: a new file has the owner and the permissions that its folder gives."""


def drop_typed(_descriptor: int) -> None:
    """Drop what was typed at the console and was not read."""
    while msvcrt.kbhit():
        msvcrt.getwch()
