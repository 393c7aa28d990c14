"""Draws a qlog file as SVG: data and losses, window, and round-trip time, over one axis of time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from libp2p_quic._command.qlog_file import QlogFile, Samples
from libp2p_quic._command.quantity import duration, size

_WIDTH, _LEFT, _RIGHT, _TOP = 960, 90, 20, 64
_PANEL, _GAP = 190, 58
# More points than pixels make the file large and the picture no finer.
_MOST_POINTS = 1600
_INK, _LINE = "#1f2733", "#d8dee6"
_BLUE, _GREEN, _ORANGE, _RED = "#2563a8", "#2e8b57", "#c77700", "#c62828"
_TICKS = 4


@dataclass(frozen=True)
class _Series:
    name: str
    color: str
    samples: Samples
    # The value holds until the next sample, as a window does; otherwise samples are single points.
    is_level: bool = True


@dataclass(frozen=True)
class _Panel:
    title: str
    series: Sequence[_Series]
    shown: Callable[[float], str]


def draw(file: QlogFile, name: str) -> str:
    """The picture of a file; ``name`` is its title."""
    panels = (
        _Panel(
            "Data",
            (
                _Series("sent", _BLUE, file.sent),
                _Series("acknowledged", _GREEN, file.acknowledged),
                _Series("received", _ORANGE, file.received),
            ),
            size,
        ),
        _Panel(
            "Congestion window",
            (_Series("window", _BLUE, file.window), _Series("in flight", _ORANGE, file.in_flight)),
            size,
        ),
        _Panel(
            "Round-trip time",
            (
                _Series("measured", _ORANGE, file.latest_rtt, is_level=False),
                _Series("smoothed", _BLUE, file.smoothed_rtt),
            ),
            duration,
        ),
    )
    span = max(file.duration, 1e-6)
    height = _TOP + len(panels) * (_PANEL + _GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
        f'height="{height}" font-family="system-ui, sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        _text(_LEFT, 26, name, 'font-size="16" font-weight="bold"'),
    ]
    for number, panel in enumerate(panels):
        top = _TOP + number * (_PANEL + _GAP)
        parts += _panel(panel, top, span)
        if number == 0:
            parts += _losses(file.losses, top, span)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: _Panel, top: float, span: float) -> list[str]:
    most = max((value for series in panel.series for _, value in series.samples), default=0) or 1
    bottom = top + _PANEL
    parts = [_text(_LEFT, top - 10, panel.title, 'font-weight="bold"')]
    for tick in range(_TICKS + 1):
        y = bottom - _PANEL * tick / _TICKS
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="{_LINE}"/>')
        parts.append(_text(_LEFT - 8, y + 4, panel.shown(most * tick / _TICKS), 'text-anchor="end"'))
        x = _x(span * tick / _TICKS, span)
        anchor = "end" if tick == _TICKS else "start" if tick == 0 else "middle"
        parts.append(_text(x, bottom + 18, duration(span * tick / _TICKS), f'text-anchor="{anchor}"'))
    x = _LEFT + 190.0
    for series in panel.series:
        parts.append(f'<rect x="{x:.0f}" y="{top - 20:.0f}" width="12" height="12" fill="{series.color}"/>')
        parts.append(_text(x + 18, top - 10, series.name))
        x += 130
        parts += _drawn(series, bottom, most, span)
    return parts


def _drawn(series: _Series, bottom: float, most: float, span: float) -> list[str]:
    points = [
        (_x(at, span), bottom - _PANEL * value / most)
        for at, value in _thinned(series.samples, is_level=series.is_level)
    ]
    if not points:
        return []
    if series.is_level:
        (x, y), *rest = points
        path = f"M{x:.1f} {y:.1f}" + "".join(f"H{x:.1f}V{y:.1f}" for x, y in rest)
        end = _WIDTH - _RIGHT
        return [f'<path d="{path}H{end}" fill="none" stroke="{series.color}" stroke-width="1.5"/>']
    dots = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in points)
    style = f'stroke="{series.color}" stroke-width="2.5" stroke-linecap="round" opacity="0.6"'
    return [f'<path d="{dots}" fill="none" {style}/>']


def _losses(times: Sequence[float], top: float, span: float) -> list[str]:
    x = _LEFT + 580
    parts = [
        f'<path d="M{x + 6} {top - 21:.0f}v14" stroke="{_RED}" stroke-width="2"/>',
        _text(x + 18, top - 10, f"lost packets: {len(times)}"),
    ]
    places = sorted({round(_x(at, span), 1) for at in times})
    if places:
        marks = "".join(f"M{place} {top + _PANEL:.0f}v-14" for place in places)
        parts.append(f'<path d="{marks}" stroke="{_RED}" stroke-width="1.2"/>')
    return parts


def _thinned(samples: Samples, *, is_level: bool) -> Samples:
    """At most a few for each pixel. Of a level the extremes stay, so that no drop is hidden."""
    if len(samples) <= _MOST_POINTS:
        return samples
    group = len(samples) * 2 // _MOST_POINTS + 1
    kept: Samples = []
    for begin in range(0, len(samples), group):
        part = samples[begin : begin + group]
        low, high = min(part, key=lambda it: it[1]), max(part, key=lambda it: it[1])
        kept += sorted({low, high})
    if is_level and kept[-1] != samples[-1]:
        kept.append(samples[-1])
    return kept


def _x(at: float, span: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * at / span


def _text(x: float, y: float, content: str, rest: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{_INK}" {rest}>{escape(content)}</text>'
