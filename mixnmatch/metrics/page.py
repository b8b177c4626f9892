"""An evaluation as a page that stands alone: figures, the pictures behind them, the protocol."""

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from mixnmatch.data.html import escape, exact_uri, page
from mixnmatch.metrics import literature
from mixnmatch.metrics.charts import CHART_STYLE, heat_map, interval_bar
from mixnmatch.metrics.evaluate import Evaluation
from mixnmatch.metrics.figures import Figure
from mixnmatch.metrics.measure import Exhibit
from mixnmatch.metrics.protocol import PUBLISHED
from mixnmatch.metrics.report import (
    ARROWS,
    CLEAR,
    GROUPS,
    UNCLEAR,
    WORSE,
    beside_chance,
    by_group,
    headlines,
    shown,
    shown_interval,
    time_line,
)

CARDS = 2
"""Figures of each group that are shown large, at most."""
_SMALL, _ZOOMED = 320, 640
"""Widths in pixels: pictures up to the first are enlarged by whole factors up to the second."""
_CLASS = {CLEAR: "good", UNCLEAR: "faint", WORSE: "bad", "": ""}

_STYLE = (
    CHART_STYLE
    + """
body { max-width: 72rem; }
:root {
  --good: light-dark(#1d7a3a, #6fd58d); --bad: light-dark(#b3261e, #ff9d94);
}
h2 { margin-top: 2.2rem; }
h2::first-letter, h3::first-letter { text-transform: uppercase; }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
figure h3 { margin-top: 0; }
nav ul { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; padding: 0; list-style: none; }
.good { color: var(--good); }
.bad { color: var(--bad); }
.cards {
  display: grid; gap: .8rem; padding: 0; list-style: none;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 12rem), 1fr));
}
.cards li { background: var(--card); border: 1px solid var(--line); padding: .7rem .8rem; }
.cards .name { overflow-wrap: anywhere; }
.cards b { display: block; font-size: 1.7rem; line-height: 1.3; }
.cards .faint, .cards .chance { display: block; font-size: .85rem; }
td.number, th.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
table.figures { table-layout: fixed; }
table.figures th[scope=col] { vertical-align: bottom; }
table.figures th[scope=col]:first-child { width: 24%; }
table.figures th[scope=col].bar { width: 11rem; }
table.figures th[scope=col].interval { width: 10rem; }
table.figures th[scope=col].verdict { width: 12rem; padding-left: .6rem; }
table.figures td, table.figures th[scope=row] { vertical-align: middle; }
table.figures td.number { white-space: normal; }
table.figures td.verdict { padding-left: .6rem; }
table.figures th[scope=row], .cards .name { font-weight: 500; font-size: .9rem; }
table.figures th[scope=row], .cards .name { font-family: ui-monospace, monospace; }
.exhibits { display: grid; gap: 1rem; margin-top: 1.2rem; }
figure { margin: 0; padding: .8rem; background: var(--card); border: 1px solid var(--line); }
figure { min-width: 0; }
figcaption { font-size: .9rem; color: var(--faint); margin-bottom: .6rem; }
img.pixels { image-rendering: pixelated; }
table.protocol th { font-weight: 500; width: 16rem; }
table.published th[scope=col]:nth-child(2) { width: 8rem; }
table.published th[scope=col]:nth-child(3) { width: 12rem; }
table.published th[scope=col]:nth-child(1) { width: 11rem; }
table.published td { vertical-align: top; font-size: .9rem; }
table.published th[scope=row] { vertical-align: top; }
table.published td.number { text-align: left; }
@media (max-width: 44rem) {
  body { padding: .7rem; }
  table.figures, table.figures tbody { display: block; }
  table.figures th[scope=row] { width: auto; }
  table.figures thead {
    display: block; position: absolute; width: 1px; height: 1px; overflow: hidden;
    clip-path: inset(50%);
  }
  table.figures tr { display: block; padding: .5rem 0; border-bottom: 1px solid var(--line); }
  table.figures th[scope=row], table.figures td { display: block; border: 0; padding: .1rem 0; }
  table.figures td.number { display: inline-block; margin-right: .9rem; text-align: left; }
  table.figures td.verdict { padding-left: 0; }
  table.figures td:empty { display: none; }
  table.figures td[data-name]::before { content: attr(data-name) " "; color: var(--faint); }
  table.protocol th, table.protocol td { display: block; width: auto; }
  table.protocol th { border: 0; padding-bottom: 0; color: var(--faint); }
  figure { padding: .5rem; }
}
"""
)


