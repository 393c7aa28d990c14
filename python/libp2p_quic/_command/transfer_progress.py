"""How far a transfer is: a bar in a terminal, an object each second with --json, nothing in a pipe."""

from __future__ import annotations

import time
from types import TracebackType

from libp2p_quic._command.live import LiveBar
from libp2p_quic._command.output import Output
from libp2p_quic._command.quantity import duration, rate, size

# How often the bar is drawn, and how often --json prints figures. Seconds.
_DRAW_INTERVAL = 0.2
_REPORT_INTERVAL = 1.0


class TransferProgress:
    """Open it with ``with`` when the first byte is sent. Sizes are in bytes.

    ``start`` of the ``total`` bytes were there before.
    """

    def __init__(self, output: Output, name: str, total: int, start: int) -> None:
        self._output = output
        self._name = name
        self._total = total
        self._start = start
        self._count = 0
        self._began = time.monotonic()
        self._next_at = self._began
        self._bar: LiveBar | None = None

    def __enter__(self) -> TransferProgress:
        self._next_at = self._began = time.monotonic()
        if self._output.is_live:
            self._bar = LiveBar(max(self._total, 1), self._name).__enter__()
        return self

    def count(self, size: int) -> None:
        """More bytes were sent or received."""
        self._count += size
        now = time.monotonic()
        if now < self._next_at:
            return
        self._next_at = now + (_DRAW_INTERVAL if self._bar is not None else _REPORT_INTERVAL)
        if self._bar is not None:
            self._bar.draw(self.position, self._figures())
        else:
            self._output.event("progress", **self.facts())

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.__exit__(exc_type, exc_val, exc_tb)

    @property
    def position(self) -> int:
        """How many bytes of the file are there."""
        return self._start + self._count

    def facts(self) -> dict[str, float]:
        """The figures of --json."""
        elapsed = max(time.monotonic() - self._began, 1e-9)
        return {
            "position": self.position,
            "size": self._total,
            "resumed_at": self._start,
            "elapsed": elapsed,
            "bits_per_second": self._count * 8 / elapsed,
        }

    def _figures(self) -> list[str]:
        facts = self.facts()
        share = f"{self.position / max(self._total, 1):.0%} of {size(self._total)}"
        left = []
        if self._count:
            left = [f"{duration((self._total - self.position) * facts['elapsed'] / self._count)} left"]
        return [share, rate(facts["bits_per_second"]), *left]

    def told(self) -> str:
        """The figures of the whole transfer, in one line."""
        facts = self.facts()
        resumed = f", resumed at {size(self._start)}" if self._start else ""
        return (
            f"{size(self._count)} in {duration(facts['elapsed'])}, {rate(facts['bits_per_second'])}{resumed}"
        )
