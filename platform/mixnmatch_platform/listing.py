"""The runs of an MLflow store as rows, trials below their sweep."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mixnmatch.errors import InputError
from mixnmatch.metrics.report import columns
from mixnmatch_platform.reap import PARENT_TAG
from mixnmatch_platform.store import all_runs, connect_existing, experiment_names, mlflow_errors
from mixnmatch_platform.tracking import REASON_TAG

if TYPE_CHECKING:
    from mlflow.entities import Run

__all__ = ["RunRow", "is_usual", "list_runs", "read_runs", "row_of", "table"]

SHOWN = ("disentanglement_accuracy", "fid_", "frechet_")
"""Beginnings of the figures shown without a wish; those with a slash are details."""


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """One run."""

    experiment: str
    """Its experiment."""
    name: str
    """Its name."""
    run_id: str
    """Of MLflow."""
    parent: str | None
    """Run of its sweep."""
    kind: str
    """``sweep``, ``trial``, ``refit`` or ``run``."""
    status: str
    """As MLflow has it."""
    reason: str
    """Why it ended early."""
    begun: str
    """UTC."""
    minutes: float
    """So far, or in all."""
    device_hours: float
    """That its workers took."""
    figures: dict[str, float]
    """Last value of each figure shown."""


def read_runs(uri: str, experiment: str | None = None) -> "list[tuple[Run, str]]":
    """All runs of an experiment, or of all of them, oldest first, with their experiments' names.

    Raises:
        InputError: If the store is away, or has no such experiment.
    """
    client = connect_existing(uri)
    with mlflow_errors("runs could not be read"):
        names = experiment_names(client)
        if experiment is not None:
            kept = {key: name for key, name in names.items() if name == experiment}
            if not kept:
                known = ", ".join(sorted(names.values())) or "none"
                raise InputError(f"no experiment {experiment!r} in {uri}: there is {known}")
            names = kept
        runs = all_runs(client, names, order_by=["attributes.start_time ASC"])
        return [(run, names[run.info.experiment_id]) for run in runs]


def list_runs(uri: str, experiment: str | None, metrics: Sequence[str] = ()) -> list[RunRow]:
    """All runs of an experiment, or of all of them, oldest first; trials follow their sweep.

    Args:
        uri: The store.
        experiment: Its name.
        metrics: Figures to show instead of the usual ones.

    Raises:
        InputError: If the store is away, or has no such experiment.
    """
    rows = [row_of(run, name, metrics) for run, name in read_runs(uri, experiment)]
    there = {row.run_id for row in rows}
    top = [row for row in rows if row.parent not in there]
    return [each for row in top for each in (row, *(r for r in rows if r.parent == row.run_id))]


def table(rows: Sequence[RunRow]) -> str:
    """Rows as text in columns."""
    figures = list(dict.fromkeys(name for row in rows for name in row.figures))
    lines = [["run", "status", "begun (UTC)", "minutes", "device h", *figures, ""]]
    for row in rows:
        name = f"  {row.name}" if row.parent else f"{row.experiment}/{row.name}"
        values = [f"{row.figures[f]:.3f}" if f in row.figures else "" for f in figures]
        spent = [f"{row.minutes:.1f}", f"{row.device_hours:.2f}"]
        lines.append([name, row.status.lower(), row.begun, *spent, *values, row.reason])
    names_and_reason = {0, 1, 2, len(lines[0]) - 1}
    return "\n".join(columns(lines, left=names_and_reason))


def row_of(run: "Run", experiment: str, metrics: Sequence[str] = ()) -> RunRow:
    """One run as a row."""
    tags, values = run.data.tags, run.data.metrics
    end = run.info.end_time or 1000 * time.time()
    shown = [m for m in metrics if m in values] if metrics else sorted(filter(is_usual, values))
    return RunRow(
        experiment=experiment,
        name=run.info.run_name,
        run_id=run.info.run_id,
        parent=tags.get(PARENT_TAG),
        kind=tags.get("mixnmatch.kind", "run"),
        status=run.info.status,
        reason=tags.get(REASON_TAG, ""),
        begun=time.strftime("%Y-%m-%d %H:%M", time.gmtime(run.info.start_time / 1000)),
        minutes=round((end - run.info.start_time) / 60_000, 2),
        device_hours=round(values.get("cost/device_seconds", 0.0) / 3600, 3),
        figures={name: values[name] for name in shown},
    )


def is_usual(name: str) -> bool:
    """Whether a figure is shown without a wish."""
    return (
        name.startswith(SHOWN) and "/" not in name and not name.endswith(("_stderr", "_untrained"))
    )
