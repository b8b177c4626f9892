"""What an experiment came to: all that its page shows, read from the store."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mixnmatch_platform.artifacts import LoggedPicture, last_picture
from mixnmatch_platform.compare import Experiment, RunRecord
from mixnmatch_platform.importance import Importance, importance
from mixnmatch_platform.space import Objective
from mixnmatch_platform.store import connect_existing, is_number, mlflow_errors
from mixnmatch_platform.views import SERIES

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["Curve", "Report", "gather"]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """How a figure of a run went."""

    run: RunRecord
    """The run."""
    points: Sequence[tuple[float, float]]
    """Training pictures seen, in stage 1 and stage 2 together, and the figure."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that is shown of an experiment."""

    experiment: Experiment
    """Its runs."""
    best: list[RunRecord]
    """Those whose pictures are shown, best first."""
    pictures: dict[str, LoggedPicture]
    """Their last sheets, by the id of the run; not of each there is one."""
    curves: dict[str, list[Curve]]
    """By objective."""
    importances: list[Importance]
    """By objective."""


def gather(experiment: Experiment, *, best: int) -> Report:
    """Read what a report needs beside the runs themselves.

    Args:
        experiment: The runs.
        best: How many of them to show pictures of.

    Raises:
        InputError: If the store is away.
        RunError: If it fails half-way.
    """
    client = connect_existing(experiment.uri)
    shown = [run for run in experiment.in_order() if run in experiment.ranked][:best]
    with mlflow_errors(f"histories of {experiment.name} could not be read"):
        curves = {
            goal.metric: [_curve(client, run, goal) for run in experiment.ranked]
            for goal in experiment.objectives
        }
    pictures = {run.row.run_id: last_picture(client, run.row.run_id, SERIES) for run in shown}
    return Report(
        experiment=experiment,
        best=shown,
        pictures={key: picture for key, picture in pictures.items() if picture is not None},
        curves={name: [c for c in each if c.points] for name, each in curves.items()},
        importances=[importance(experiment, goal) for goal in experiment.objectives],
    )


def _curve(client: "MlflowClient", run: RunRecord, goal: Objective) -> Curve:
    history = client.get_metric_history(run.row.run_id, goal.metric)
    by_step = {metric.step: metric.value for metric in history if is_number(metric.value)}
    return Curve(run=run, points=[(_images(run, step), by_step[step]) for step in sorted(by_step)])


def _images(run: RunRecord, step: int) -> float:
    """Training pictures seen by a step; stage 2 counts its steps on from the end of stage 1."""
    steps = [int(run.settings.get(f"stage{stage}.steps", 0)) for stage in (1, 2)]
    a_step = [
        run.metrics.get(f"stage{stage}/images", 0.0) / count if count else 0.0
        for stage, count in zip((1, 2), steps, strict=True)
    ]
    first = min(step, steps[0])
    return first * a_step[0] + (step - first) * a_step[1]
