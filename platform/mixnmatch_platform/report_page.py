"""The report of an experiment as a page that stands alone."""

import io
from collections.abc import Sequence

from PIL import Image

from mixnmatch.data.html import escape, exact_uri, page
from mixnmatch.metrics.report import shown
from mixnmatch_platform import report_charts
from mixnmatch_platform.compare import Experiment, RunRecord
from mixnmatch_platform.compare_table import cells, default_columns, heads, notes, state
from mixnmatch_platform.directions import known_mode
from mixnmatch_platform.importance import Importance
from mixnmatch_platform.report import Curve, Report
from mixnmatch_platform.report_charts import Line, Point
from mixnmatch_platform.report_words import commands, failures, summary

__all__ = ["report_page"]

_ZOOMED = 640
"""Width in pixels to which small pictures are enlarged by whole factors."""
_ARROWS = {"min": " (less is better)", "max": " (more is better)", None: ""}

_STYLE = (
    report_charts.CHART_STYLE
    + """
body { max-width: 72rem; }
h2 { margin-top: 2.2rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; overflow-wrap: anywhere; }
nav ul { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; padding: 0; list-style: none; }
.summary li { margin: .3rem 0; max-width: 60rem; overflow-wrap: anywhere; }
figure { margin: 0 0 1rem; padding: .8rem; background: var(--card); border: 1px solid var(--line); }
figure { min-width: 0; }
figcaption { font-size: .9rem; color: var(--faint); margin-bottom: .6rem; overflow-wrap: anywhere; }
img.pixels { image-rendering: pixelated; }
.strips, .charts {
  display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 30rem), 1fr));
}
.scroll { overflow-x: auto; }
table.runs { width: auto; min-width: 100%; }
table.runs th, table.runs td { white-space: nowrap; overflow-wrap: normal; padding-right: 1rem; }
table.runs td.number, table.runs th.number, td.number, th.number { text-align: right; }
td.number { font-variant-numeric: tabular-nums; }
table.runs tr.best th[scope=row] { color: var(--accent); font-weight: 700; }
table th[scope=row] { font-weight: 500; }
table.settings th { overflow-wrap: normal; white-space: nowrap; padding-right: 1rem; }
table.settings td { padding-right: 1rem; white-space: nowrap; }
table.settings th.bar { width: 45%; }
pre {
  margin: .2rem 0 1rem; white-space: pre-wrap; overflow-wrap: anywhere; padding: .6rem .8rem;
  background: var(--card); border: 1px solid var(--line);
}
@media (max-width: 44rem) { body { padding: .7rem; } figure { padding: .5rem; } }
"""
)


def report_page(report: Report) -> str:
    """The whole page; it asks for no other file."""
    experiment = report.experiment
    title = f"Report of {experiment.name}"
    sections = {
        "trade-off": _trade_off(experiment),
        "settings that matter": _importances(report.importances),
        "learning": _learning(report),
        "pictures": _strips(report),
        "runs": _runs(experiment),
        "what did not come to its end": _failures(experiment),
        "where to go on": _commands(report),
    }
    sections = {name: body for name, body in sections.items() if body}
    links = "".join(f'<li><a href="#{_id(name)}">{escape(name)}</a></li>' for name in sections)
    words = "".join(f"<li>{escape(sentence)}</li>" for sentence in summary(report))
    blocks = "".join(
        f'<section aria-labelledby="{_id(name)}"><h2 id="{_id(name)}">'
        f"{escape(name[0].upper() + name[1:])}</h2>{body}</section>"
        for name, body in sections.items()
    )
    body = f"""
<header><h1>{escape(title)}</h1><nav aria-label="Sections"><ul>{links}</ul></nav></header>
<main><ul class="summary" aria-label="Summary">{words}</ul>
{blocks}</main>"""
    return page(title, body, style=_STYLE)


def _trade_off(experiment: Experiment) -> str:
    names = list(dict.fromkeys(experiment.usual))[:2]
    if len(names) < 2:
        return ""
    y, x = sorted(names, key=lambda name: known_mode(name) != "max")
    front = {run.row.run_id for run in experiment.front}
    points = [
        Point(name=run.name, x=across, y=up, best=run.row.run_id in front)
        for run in experiment.ranked
        if (across := run.figure(x)) and (up := run.figure(y))
    ]
    if not points:
        return ""
    # A line through the front says something only of its own two axes.
    drawn = {goal.metric for goal in experiment.objectives} == {x, y}
    chart = report_charts.scatter(
        points,
        x=x + _ARROWS[known_mode(x)],
        y=y + _ARROWS[known_mode(y)],
        title=f"{y} against {x}, a mark for each run",
        front=[run.name for run in experiment.front] if drawn else (),
    )
    filled = "the Pareto front" if len(experiment.objectives) > 1 else "the best run"
    caption = f"A mark for each run, named under the pointer or the focus; filled: {filled}. "
    caption += "Bars are 95 % intervals of the measurement, where known; broken lines are chance."
    return f"<figure><figcaption>{escape(caption)}</figcaption>{chart}</figure>"


