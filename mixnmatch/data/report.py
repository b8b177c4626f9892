"""What was found in a data set as one HTML page, with its odd pictures."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from mixnmatch.data.advice import Advice, Judged
from mixnmatch.data.charts import CHART_STYLE, bars, histogram
from mixnmatch.data.check import KINDS, Findings, Odd
from mixnmatch.data.html import escape, page, picture_uri
from mixnmatch.data.limits import GRADES
from mixnmatch.data.pictures import decode_picture
from mixnmatch.data.store import Dataset
from mixnmatch.errors import DataError

SHOWN = 12
"""Pictures of each oddity that are shown; the others are named."""
_THUMBNAIL = 200  # pixels
_INK, _EDGE = (255, 40, 120), (0, 0, 0)

_STYLE = (
    CHART_STYLE
    + """
body { max-width: 70rem; }
.verdict { padding: .8rem 1rem; background: var(--card); border-left: .5rem solid var(--good); }
.verdict strong { font-size: 1.3rem; }
:root { --good: light-dark(#1d7a3a, #6fd58d); --bad: light-dark(#b3261e, #ff9d94); }
.good { color: var(--good); }
.remedy { color: var(--ink); }
.care { color: var(--warn); }
.bad { color: var(--bad); }
.verdict.care { border-color: var(--warn); }
.verdict.bad { border-color: var(--bad); }
.verdict p { color: var(--ink); margin: .3rem 0 0; }
pre {
  white-space: pre-wrap; overflow-wrap: anywhere; padding: .8rem;
  background: var(--card); border: 1px solid var(--line);
}
h3 { font-size: 1rem; margin: 1rem 0 .4rem; }
caption { text-align: left; padding: .6rem 0 .2rem; font-weight: 600; }
.scroll { overflow-x: auto; max-width: 44rem; }
th[scope=row] { font-weight: 600; }
td.number, thead th { white-space: nowrap; }
table.stacked th[scope=row] { min-width: 13rem; }
table.stacked td[data-name=so] { min-width: 6rem; }
.gallery {
  display: grid; gap: .8rem; padding: 0; list-style: none;
  grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr));
}
.gallery li { padding: .5rem; background: var(--card); border: 1px solid var(--line); }
.gallery li { font-size: .85rem; overflow-wrap: anywhere; }
.gallery img { margin: 0 auto .4rem; }
.none { display: grid; place-items: center; height: 6rem; border: 1px dashed var(--line); }
details li { overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  table.stacked, table.stacked tbody { display: block; }
  table.stacked thead {
    display: block; position: absolute; width: 1px; height: 1px; overflow: hidden;
    clip-path: inset(50%);
  }
  table.stacked tr { display: block; padding: .5rem 0; border-bottom: 1px solid var(--line); }
  table.stacked th, table.stacked td { display: block; border: 0; padding: .1rem 0; }
  table.stacked td[data-name] { display: inline-block; margin-right: .9rem; min-width: 0; }
  table.stacked td[data-name]::before { content: attr(data-name) " "; color: var(--faint); }
}
"""
)
_CLASS = dict(zip(GRADES, ("good", "care", "bad"), strict=True))


def report_page(dataset: Dataset, found: Findings, advice: Advice) -> str:
    """The whole page; it asks for no other file.

    Args:
        dataset: Where the odd pictures are read from.
        found: What is odd about it, and its figures.
        advice: What to make of it.
    """
    title = f"Check of {found.name}"
    parts = [
        f"<main><h1>{escape(title)}</h1>",
        _summary(found, advice),
        _thresholds(advice),
        _advice(advice),
        _charts(found),
        _oddities(dataset, found),
        _counts(found),
        "</main>",
    ]
    return page(title, "\n".join(parts), style=_STYLE)


def shown_value(judged: Judged, value: float) -> str:
    """A value, or a threshold for it, in words."""
    if judged.limit.unit == "pictures":
        return f"{value:,.0f}"
    digits = 1 if 0 < value < 0.1 else 0
    return f"{value:.{digits}%}"


def shown_limit(judged: Judged, value: float | None) -> str:
    """A threshold in words, with its direction."""
    if value is None:
        return "any"
    return f"{'≥' if judged.limit.least else '≤'} {shown_value(judged, value)}"


def _summary(found: Findings, advice: Advice) -> str:
    pictures = "picture" if found.count == 1 else "pictures"
    count = f"{found.count:,} {pictures}, {found.training:,} different to train on"
    classes = f"classes: {len(found.classes) or 'none'}"
    info = found.info
    source = escape(info.source or "an unnamed source")
    return (
        f'<div class="verdict {_CLASS[advice.verdict]}"><strong>{escape(advice.verdict)}</strong>'
        f"<p>{count}; {classes}; for a model of {found.image_size} px.</p></div>"
        f'<p class="faint">Layout {escape(str(info.kind))}, made from {source}; '
        f"licence {escape(info.licence)}; fingerprint {escape(info.fingerprint[:12])}.</p>"
    )


def _thresholds(advice: Advice) -> str:
    rows = []
    for judged in advice.judged.values():
        limit = judged.limit
        remedy = (
            ""
            if judged.grade == "good"
            else f'<br><strong class="remedy">{escape(limit.remedy)}</strong>'
        )
        rows.append(
            f'<tr><th scope="row">{escape(limit.name)}</th>'
            f'<td class="number" data-name="found">{shown_value(judged, judged.value)}</td>'
            f'<td class="number" data-name="good">{shown_limit(judged, limit.good)}</td>'
            f'<td class="number" data-name="works">{shown_limit(judged, limit.works)}</td>'
            f'<td class="{_CLASS[judged.grade]}" data-name="so">{escape(judged.grade)}</td>'
            f'<td class="faint">{escape(limit.reason)}{remedy}</td></tr>'
        )
    head = ("measured", "found", "good", "works", "so", "why these limits")
    columns = "".join(f'<th scope="col">{name}</th>' for name in head)
    return (
        '<h2>Verdict</h2><table class="stacked"><thead>'
        f"<tr>{columns}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _advice(advice: Advice) -> str:
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in advice.reasons)
    return (
        "<h2>Settings that fit</h2>"
        f"<pre><code>{escape(advice.options)}</code></pre><ul>{reasons}</ul>"
    )


def _charts(found: Findings) -> str:
    charts = []
    if found.measured:
        free, barren = found.values("free_share"), found.values("barren").mean()
        width, height = found.values("width"), found.values("height")
        charts += [
            histogram(
                "Object's share of the picture",
                found.values("object_share"),
                "{:.0%}".format,
                caption="Area of the box.",
                ends=(0.0, 1.0),
            ),
            histogram(
                "Background patches free of the object",
                free,
                "{:.0%}".format,
                caption=f"On average over all crops {free.mean():.1%}; {barren:.0%} of the crops "
                "have none.",
                ends=(0.0, 1.0),
            ),
            histogram(
                "Enlargement of the object view",
                found.values("enlargement"),
                "{:.2g}×".format,
                caption=f"{(found.values('enlargement') > 1).mean():.0%} are made larger than they "
                f"are, to the view of {found.image_size} px.",
            ),
            histogram(
                "Shorter side of the pictures",
                np.minimum(width, height),
                "{:.0f} px".format,
                caption="In pixels, as stored.",
            ),
        ]
    sizes = sorted((counts.total() for counts in found.classes.values()), reverse=True)
    if len(sizes) > 1:
        middle = sizes[len(sizes) // 2]
        charts.append(
            bars(
                "Pictures of each class",
                sizes,
                ("largest class", "smallest"),
                caption=f"{len(sizes):,} classes; pictures of each: {sizes[-1]:,} to {sizes[0]:,}, "
                f"median {middle:,}.",
            )
        )
    return f'<h2>Figures</h2><div class="charts">{"".join(charts)}</div>' if charts else ""


def _oddities(dataset: Dataset, found: Findings) -> str:
    parts = ["<h2>Odd pictures</h2>"]
    for kind, title in KINDS.items():
        odd = found.odd[kind]
        if not odd:
            continue
        items = "".join(_thumbnail(dataset, item) for item in odd[:SHOWN])
        parts.append(f"<h3>{escape(title)}: {len(odd):,}</h3>")
        parts.append(f'<ul class="gallery">{items}</ul>')
        if len(odd) > SHOWN:
            names = "".join(f"<li>{_named(item)}</li>" for item in odd[SHOWN:])
            parts.append(
                f"<details><summary>{len(odd) - SHOWN:,} more</summary><ul>{names}</ul></details>"
            )
    return "\n".join(parts) if len(parts) > 1 else f"{parts[0]}<p>None.</p>"


def _named(odd: Odd) -> str:
    return f"<b>{odd.id}</b> {escape(odd.source)}: {escape(odd.detail)}"


def _thumbnail(dataset: Dataset, odd: Odd) -> str:
    try:
        record = dataset[odd.row]
        image = decode_picture(record.image, record.source)
    except DataError:
        return f'<li><div class="none">cannot be shown</div>{_named(odd)}</li>'
    factor = _THUMBNAIL / max(image.size)
    size = (max(1, round(factor * image.width)), max(1, round(factor * image.height)))
    small = image.resize(size, Image.Resampling.BILINEAR)
    box = record.box
    note = "no box"
    if box.is_finite and box.area:
        left, top, right, bottom = box.scale(size[0] / image.width, size[1] / image.height).corners
        draw = ImageDraw.Draw(small)
        # Dark inside bright: one of them is seen on any picture.
        for inset, colour in ((0, _INK), (1, _INK), (2, _EDGE)):
            corners = (left + inset, top + inset, right - 1 - inset, bottom - 1 - inset)
            if corners[0] <= corners[2] and corners[1] <= corners[3]:
                draw.rectangle(corners, outline=colour)
        note = "box at ({:.0f}, {:.0f}) of {:.0f}x{:.0f} pixels".format(*box)
    alt = f"{odd.source}, {record.width}x{record.height} pixels, {note}"
    return (
        f'<li><img src="{picture_uri(small)}" width="{size[0]}" height="{size[1]}" '
        f'alt="{escape(alt)}">{_named(odd)}</li>'
    )


def _counts(found: Findings) -> str:
    splits = {name: (count,) for name, count in sorted(found.splits.items())}
    parts = ["<h2>Counts</h2>", _table("Splits", ("split", "pictures"), splits)]
    if found.rejects:
        rejects = {reason: (count,) for reason, count in found.rejects.most_common()}
        parts.append(_table("Left out by ingestion", ("reason", "pictures"), rejects))
        items = "".join(
            f"<li>{escape(reject.source)}: {escape(reject.reason)}</li>"
            for reject in found.info.rejects
        )
        parts.append(f"<details><summary>all of them</summary><ul>{items}</ul></details>")
    if found.classes:
        names = sorted(found.splits)
        rows = {
            name: tuple(counts[split] for split in names) for name, counts in found.classes.items()
        }
        table = _table("Classes", ("class", *names), rows)
        parts.append(f"<details><summary>Pictures of each class</summary>{table}</details>")
    return "\n".join(parts)


def _table(caption: str, head: Iterable[str], rows: Mapping[str, Sequence[int]]) -> str:
    columns = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f'<td class="number">{value:,}</td>' for value in values)
        + "</tr>"
        for name, values in rows.items()
    )
    return (
        f'<div class="scroll"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{columns}</tr></thead><tbody>{lines}</tbody></table></div>"
    )
