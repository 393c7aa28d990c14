"""The figures of a perf test as unified-testing draws them: the numbers of a box plot, in YAML."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def yaml(name: str, unit: str, samples: Sequence[float]) -> str:
    """One section of the results. ``samples``: at least one, in any order.

    Outliers are more than 1.5 interquartile ranges below the first or above the third
    quartile; ``min`` and ``max`` are those of the rest, the ends of the whiskers.
    """
    ordered = sorted(samples)
    # Of a single sample every quartile is the sample.
    q1, median, q3 = statistics.quantiles(ordered * 2 if len(ordered) == 1 else ordered, method="inclusive")
    reach = 1.5 * (q3 - q1)
    rest = [sample for sample in ordered if q1 - reach <= sample <= q3 + reach]
    outliers = [sample for sample in ordered if sample not in rest]
    figures = {"min": rest[0], "q1": q1, "median": median, "q3": q3, "max": rest[-1]}
    return "\n".join(
        [
            f"{name}:",
            f"  iterations: {len(ordered)}",
            *(f"  {key}: {figure:.3f}" for key, figure in figures.items()),
            f"  outliers: {_listed(outliers)}",
            f"  samples: {_listed(ordered)}",
            f"  unit: {unit}",
        ]
    )


def _listed(samples: Sequence[float]) -> str:
    return f"[{', '.join(f'{sample:.3f}' for sample in samples)}]"