def evaluation_page(evaluation: Evaluation, *, model: str, data: str) -> str:
    """The whole page; it asks for no other file.

    Args:
        evaluation: What was measured, with its exhibits.
        model: Name of the model.
        data: Name of the data set.
    """
    title = f"Evaluation of {model}"
    groups = list(by_group(evaluation))
    names = [group for group, _ in groups]
    links = "".join(
        f'<li><a href="#{escape(name)}">{escape(name)}</a></li>' for name in [*names, "protocol"]
    )
    sections = [
        _section(group, figures, evaluation.exhibits.get(group, ())) for group, figures in groups
    ]
    body = f"""
<header><h1>{escape(title)}</h1>
<p class="faint">On {escape(data)}. {escape(_counts(evaluation.protocol))}
{escape(time_line(evaluation.seconds).capitalize())}.</p>
<nav aria-label="Sections"><ul>{links}</ul></nav></header>
<main>{_cards(groups)}
{"".join(sections)}
{_protocol(evaluation.protocol)}
{_literature(evaluation.protocol["real"]["kind"])}</main>"""
    return page(title, body, style=_STYLE)


def _counts(protocol: Mapping[str, Mapping[str, Any]]) -> str:
    generated, real = protocol["generated"], protocol["real"]
    return (
        f"{generated['samples']:,} generated pictures beside {real['compared']:,} real ones; "
        f"seed {generated['seed']}."
    )


def _cards(groups: Sequence[tuple[str, Mapping[str, Figure]]]) -> str:
    cards = [
        _card(name, figures[name]) for _, figures in groups for name in headlines(figures, CARDS)
    ]
    return f'<ul class="cards" aria-label="The main figures">{"".join(cards)}</ul>' if cards else ""


def _card(name: str, figure: Figure) -> str:
    interval = shown_interval(figure)
    parts = [
        f'<span class="name">{_name(name)}{_arrow(figure)}</span>',
        f"<b>{shown(figure.value)}</b>",
        f'<span class="faint">{interval}</span>' if interval else "",
    ]
    if figure.chance is not None:
        verdict = beside_chance(figure)
        words = f"chance {shown(figure.chance)}" + (f": {verdict}" if verdict else "")
        parts.append(f'<span class="chance {_CLASS[verdict]}">{words}</span>')
    return f"<li>{''.join(parts)}</li>"


def _section(group: str, figures: Mapping[str, Figure], exhibits: Sequence[Exhibit]) -> str:
    rows = "".join(_row(name, figure) for name, figure in figures.items())
    head = "".join(
        f'<th scope="col"{mark}>{name}</th>'
        for name, mark in (
            ("figure", ""),
            ("value", ' class="number"'),
            ("95 % interval", ' class="number interval"'),
            ("chance as a tick", ' class="bar"'),
            ("chance", ' class="number"'),
            ("cases", ' class="number"'),
            ("beside chance", ' class="verdict"'),
        )
    )
    shows = "".join(_exhibit(exhibit) for exhibit in exhibits)
    name = escape(group)
    return f"""
<section aria-labelledby="{name}"><h2 id="{name}">{name}</h2>
<p class="faint">{escape(GROUPS[group][0].upper() + GROUPS[group][1:])}</p>
<table class="figures"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>
{f'<div class="exhibits">{shows}</div>' if shows else ""}</section>"""


