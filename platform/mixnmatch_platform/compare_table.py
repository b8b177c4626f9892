"""An experiment's runs as a table: for a terminal, as Markdown, as CSV and as JSON."""

import csv
import difflib
import io
from collections import Counter
from collections.abc import Sequence
from typing import Any

from mixnmatch.errors import InputError
from mixnmatch.metrics.figures import Figure
from mixnmatch.metrics.report import ARROWS, finite_or_null, shown
from mixnmatch.metrics.report import columns as aligned
from mixnmatch_platform.compare import Experiment, RunRecord
from mixnmatch_platform.directions import known_mode
from mixnmatch_platform.importance import Importance

__all__ = [
    "as_csv",
    "as_json",
    "as_markdown",
    "as_text",
    "cells",
    "check_columns",
    "default_columns",
    "heads",
    "notes",
    "short",
    "state",
]

FRONT = "*"
"""Mark of the runs on the front."""
COSTS = ("minutes", "device_hours")
FACTS = ("kind", "status", "stages", "protocol", "begun", "run_id", "reason", *COSTS)
"""Columns that are neither figures nor settings."""
_ARROWS = {"min": ARROWS["lower"], "max": ARROWS["higher"], None: ""}


def default_columns(experiment: Experiment) -> list[str]:
    """The usual figures, the settings that differ, the cost, and the protocol where it differs."""
    several = ["protocol"] if len(experiment.protocols) > 1 else []
    stages = ["stages"] if len({run.stages for run in experiment.ranked}) > 1 else []
    return [*experiment.usual, *experiment.differing, *several, *stages, *COSTS]


def check_columns(experiment: Experiment, columns: Sequence[str]) -> None:
    """Refuse columns that no run has.

    Raises:
        InputError: Naming what may have been meant.
    """
    figures = {name for run in experiment.runs for name in run.metrics}
    known = figures | {key for run in experiment.runs for key in run.settings} | set(FACTS)
    for column in columns:
        if column not in known:
            close = difflib.get_close_matches(column, known, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(close)}?" if close else f"there are {FACTS}"
            raise InputError(f"no run of {experiment.name!r} has {column!r}: {hint}")


def as_text(experiment: Experiment, runs: Sequence[RunRecord], columns: Sequence[str]) -> str:
    """The table in aligned columns, with what is to be known of it below."""
    rows = _lines(experiment, runs, columns)
    lines = aligned(rows, left={0, 1, len(rows[0]) - 1})
    return "\n".join([*lines, "", *notes(experiment)])


def as_markdown(experiment: Experiment, runs: Sequence[RunRecord], columns: Sequence[str]) -> str:
    """The table for a page or an issue."""
    rows = _lines(experiment, runs, columns)
    rows.insert(1, ["---"] * len(rows[0]))
    escaped = [[cell.replace("|", r"\|").replace("*", r"\*") for cell in row] for row in rows]
    table = ["| " + " | ".join(row) + " |" for row in escaped]
    return "\n".join([*table, "", *(f"- {note}" for note in notes(experiment))])


def as_csv(experiment: Experiment, runs: Sequence[RunRecord], columns: Sequence[str]) -> str:
    """The table for programs: whole numbers, figures with their intervals in columns of their own.

    ``front`` is 1 for runs on the front, ``ranked`` 1 for those that can be compared.
    """
    figures = {name for run in experiment.runs for name in run.metrics}
    head: list[str] = []
    for column in columns:
        head += [column, f"low/{column}", f"high/{column}"] if column in figures else [column]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", "run_id", "front", "ranked", *head, "status", "reason"])
    for run in runs:
        values: list[Any] = []
        for column in columns:
            figure = run.figure(column)
            if column in figures:
                values += [figure.value, figure.low, figure.high] if figure else [None] * 3
            else:
                values.append(_fact(run, column))
        marks = [int(run in experiment.front), int(run in experiment.ranked)]
        writer.writerow([run.name, run.row.run_id, *marks, *values, run.row.status, run.row.reason])
    return text.getvalue().rstrip("\n")


def as_json(
    experiment: Experiment,
    runs: Sequence[RunRecord],
    columns: Sequence[str],
    importances: Sequence[Importance],
) -> dict[str, Any]:
    """Everything in plain JSON types."""
    content = {
        "experiment": experiment.name,
        "objectives": [
            {"metric": goal.metric, "mode": goal.mode, "chance": experiment.chance(goal.metric)}
            for goal in experiment.objectives
        ],
        "protocols": experiment.protocols,
        "front": [run.name for run in experiment.front],
        "runs": [_json_run(experiment, run, columns) for run in runs],
        "importance": {
            each.metric: {
                "trials": each.trials,
                "shares": each.shares,
                "by_chance": each.by_chance,
                "refused": each.refused or None,
            }
            for each in importances
        },
    }
    found: dict[str, Any] = finite_or_null(content)
    return found


