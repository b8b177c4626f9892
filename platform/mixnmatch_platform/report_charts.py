"""Charts of an experiment's runs as SVG.

A run is named where the pointer or the keyboard's focus is on its mark, which says its figures in
words, too.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mixnmatch.data.html import escape
from mixnmatch.metrics.figures import Figure
from mixnmatch.metrics.report import shown

__all__ = ["CHART_STYLE", "Line", "Point", "curves", "scatter", "shares"]

_WIDTH, _HEIGHT = 640, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 26, 52
_TICKS = 5

CHART_STYLE = """
svg.chart { display: block; width: 100%; height: auto; max-width: 44rem; }
svg.chart text { fill: var(--ink); font: 12px system-ui, sans-serif; }
svg.chart .tick text, svg.chart .chance-name { fill: var(--faint); }
svg.chart .grid { stroke: var(--line); stroke-width: 1; }
svg.chart .axis { fill: none; stroke: var(--faint); stroke-width: 1; }
svg.chart .chance { stroke: var(--warn); stroke-width: 1.5; stroke-dasharray: 5 4; }
svg.chart .reach { stroke: var(--accent); stroke-opacity: .35; stroke-width: 1.5; }
svg.chart .front { fill: none; stroke: var(--accent); stroke-width: 1.5; stroke-opacity: .6; }
svg.chart .mark circle { fill: var(--card); stroke: var(--accent); stroke-width: 2; }
svg.chart .mark.best circle { fill: var(--accent); }
svg.chart .line path { fill: none; stroke: var(--faint); stroke-width: 1.5; stroke-opacity: .55; }
svg.chart .line circle { fill: var(--faint); }
svg.chart .line.best path { stroke: var(--accent); stroke-width: 2.5; stroke-opacity: 1; }
svg.chart .line.best circle { fill: var(--accent); }
svg.chart .name { visibility: hidden; paint-order: stroke; stroke: var(--card); stroke-width: 5px; }
svg.chart .best > .name { visibility: visible; }
svg.chart .mark:hover .name, svg.chart .mark:focus .name,
svg.chart .line:hover .name, svg.chart .line:focus .name { visibility: visible; font-weight: 700; }
svg.chart .mark:focus-visible, svg.chart .line:focus-visible { outline: none; }
svg.chart .mark:focus-visible circle { stroke-width: 5; }
svg.chart .line:hover path, svg.chart .line:focus path { stroke-width: 3; stroke-opacity: 1; }
@media (max-width: 44rem) { svg.chart text { font-size: 20px; } }
svg.share { display: block; width: 100%; min-width: 8rem; height: 1.1rem; }
svg.share .value { fill: var(--accent); }
svg.share .by-chance { fill: var(--faint); fill-opacity: .35; }
svg.share .edge { stroke: var(--warn); stroke-width: 1; }
"""


@dataclass(frozen=True, kw_only=True)
class Point:
    """A run in a scatter plot."""

    name: str
    """Of the run."""
    x: Figure
    """Its figure on the horizontal axis."""
    y: Figure
    """That on the vertical one."""
    best: bool = False
    """Whether it is on the front."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A run in a chart of curves."""

    name: str
    """Of the run."""
    points: Sequence[tuple[float, float]]
    """Places and values, at least one."""
    best: bool = False
    """Whether it stands out."""


@dataclass(frozen=True)
class _Scale:
    """From values to a range of the picture."""

    low: float
    high: float
    first: float
    last: float

    def at(self, value: float) -> float:
        return self.first + (value - self.low) / (self.high - self.low) * (self.last - self.first)

    @property
    def ticks(self) -> list[float]:
        """Round values, about as many as wanted."""
        rough = (self.high - self.low) / _TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * n for n in (1, 2, 5, 10) if power * n >= rough)
        first = math.ceil(self.low / step - 1e-9)
        return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


def scatter(
    points: Sequence[Point],
    *,
    x: str,
    y: str,
    title: str,
    front: Sequence[str] = (),
) -> str:
    """Two figures of each run, with intervals and chance levels.

    Args:
        points: The runs, at least one.
        x: Name of the horizontal axis, with its direction.
        y: That of the vertical one.
        title: Of the whole, for those who cannot see it.
        front: Names of the runs that a line goes through.
    """
    across = _scale([each.x for each in points], _LEFT, _WIDTH - _RIGHT)
    up = _scale([each.y for each in points], _HEIGHT - _BOTTOM, _TOP)
    parts = [_axes(across, up, x, y), _chance(points, across, up)]
    through = sorted((p for p in points if p.name in front), key=lambda p: p.x.value)
    if len(through) > 1:
        steps = " ".join(f"{across.at(p.x.value):.1f},{up.at(p.y.value):.1f}" for p in through)
        parts.append(f'<polyline class="front" points="{steps}"/>')
    ordinary_first = sorted(points, key=lambda each: each.best)
    parts += [_mark(each, across, up, x, y) for each in ordinary_first]
    return _svg(title, parts)


