"""Figures beside chance as SVG bars, and shares as heat maps; what they show is there in words."""

import math

from mixnmatch.data.html import escape
from mixnmatch.metrics.figures import Figure
from mixnmatch.metrics.measure import Table
from mixnmatch.metrics.report import shown, shown_interval

_SHADES = 10
_WIDTH, _HEIGHT, _MARGIN = 160, 18, 6

CHART_STYLE = """
:root { --hot: light-dark(#6f9fd6, #42628a); }
.scroll { overflow-x: auto; }
svg.interval { display: block; width: 10rem; height: 1.125rem; }
svg.interval .scale { stroke: var(--line); stroke-width: 2; }
svg.interval .reach { stroke: var(--accent); stroke-opacity: .45; stroke-width: 8; }
svg.interval .value { fill: var(--accent); }
svg.interval .chance { stroke: var(--warn); stroke-width: 2.5; }
table.heat { width: auto; }
table.heat th, table.heat td { padding: .3rem .55rem; border: 1px solid var(--line); }
table.heat th, table.heat td { overflow-wrap: normal; }
table.heat td { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
table.heat th { font-weight: 500; font-size: .9rem; }
table.heat small { display: block; font-size: .75rem; }
@media (max-width: 44rem) {
  table.heat th, table.heat td { padding: .2rem .3rem; font-size: .8rem; }
}
""" + "\n".join(
    f"table.heat .shade{shade} {{ background: color-mix(in srgb, var(--hot) "
    f"{100 * shade // _SHADES}%, var(--card)); }}"
    for shade in range(_SHADES + 1)
)


def interval_bar(figure: Figure) -> str:
    """A figure on its scale: its interval, a dot, and a tick at chance.

    What lies in [0, 1] and is better when higher is drawn on that scale; all else from 0, or its
    least value below, to a little beyond its greatest.

    Returns:
        An SVG, or nothing where neither interval nor chance is known.
    """
    marks = [figure.value, figure.low, figure.high, figure.chance]
    known = [mark for mark in marks if mark is not None]
    if len(known) < 2 or not all(map(math.isfinite, known)):
        return ""
    least, most = min(0.0, *known), max(known)
    if least < 0 or most > 1 or figure.better != "higher":
        most += 0.1 * (most - least)
    else:
        most = 1.0
    scale = (_WIDTH - 2 * _MARGIN) / ((most - least) or 1)

    def at(value: float) -> str:
        return f"{_MARGIN + (value - least) * scale:.2f}"

    middle = _HEIGHT / 2
    shapes = [f'<path class="scale" d="M{_MARGIN} {middle}H{_WIDTH - _MARGIN}"/>']
    words = f"{shown(figure.value)} on a scale from {shown(least)} to {shown(most)}"
    if figure.low is not None and figure.high is not None:
        shapes.append(f'<path class="reach" d="M{at(figure.low)} {middle}H{at(figure.high)}"/>')
        words += f", 95 % interval {shown_interval(figure)}"
    shapes.append(f'<circle class="value" cx="{at(figure.value)}" cy="{middle}" r="3"/>')
    if figure.chance is not None:
        shapes.append(f'<path class="chance" d="M{at(figure.chance)} 1V{_HEIGHT - 1}"/>')
        words += f", chance {shown(figure.chance)}"
    return (
        f'<svg class="interval" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(words)}"><title>{escape(words)}</title>{"".join(shapes)}</svg>'
    )


def heat_map(table: Table, title: str) -> str:
    """Shares as a table whose cells are shaded; numbers and row headers say the same in words.

    Args:
        table: The shares.
        title: What it is, for those who cannot see it.
    """
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.columns)
    lines = []
    for row, (name, values) in enumerate(zip(table.rows, table.values, strict=True)):
        cells = [f'<th scope="row">{escape(name)}</th>']
        for column, value in enumerate(values):
            known = math.isfinite(value)
            shade = round(_SHADES * min(1.0, max(0.0, float(value)))) if known else 0
            text = f"{value:.2f}" if known else "–"
            if table.chance is not None and math.isfinite(table.chance[row, column]):
                text += f"<small>({table.chance[row, column]:.2f})</small>"
            cells.append(f'<td class="shade{shade}">{text}</td>')
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}">'
        f'<table class="heat"><thead><tr><th scope="col">{escape(table.corner)}</th>{head}</tr>'
        f"</thead><tbody>{''.join(lines)}</tbody></table></div>"
    )
