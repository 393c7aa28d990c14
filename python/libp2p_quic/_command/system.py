"""What the command does in another way on each system: `posix` and `windows` have the same names."""

from __future__ import annotations

import sys

if sys.platform == "win32":
    from libp2p_quic._command.windows import LockedFile, drop_typed, keep_owner, open_new, open_readable
    from libp2p_quic._command.windows_name import is_file_name
else:
    from libp2p_quic._command.posix import (
        LockedFile,
        drop_typed,
        is_file_name,
        keep_owner,
        open_new,
        open_readable,
    )

__all__ = ["LockedFile", "drop_typed", "is_file_name", "keep_owner", "open_new", "open_readable"]
