"""A task's place among those that wait for the results of one token, for `Driver.in_turn`.

The drivers keep the places in the order of the calls, and take a result for each when the token is ready.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from libp2p_quic._engine_errors import EngineError

T = TypeVar("T")


class Turn(Generic[T]):
    """One call of a method that returned None, and later its outcome."""

    __slots__ = ("_error", "_method", "_result")

    def __init__(self, method: Callable[[], T | None]) -> None:
        self._method = method
        self._result: T | None = None
        self._error: EngineError | None = None

    def take(self) -> bool:
        """Call the method. Returns whether there is an outcome: a result or an error of the engine."""
        try:
            self._result = self._method()
        except EngineError as error:
            self._error = error
        return self.has_outcome()

    def pass_to(self, following: Turn[T]) -> bool:
        """Give the outcome to the turn of another task. Returns whether there was one."""
        if not self.has_outcome():
            return False
        following._result, following._error = self._result, self._error
        self.drop()
        return True

    def drop(self) -> None:
        """Forget the outcome: the traceback of a canceled task keeps this object."""
        self._result = self._error = None

    def outcome(self) -> T:
        """What `take` took. Raises the engine's error."""
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def has_outcome(self) -> bool:
        """Whether `take` took one."""
        return self._result is not None or self._error is not None
