"""Why the last dial of each address failed. What dials do is left to `_dial` and `asyncio.endpoint`.

A time limit of the program, such as `trio.fail_after`, cancels a dial and drops the error that it would
have raised; here the program finds what came of it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

from libp2p_quic._exception_types import DialError

# A program asks directly after the failure. With their texts, some 100 KiB.
_KEPT = 256

E = TypeVar("E", bound=DialError)


class LastFailures(Generic[E]):
    """The errors of the addresses whose last dial failed, at most 256: the oldest are dropped first.

    They are stored without tracebacks, whose frames would keep the objects of the dial alive.
    """

    def __init__(self) -> None:
        self._errors: dict[Hashable, E] = {}

    def __len__(self) -> int:
        return len(self._errors)

    def record(self, addresses: Iterable[Hashable], error: E) -> None:
        """A dial of ``addresses`` failed."""
        bare = without_traceback(error)
        for address in addresses:
            self._errors.pop(address, None)
            self._errors[address] = bare
        while len(self._errors) > _KEPT:
            del self._errors[next(iter(self._errors))]

    def forget(self, addresses: Iterable[Hashable]) -> None:
        """A dial of ``addresses`` succeeded."""
        for address in addresses:
            self._errors.pop(address, None)

    def get(self, address: Hashable) -> E | None:
        """The error of the last dial, a new object for each call; None if it succeeded or is unknown."""
        error = self._errors.get(address)
        return None if error is None else without_traceback(error)


def without_traceback(error: E) -> E:
    """A copy of ``error``, which may be kept: the frames of a traceback keep the objects of the dial."""
    copy = type(error)(str(error), error.error_code)
    copy.causes = tuple(without_traceback(each) for each in error.causes)
    return copy
