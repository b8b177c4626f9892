"""What an experiment came to, in sentences; they are plain text."""

from collections import Counter
from collections.abc import Iterator
from shlex import quote

from mixnmatch.metrics.figures import Figure, noise_between
from mixnmatch.metrics.report import shown, shown_interval
from mixnmatch_platform.compare import FINISHED, Experiment, RunRecord
from mixnmatch_platform.importance import Importance
from mixnmatch_platform.report import Report
from mixnmatch_platform.space import Objective
from mixnmatch_platform.views import view_address

__all__ = ["commands", "failures", "summary"]


PROMOTED = 3
"""Runs of the front for which a command to promote them is given, at most."""


def summary(report: Report) -> Iterator[str]:
    """The whole in a few sentences."""
    experiment = report.experiment
    yield _counts(experiment)
    for goal in experiment.objectives:
        yield from _best(experiment, goal)
    if len(experiment.objectives) > 1 and experiment.front:
        yield _front([run.name for run in experiment.front])
    for each in report.importances:
        yield _importance(each)
    yield _protocol(experiment)


def failures(experiment: Experiment) -> list[RunRecord]:
    """Runs that ended before their end, or were stopped; one may have figures of before."""
    return [run for run in experiment.runs if run.row.status != "RUNNING" and not run.finished]


def commands(report: Report) -> list[tuple[str, str]]:
    """Where to go on: what a command does, and the command."""
    experiment, found = report.experiment, []
    name = quote(experiment.name)
    metric = next((goal.metric for goal in experiment.objectives), "METRIC")
    for run in experiment.front[:PROMOTED]:
        promote = f"platform promote --experiment {name} --run {quote(run.name)} --metric {metric}"
        found.append((f"Make {run.name} the champion", f"{promote} --model {name}"))
    if len(report.best) > 1:
        pair = " ".join(quote(run.name) for run in report.best[:2])
        found.append(
            ("See all that two runs differ in", f"platform compare {name} --between {pair}")
        )
    found.append(("Rank the runs by another figure", f"platform compare {name} --sort METRIC"))
    look = "Look at curves and pictures in MLflow"
    if experiment.uri.startswith("http"):
        found.append(
            (look, view_address(experiment.shown_uri, experiment.experiment_id, experiment.name))
        )
    else:
        server = f"mlflow server --host 127.0.0.1 --backend-store-uri {experiment.shown_uri}"
        found.append((f"{look}, at http://127.0.0.1:5000", server))
    return found


def _counts(experiment: Experiment) -> str:
    states = Counter(
        run.row.status.lower() if run.ended or run.row.status != FINISHED else "stopped early"
        for run in experiment.runs
    )
    counts = ", ".join(f"{number} {state}" for state, number in states.items())
    hours = sum(run.row.device_hours for run in experiment.runs)
    first = min(run.row.begun for run in experiment.runs)
    runs = "run" if len(experiment.runs) == 1 else "runs"
    return (
        f"{len(experiment.runs)} {runs}: {counts}. Together they took {hours:.2f} device hours; "
        f"the first began at {first} UTC."
    )


def _best(experiment: Experiment, goal: Objective) -> Iterator[str]:
    within = (run for run in experiment.ranked if experiment.is_within(run))
    known = [(run, figure) for run in within if (figure := run.figure(goal.metric))]
    if not known:
        bounds = " within the bounds" if experiment.constraints else ""
        yield f"No run has come to a {goal.metric}{bounds} yet."
        return
    sign = 1 if goal.mode == "min" else -1
    known.sort(key=lambda pair: sign * pair[1].value)
    run, figure = known[0]
    interval = shown_interval(figure)
    parts = [
        f"The best {goal.metric}, of which {_less_or_more(goal)} is better, is "
        f"{shown(figure.value)}, by {run.name}"
    ]
    parts.append(f" (95 % interval {interval})" if interval else "")
    parts.append("" if figure.chance is None else f"; chance is {shown(figure.chance, 3)}")
    if len(known) > 1:
        second, other = known[1]
        parts.append(f". {second.name} follows with {shown(other.value)}{_apart(figure, other)}")
    yield "".join(parts) + "."


def _apart(first: Figure, second: Figure) -> str:
    """Whether the measurement tells two figures apart, where that is known."""
    noise = noise_between(first, second)
    if noise is None:
        return ""
    apart = abs(first.value - second.value) > noise
    return ", which is clearly behind" if apart else ", which the measurement cannot tell from it"


def _front(names: list[str]) -> str:
    if len(names) == 1:
        return f"{names[0]} is the best in all objectives: it alone is the Pareto front."
    return (
        f"{_listed(names)} are the Pareto front: no other run beats one of them in all objectives."
    )


def _importance(found: Importance) -> str:
    if found.refused:
        return f"What {found.metric} depends on cannot be said: {found.refused}."
    told = [name for name in found.shares if found.told(name)]
    rests = f"by {found.trials} trials"
    if not told:
        return f"No setting is seen to matter for {found.metric}, {rests}: all lies within chance."
    return f"{found.metric} depends on {_listed(told)}, {rests}; of the others chance may be all."


def _protocol(experiment: Experiment) -> str:
    ways = list(experiment.protocols.items())
    if not ways:
        return "Nothing was measured to the end yet."
    if len(ways) == 1:
        return f"All figures were measured alike ({ways[0][0]})."
    counts = _listed([f"{number} with {name}" for name, number in ways])
    told = (
        "All are ranked together, as was asked for."
        if experiment.across
        else ("Only the first are ranked; figures of different ways do not compare.")
    )
    return f"Runs were measured in {len(ways)} ways: {counts}. {told}"


def _less_or_more(goal: Objective) -> str:
    return "less" if goal.mode == "min" else "more"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
