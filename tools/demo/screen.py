"""The output of the demonstration: lines, a progress bar, a table. No control characters
unless standard output is a terminal."""

from __future__ import annotations

import sys
import time

from tools.demo.pair import Figures

# Without it the row looks as if the handshake itself took longer.
_DIALS = """\
  The dial of libp2p-quic returns when the listener has admitted the peer: a round trip and the
  listener's Python after the handshake. That of py-libp2p's own returns at the end of the handshake.
  host.connect() takes at least 250 ms with both, so that a program does not see the difference."""

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
    """The table, with what the first column is compared with the second, and a note about the dials."""
    rows = [
        ("", "libp2p-quic", "py-libp2p's own", "libp2p-quic is"),
        (
            "dial",
            f"{ours.connect * 1e3:.2f} ms",
            f"{stock.connect * 1e3:.2f} ms",
            compared(ours.connect, stock.connect, "slower", "quicker"),
        ),
        (
            "ping p50",
            f"{ours.ping * 1e3:.3f} ms",
            f"{stock.ping * 1e3:.3f} ms",
            compared(ours.ping, stock.ping, "slower", "quicker"),
        ),
        (
            "goodput, one stream",
            f"{ours.gigabits:.3f} Gbit/s",
            f"{stock.gigabits:.3f} Gbit/s",
            compared(ours.gigabits, stock.gigabits, "quicker", "slower"),
        ),
        ("moved", readable(ours.moved), readable(stock.moved), ""),
    ]
    table = "\n".join(f"  {name:<22}{a:>16}{b:>18}{ratio:>18}" for name, a, b, ratio in rows)
    return f"{table}\n\n{_DIALS}"


def compared(ours: float, stock: float, more: str, less: str) -> str:
    """How many times ``more`` or ``less`` ours is, always by a factor of at least one."""
    if ours > stock:
        return f"{ours / stock:.1f} x {more}"
    return f"{stock / ours:.1f} x {less}"
