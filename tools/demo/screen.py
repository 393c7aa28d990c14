"""The output of the demonstration: lines, a progress bar, a table. No control characters
unless standard output is a terminal."""

from __future__ import annotations

import sys
import time

from tools.demo.pair import Figures

_BAR = 32
"""Characters in a full progress bar."""


def readable(size: int) -> str:
    """A byte count for people, in binary units."""
    value, unit = float(size), "B"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:.4g} {unit}"


class Screen:
    """Prints the results of one pair of processes."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._began = 0.0
        self._tenth = 0

    def say(self, label: str, text: str) -> None:
        print(f"  {label:<10} {text}", flush=True)

    def progress(self, done: int, total: int) -> None:
        """Redraw the bar on a terminal; elsewhere print a line for every 10 %."""
        if done == 0:
            self._began = time.monotonic()
        share = done / total if total else 1.0
        rate = done * 8 / max(time.monotonic() - self._began, 1e-9) / 1e9
        text = f"{share:4.0%}  {readable(done)} of {readable(total)}  {rate:.2f} Gbit/s"
        if self._live:
            bar = "█" * int(share * _BAR)
            end = "\n" if done >= total else ""
            print(f"\r\x1b[K  {'transfer':<10} {bar:░<{_BAR}} {text}", end=end, flush=True)
        elif int(share * 10) > self._tenth or done == 0:
            self._tenth = int(share * 10)
            self.say("transfer", text)


def comparison(ours: Figures, stock: Figures) -> str:
    """The table, with how many times better the first column is."""
    rows = [
        ("", "libp2p-quic", "py-libp2p's own", "ratio"),
        (
            "handshake",
            f"{ours.connect * 1e3:.2f} ms",
            f"{stock.connect * 1e3:.2f} ms",
            f"{stock.connect / ours.connect:.1f} x",
        ),
        (
            "ping p50",
            f"{ours.ping * 1e3:.3f} ms",
            f"{stock.ping * 1e3:.3f} ms",
            f"{stock.ping / ours.ping:.1f} x",
        ),
        (
            "goodput, one stream",
            f"{ours.gigabits:.3f} Gbit/s",
            f"{stock.gigabits:.3f} Gbit/s",
            f"{ours.gigabits / stock.gigabits:.1f} x",
        ),
        ("moved", readable(ours.moved), readable(stock.moved), ""),
    ]
    return "\n".join(f"  {name:<26}{a:>16}{b:>18}{ratio:>12}" for name, a, b, ratio in rows)
