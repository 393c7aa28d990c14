"""Texts of times, sizes and rates, and the order statistics of measured times."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")
_RATES = ("bit/s", "kbit/s", "Mbit/s", "Gbit/s")


def duration(seconds: float) -> str:
    """Three significant digits, in µs, ms or s."""
    for factor, unit in ((1e6, "µs"), (1e3, "ms")):
        if seconds * factor < 999.5:
            return f"{_digits(seconds * factor)} {unit}"
    return f"{_digits(seconds)} s"


def size(count: float) -> str:
    """Three significant digits, in B, KiB, MiB and so on."""
    return _scaled(count, 1024, _SIZES)


def parsed_size(text: str) -> int:
    """The number of bytes of "4096", "10 MiB", "1.5GiB", or "10M". Raises ValueError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(?:([KMGT])(?:iB)?|B)?", text)
    if found is None:
        raise ValueError(f"{text!r} is no size: write it as 4096, 10MiB or 2GiB")
    number, unit = found.groups()
    count = float(number) * 1024 ** (0 if unit is None else "BKMGT".index(unit))
    if not math.isfinite(count):
        raise ValueError(f"{text} is larger than any file")
    return int(count)


def rate(bits_per_second: float) -> str:
    """Three significant digits, in bit/s, kbit/s and so on."""
    return _scaled(bits_per_second, 1000, _RATES)


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of at least one value: one of ``values``."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def _scaled(value: float, step: int, units: Sequence[str]) -> str:
    for unit in units[:-1]:
        if value < 999.5:
            return f"{_digits(value) if unit != units[0] else f'{value:.0f}'} {unit}"
        value /= step
    return f"{_digits(value)} {units[-1]}"


def _digits(value: float) -> str:
    places = max(0, 2 - max(0, math.floor(math.log10(value)))) if value > 0 else 0
    return f"{value:.{places}f}"