def curves(lines: Sequence[Line], *, x: str, y: str, title: str, chance: float | None) -> str:
    """How a figure of each run went.

    Args:
        lines: The runs, at least one.
        x: Name of the horizontal axis.
        y: That of the vertical one.
        title: Of the whole.
        chance: What a model that knows nothing gets.
    """
    xs = [place for line in lines for place, _ in line.points]
    ys = [value for line in lines for _, value in line.points] + (
        [] if chance is None else [chance]
    )
    across = _Scale(*_spread(xs, margin=0), _LEFT, _WIDTH - _RIGHT)
    up = _Scale(*_spread(ys), _HEIGHT - _BOTTOM, _TOP)
    parts = [_axes(across, up, x, y)]
    if chance is not None:
        parts.append(_level(up.at(chance)))
    for line in sorted(lines, key=lambda each: each.best):
        path = " ".join(f"{across.at(a):.1f},{up.at(b):.1f}" for a, b in line.points)
        dots = "".join(
            f'<circle cx="{across.at(a):.1f}" cy="{up.at(b):.1f}" r="2.5"/>' for a, b in line.points
        )
        end_x, end_y = line.points[-1]
        said = f"{line.name}: {shown(line.points[0][1])} to {shown(end_y)} at {end_x:,.0f}"
        parts.append(
            f'<g class="line{" best" if line.best else ""}" tabindex="0" role="img" '
            f'aria-label="{escape(said)}"><title>{escape(said)}</title><path d="M{path}"/>{dots}'
            f'<text class="name" x="{across.at(end_x):.1f}" y="{up.at(end_y) - 8:.1f}" '
            f'text-anchor="end">{escape(line.name)}</text></g>'
        )
    return _svg(title, parts)


def shares(share: float, by_chance: float, words: str) -> str:
    """A share of 1 as a bar, above the one that chance gives.

    Args:
        share: In [0, 1].
        by_chance: Likewise.
        words: What it says.
    """
    return (
        f'<svg class="share" viewBox="0 0 100 16" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(words)}"><title>{escape(words)}</title>'
        f'<rect class="by-chance" width="{100 * by_chance:.1f}" height="16"/>'
        f'<rect class="value" y="4" width="{100 * share:.1f}" height="8"/>'
        f'<path class="edge" d="M{100 * by_chance:.1f} 0V16"/></svg>'
    )


def _svg(title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="group" '
        f'aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )


def _axes(across: _Scale, up: _Scale, x: str, y: str) -> str:
    bottom = _HEIGHT - _BOTTOM
    parts = []
    for value in across.ticks:
        at = f"{across.at(value):.1f}"
        parts.append(f'<path class="grid" d="M{at} {_TOP}V{bottom}"/>')
        parts.append(f'<text x="{at}" y="{bottom + 17}" text-anchor="middle">{_tick(value)}</text>')
    for value in up.ticks:
        at = f"{up.at(value):.1f}"
        parts.append(f'<path class="grid" d="M{_LEFT} {at}H{_WIDTH - _RIGHT}"/>')
        parts.append(
            f'<text x="{_LEFT - 7}" y="{at}" dy="4" text-anchor="end">{_tick(value)}</text>'
        )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    return (
        f'<g class="tick" aria-hidden="true">{"".join(parts)}</g>'
        f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{_WIDTH - _RIGHT}"/>'
        f'<text x="{middle}" y="{_HEIGHT - 12}" text-anchor="middle">{escape(x)}</text>'
        f'<text x="{8}" y="16">{escape(y)}</text>'
    )


def _chance(points: Sequence[Point], across: _Scale, up: _Scale) -> str:
    x = next((p.x.chance for p in points if p.x.chance is not None), None)
    y = next((p.y.chance for p in points if p.y.chance is not None), None)
    parts = [] if y is None else [_level(up.at(y))]
    if x is not None:
        at = f"{across.at(x):.1f}"
        parts.append(
            f'<path class="chance" d="M{at} {_TOP}V{_HEIGHT - _BOTTOM}"/>'
            f'<text class="chance-name" x="{at}" dx="4" y="{_HEIGHT - _BOTTOM - 6}">chance</text>'
        )
    return "".join(parts)


def _level(at: float) -> str:
    return (
        f'<path class="chance" d="M{_LEFT} {at:.1f}H{_WIDTH - _RIGHT}"/>'
        f'<text class="chance-name" x="{_WIDTH - _RIGHT}" y="{at - 5:.1f}" text-anchor="end">'
        "chance</text>"
    )


def _mark(point: Point, across: _Scale, up: _Scale, x: str, y: str) -> str:
    at_x, at_y = across.at(point.x.value), up.at(point.y.value)
    reaches = []
    if point.x.low is not None and point.x.high is not None:
        ends = f"M{across.at(point.x.low):.1f} {at_y:.1f}H{across.at(point.x.high):.1f}"
        reaches.append(f'<path class="reach" d="{ends}"/>')
    if point.y.low is not None and point.y.high is not None:
        ends = f"M{at_x:.1f} {up.at(point.y.low):.1f}V{up.at(point.y.high):.1f}"
        reaches.append(f'<path class="reach" d="{ends}"/>')
    said = f"{point.name}: {x} {shown(point.x.value)}, {y} {shown(point.y.value)}"
    right = at_x > _WIDTH - 110
    anchor = ' text-anchor="end"' if right else ""
    return (
        f'<g class="mark{" best" if point.best else ""}" tabindex="0" role="img" '
        f'aria-label="{escape(said)}"><title>{escape(said)}</title>{"".join(reaches)}'
        f'<circle cx="{at_x:.1f}" cy="{at_y:.1f}" r="5"/>'
        f'<text class="name" x="{at_x + (-9 if right else 9):.1f}" y="{at_y - 8:.1f}"{anchor}>'
        f"{escape(point.name)}</text></g>"
    )


def _scale(figures: Sequence[Figure], first: float, last: float) -> _Scale:
    marks = [m for f in figures for m in (f.value, f.low, f.high, f.chance) if m is not None]
    return _Scale(*_spread(marks), first, last)


def _spread(values: Sequence[float], margin: float = 0.06) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = (high - low) * margin or (0.0 if high > low else abs(high) * 0.1 or 1.0)
    return low - room, high + room


def _tick(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