def _row(name: str, figure: Figure) -> str:
    verdict = beside_chance(figure)
    chance = "" if figure.chance is None else shown(figure.chance)
    count = "" if figure.count is None else f"{figure.count:,}"
    return (
        f'<tr><th scope="row">{_name(name)}{_arrow(figure)}</th>'
        f'<td class="number" data-name="value">{shown(figure.value)}</td>'
        f'<td class="number" data-name="95 %">{shown_interval(figure)}</td>'
        f"<td>{interval_bar(figure)}</td>"
        f'<td class="number" data-name="chance">{chance}</td>'
        f'<td class="number" data-name="of">{count}</td>'
        f'<td class="verdict {_CLASS[verdict]}">{verdict}</td></tr>'
    )


def _name(name: str) -> str:
    """The name of a figure, which may be broken between its words."""
    return escape(name).replace("_", "_<wbr>").replace("/", "/<wbr>")


def _arrow(figure: Figure) -> str:
    if figure.better is None:
        return ""
    label, arrow = f"{figure.better} is better", ARROWS[figure.better]
    return f'&nbsp;<span role="img" aria-label="{label}" title="{label}">{arrow}</span>'


def _exhibit(exhibit: Exhibit) -> str:
    parts = [f"<h3>{escape(exhibit.title)}</h3><figcaption>{escape(exhibit.caption)}</figcaption>"]
    if exhibit.picture is not None:
        parts.append(_picture(exhibit.picture, exhibit.title))
    if exhibit.table is not None:
        if exhibit.table.chance is not None:
            parts.append("<figcaption>In brackets: by chance.</figcaption>")
        parts.append(heat_map(exhibit.table, exhibit.title))
    return f"<figure>{''.join(parts)}</figure>"


def _picture(picture: Image.Image, title: str) -> str:
    zoom = max(1, _ZOOMED // picture.width) if picture.width <= _SMALL else 1
    width, height = zoom * picture.width, zoom * picture.height
    pixels = ' class="pixels"' if zoom > 1 else ""
    return (
        f'<img src="{exact_uri(picture)}" width="{width}" height="{height}"{pixels} '
        f'loading="lazy" alt="{escape(title)}, {picture.width}x{picture.height} pixels">'
    )


def _protocol(protocol: Mapping[str, Mapping[str, Any]]) -> str:
    tables = []
    for section, values in protocol.items():
        if not values:
            continue
        rows = "".join(
            f'<tr><th scope="row">{escape(name.replace("_", " "))}</th>'
            f"<td>{escape(_plain(value))}</td></tr>"
            for name, value in values.items()
        )
        tables.append(
            f'<h3>{escape(section)}</h3><table class="protocol"><tbody>{rows}</tbody></table>'
        )
    known = "".join(f"<li>{escape(line)}</li>" for line in PUBLISHED)
    return f"""
<section aria-labelledby="protocol"><h2 id="protocol">protocol</h2>
<p class="faint">What these figures depend on beside the model. Compare figures of one protocol
alone.</p>{"".join(tables)}<h3>the published protocol</h3><ul>{known}</ul></section>"""


def _literature(kind: str) -> str:
    numbers = literature.table(kind)
    rows = "".join(
        f'<tr><th scope="row">{escape(number.measure)}</th>'
        f'<td class="number" data-name="value">{_with_spread(number)}</td>'
        f'<td data-name="of">{escape(number.model)}, by {escape(number.by)}</td>'
        f"<td>{escape(number.protocol)} "
        f'<a href="{escape(number.source)}">{escape(number.source)}</a>, read '
        f"{escape(number.checked)}</td></tr>"
        for number in numbers
    )
    if not rows:
        return ""
    head = "".join(
        f'<th scope="col">{name}</th>' for name in ("measure", "value", "model", "protocol, source")
    )
    return f"""
<section aria-labelledby="published"><h2 id="published">published numbers</h2>
<p class="warn">Of other protocols: beside the figures above they say no more than the order of
magnitude.</p>
<table class="figures published"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>
</section>"""


def _with_spread(number: literature.Published) -> str:
    spread = "" if number.spread is None else f" ± {number.spread:g}"
    return f"{number.value:g}{spread}"


def _plain(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
