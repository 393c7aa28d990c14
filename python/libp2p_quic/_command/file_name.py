"""Which names a peer may give to a file that it sends: one part of a path, visible, and safe on a screen."""

from __future__ import annotations

# A file name has at most 255 bytes on Linux, and a partial file's is longer than the file's.
_LONGEST = 200


def objection(name: str) -> str | None:
    """Why no file is stored under ``name``; None if it may be.

    A name with a slash could leave the folder, one with a leading dot would be hidden or configure a
    program, one with a leading dash would be an option of the next command, and one with control
    characters could move the cursor of a terminal or show another name.
    """
    if not name:
        return "the name is empty"
    if "/" in name or "\\" in name:
        return "the name has a slash"
    if name.startswith("."):
        return "the name begins with a dot"
    if name.startswith("-"):
        return "the name begins with a dash"
    if not name.isprintable():
        return "the name has characters that cannot be shown"
    if len(name.encode()) > _LONGEST:
        return f"the name has more than {_LONGEST} bytes"
    return None