def notes(experiment: Experiment) -> list[str]:
    """What is to be known of the table."""
    lines = []
    goals = experiment.objectives
    if len(goals) > 1:
        names = " and ".join(f"{goal.metric} {_ARROWS[goal.mode]}" for goal in goals)
        lines.append(f"{FRONT} Pareto front of {names}: no other run is better in all of them")
    elif goals:
        lines.append(f"{FRONT} best by {goals[0].metric} {_ARROWS[goals[0].mode]}")
    if experiment.constraints:
        lines.append(f"within {'; '.join(map(str, experiment.constraints))}")
    shown_figures = (run.figure(name) for run in experiment.ranked for name in experiment.usual)
    if any(figure.reach for figure in shown_figures if figure):
        lines.append(
            "± is half of the 95 % interval of the measurement; the luck of a training, which "
            "another seed shows, comes on top"
        )
    known = ((name, experiment.chance(name)) for name in experiment.usual)
    if chances := [f"{name} {shown(value, 3)}" for name, value in known if value is not None]:
        lines.append(f"by chance: {', '.join(chances)}")
    if len(experiment.protocols) > 1:
        counts = ", ".join(f"{name} ({n} runs)" for name, n in experiment.protocols.items())
        how = (
            "ranked together as was asked for" if experiment.across else "only the first is ranked"
        )
        lines.append(
            f"measured in {len(experiment.protocols)} ways, which do not compare: {counts}: {how}; "
            f"`platform compare {experiment.name} --between RUN RUN` says what differs"
        )
    if open_runs := [run for run in experiment.runs if not run.ended]:
        lines.append(
            f"{len(open_runs)} not at their end, without figures: what they measured last is of a "
            "model half trained, or untrained"
        )
    return lines


def short(key: str) -> str:
    """A setting's name without its section, as heads of columns have it."""
    return key.rpartition(".")[2]


def heads(columns: Sequence[str]) -> list[str]:
    """What is written above the columns: short names, with the direction of figures.

    Where two would be alike, as of ``stage1.steps`` and ``stage2.steps``, they stay whole.
    """
    counts = Counter(map(short, columns))
    names = [short(column) if counts[short(column)] == 1 else column for column in columns]
    arrows = [_ARROWS[known_mode(column)] for column in columns]
    heads = [f"{name} {arrow}".rstrip() for name, arrow in zip(names, arrows, strict=True)]
    return [head.replace("device_hours", "device h") for head in heads]


def cells(run: RunRecord, columns: Sequence[str]) -> list[str]:
    """What a run has in the columns, figures with half of their interval."""
    figures = [run.figure(column) for column in columns]
    return [
        _with_reach(figure) if figure else _text(_fact(run, column))
        for figure, column in zip(figures, columns, strict=True)
    ]


def state(experiment: Experiment, run: RunRecord) -> str:
    """What is to be said of a run that did not come to its end, or is not ranked; else nothing."""
    if run.finished:
        return "" if run in experiment.ranked else "measured otherwise"
    return ": ".join(filter(None, (run.row.status.lower(), run.row.reason)))


def _lines(
    experiment: Experiment, runs: Sequence[RunRecord], columns: Sequence[str]
) -> list[list[str]]:
    """The table with its head: a mark, the name, the columns and the state."""
    lines = [["", "run", *heads(columns), ""]]
    for run in runs:
        mark = FRONT if run in experiment.front else ""
        lines.append([mark, run.name, *cells(run, columns), state(experiment, run)])
    return lines


def _fact(run: RunRecord, column: str) -> Any:
    """A setting, or what is known of the run itself."""
    if column in run.settings:
        return run.settings[column]
    if column in ("stages", "protocol"):
        return getattr(run, column)
    return getattr(run.row, column) if column in FACTS else None


def _text(value: Any) -> str:
    return shown(value, 3) if isinstance(value, float) else str(value or "")


def _with_reach(figure: Figure) -> str:
    return shown(figure.value) + (f" ± {shown(figure.reach, 2)}" if figure.reach else "")


def _json_run(experiment: Experiment, run: RunRecord, columns: Sequence[str]) -> dict[str, Any]:
    figures = {name: figure for name in columns if (figure := run.figure(name))}
    return {
        "run": run.name,
        "run_id": run.row.run_id,
        "kind": run.row.kind,
        "status": run.row.status,
        "reason": run.row.reason or None,
        "stages": run.stages or None,
        "protocol": run.protocol,
        "ranked": run in experiment.ranked,
        "front": run in experiment.front,
        "figures": {
            name: {"value": each.value, "low": each.low, "high": each.high}
            for name, each in figures.items()
        },
        "settings": {key: run.settings.get(key) for key in experiment.differing},
        "minutes": run.row.minutes,
        "device_hours": run.row.device_hours,
    }
