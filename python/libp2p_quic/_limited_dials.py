"""Which dials failed within a time limit of the program. `_causes` asks for those of a limit that ended.

`trio.fail_after` raises its error without a cause, as it drops the cancellation of the dial. The scope
that the error comes from has a deadline, and a dial that it canceled had the same.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from math import inf

from libp2p_quic._exception_types import DialError
from libp2p_quic._last_failures import without_traceback

# A program asks directly after the failure. With their texts, some 100 KiB.
_KEPT = 256


class LimitedDials:
    """The last failures of dials that had a deadline, at most 256: the oldest are dropped first.

    ``deadline`` is that of the innermost time limit around a dial, on the clock of its event loop. The
    clock of each trio run begins at random, so that deadlines of two runs differ.
    """

    def __init__(self) -> None:
        self._errors: dict[tuple[float, Hashable], DialError] = {}
        # Event loops of several threads use it.
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._errors)

    def record(self, deadline: float, target: Hashable, error: DialError) -> None:
        """A dial of ``target`` failed or was canceled. A later dial within the limit replaces it."""
        if deadline == inf:
            return
        with self._lock:
            self._errors.pop((deadline, target), None)
            self._errors[deadline, target] = without_traceback(error)
            while len(self._errors) > _KEPT:
                self._errors.pop(next(iter(self._errors)))

    def forget(self, deadline: float) -> None:
        """A dial succeeded: if the limit ends now, it is not because of those that failed before."""
        with self._lock:
            for each in [key for key in self._errors if key[0] == deadline]:
                del self._errors[each]

    def within(self, deadline: float) -> list[DialError]:
        """The errors of the dials whose time limit ended at ``deadline``, in the order of failing."""
        with self._lock:
            return [without_traceback(error) for (end, _), error in self._errors.items() if end == deadline]


# Of the process, as the error of a time limit does not name the transport.
limited_dials = LimitedDials()