def _importances(found: Sequence[Importance]) -> str:
    return "".join(_importance(each) for each in found)


def _importance(found: Importance) -> str:
    title = f"<h3>{escape(found.metric)}</h3>"
    if found.refused:
        return f'{title}<p class="faint">Not said: {escape(found.refused)}.</p>'
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="number">{share:.2f}</td>'
        f'<td class="number">{found.by_chance[name]:.2f}</td>'
        f"<td>{report_charts.shares(share, found.by_chance[name], f'share {share:.2f}')}</td>"
        f'<td class="faint">{"" if found.told(name) else "not told from chance"}</td></tr>'
        for name, share in found.shares.items()
    )
    head = "".join(
        f'<th scope="col"{mark}>{name}</th>'
        for name, mark in (
            ("setting", ""),
            ("share", ' class="number"'),
            ("chance, up to", ' class="number"'),
            ("grey: chance", ' class="bar"'),
            ("", ""),
        )
    )
    caption = (
        f"By {found.trials} trials: which share of the spread of {found.metric} each setting "
        "explains alone (functional ANOVA of a random forest), and the most that it was given when "
        "the figures were dealt out at random."
    )
    return (
        f'{title}<p class="faint">{escape(caption)}</p><div class="scroll" tabindex="0" '
        f'role="region" aria-label="Settings for {escape(found.metric)}">'
        f'<table class="settings"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _learning(report: Report) -> str:
    charts = [_curves(report, name, found) for name, found in report.curves.items() if found]
    return f'<div class="charts">{"".join(charts)}</div>' if charts else ""


def _curves(report: Report, metric: str, found: Sequence[Curve]) -> str:
    best = {run.row.run_id for run in report.experiment.front}
    chart = report_charts.curves(
        [Line(name=c.run.name, points=c.points, best=c.run.row.run_id in best) for c in found],
        x="training pictures seen, of both stages",
        y=metric + _ARROWS[known_mode(metric)],
        title=f"{metric} of each run as it learns",
        chance=report.experiment.chance(metric),
    )
    caption = f"{metric} from the untrained model on, at each evaluation of all samples"
    return f"<figure><figcaption>{escape(caption)}</figcaption>{chart}</figure>"


def _strips(report: Report) -> str:
    strips = [_strip(report, run) for run in report.best if run.row.run_id in report.pictures]
    if not strips:
        return ""
    told = (
        "The last sheets that the best runs recorded as they learned: held-out pictures, encoded "
        "and painted again, and pictures of sampled codes."
    )
    return f'<p class="faint">{told}</p><div class="strips">{"".join(strips)}</div>'


def _strip(report: Report, run: RunRecord) -> str:
    logged = report.pictures[run.row.run_id]
    with Image.open(io.BytesIO(logged.png)) as opened:
        picture = opened.convert("RGB")
    zoom = max(1, _ZOOMED // picture.width)
    pixels = ' class="pixels"' if zoom > 1 else ""
    figures = ", ".join(
        f"{goal.metric} {shown(figure.value)}"
        for goal in report.experiment.objectives
        if (figure := run.figure(goal.metric))
    )
    return (
        f"<figure><h3>{escape(run.name)}</h3>"
        f"<figcaption>{escape(figures)}; at step {logged.step:,}</figcaption>"
        f'<img src="{exact_uri(picture)}" width="{zoom * picture.width}" '
        f'height="{zoom * picture.height}"{pixels} '
        f'alt="Sample sheet of {escape(run.name)} at step {logged.step}"></figure>'
    )


def _runs(experiment: Experiment) -> str:
    columns = default_columns(experiment)
    head = "".join(
        f'<th scope="col" class="number" title="{escape(column)}">{escape(name)}</th>'
        for column, name in zip(columns, heads(columns), strict=True)
    )
    rows = "".join(_run_row(experiment, run, columns) for run in experiment.in_order())
    said = "".join(f"<li>{escape(note)}</li>" for note in notes(experiment))
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="All runs">'
        f'<table class="runs"><thead><tr><th scope="col">run</th>{head}<th scope="col">state</th>'
        f'</tr></thead><tbody>{rows}</tbody></table></div><ul class="faint">{said}</ul>'
    )


def _run_row(experiment: Experiment, run: RunRecord, columns: Sequence[str]) -> str:
    best = ' class="best"' if run in experiment.front else ""
    values = "".join(f'<td class="number">{escape(cell)}</td>' for cell in cells(run, columns))
    return (
        f'<tr{best}><th scope="row">{escape(run.name)}</th>{values}'
        f"<td>{escape(state(experiment, run))}</td></tr>"
    )


def _failures(experiment: Experiment) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(run.name)}</th><td>{escape(run.row.status.lower())}</td>'
        f"<td>{escape(run.row.reason or 'it gave no reason')}</td></tr>"
        for run in failures(experiment)
    )
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{name}</th>' for name in ("run", "status", "reason"))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _commands(report: Report) -> str:
    return "".join(
        f"<p>{escape(what)}:</p><pre>{escape(command)}</pre>" for what, command in commands(report)
    )


def _id(name: str) -> str:
    return name.replace(" ", "-")
