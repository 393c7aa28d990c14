"""Describes an error and its causes as text and numbers, which keep no reference to what failed."""

from __future__ import annotations

from typing import Any

from libp2p.exceptions import MultiError


def described(error: BaseException | None) -> list[dict[str, Any]]:
    """An error and its causes: class names with their bases, message, code, and the engine's ``by`` and
    ``kind``."""
    chain = []
    while error is not None:
        families = [each.__name__ for each in type(error).__mro__]
        code = getattr(error, "error_code", None)
        by, kind = getattr(error, "by", None), getattr(error, "kind", None)
        chain.append({"families": families, "message": str(error), "code": code, "by": by, "kind": kind})
        # Of the failures of several addresses, the last one tried.
        error = error.errors[-1] if isinstance(error, MultiError) else error.__cause__
    return chain
