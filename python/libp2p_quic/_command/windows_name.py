"""Which names of files mean something else on Windows: a device, a stream of another file, another folder.

It compares text alone, and runs on every system.
"""

from __future__ import annotations

# https://learn.microsoft.com/windows/win32/fileio/naming-a-file. A colon begins the name of a stream, or ends
# that of a drive.
_FORBIDDEN = frozenset('<>:"/\\|?*')
# The superscript digits are those of Latin-1.
_DEVICES = frozenset(
    {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}
    | {f"{device}{number}" for device in ("COM", "LPT") for number in "123456789\u00b9\u00b2\u00b3"}
)


def is_file_name(name: str) -> bool:
    """Whether a file can have this name in any folder, and keeps it: Windows removes dots and spaces at the
    end."""
    if not _FORBIDDEN.isdisjoint(name) or any(each < " " for each in name) or name.endswith((".", " ")):
        return False
    # Also with an extension, as in nul.txt.
    return name.partition(".")[0].rstrip(" ").upper() not in _DEVICES
