"""The error for a name that is no field of a configuration: it names the field whose name is nearest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from difflib import get_close_matches
from functools import wraps
from inspect import Parameter, signature
from typing import Any, TypeVar

C = TypeVar("C")


def unknown_field(of: type, name: str) -> str:
    """What is wrong with ``name``, which is no field of the dataclass ``of``, and what to write instead."""
    # Half of the names are py-libp2p's, in capitals. The case decides only between two names that differ
    # in nothing else.
    alike = sorted((field.name for field in fields(of)), key=lambda each: each.isupper() == name.isupper())
    names = {each.lower(): each for each in alike}
    near = get_close_matches(name.lower(), names, 1)
    advice = f": did you mean {names[near[0]]}?" if near else "; docs/configuration.md has the fields"
    return f"{name} is not a field of {of.__name__}{advice}"


def unknown_argument(of: type, named: Iterable[str]) -> str | None:
    """What is wrong with the first keyword in ``named`` that the constructor of ``of`` does not take."""
    known = {field.name for field in fields(of)}
    unknown = [name for name in named if name not in known]
    if not unknown:
        return None
    # A subclass may have a constructor of its own, with arguments that are no fields.
    constructor: Any = of
    taken = signature(constructor.__init__).parameters
    if any(each.kind is Parameter.VAR_KEYWORD for each in taken.values()):
        return None
    return next((unknown_field(of, name) for name in unknown if name not in taken), None)


def names_checked(error: type[Exception]) -> Callable[[type[C]], type[C]]:
    """Decorate a dataclass: its constructor raises ``error`` for a keyword that is no field.

    Without it Python raises a TypeError that names no field. The signature stays that of the fields.
    """

    def decorate(cls: type[C]) -> type[C]:
        decorated: Any = cls
        construct = decorated.__init__

        @wraps(construct)
        def construct_checked(self: C, *values: Any, **named: Any) -> None:
            if (what := unknown_argument(cls, named)) is not None:
                raise error(what)
            construct(self, *values, **named)

        decorated.__init__ = construct_checked
        return cls

    return decorate
