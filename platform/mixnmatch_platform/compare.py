"""The runs of an experiment side by side: what they differ in, and what came of it.

Only figures of runs that came to their end count: what the others have recorded last is of a model
half trained, or not trained at all. And only those of one protocol are ranked together, unless it
is asked for: the one that most runs have.
"""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from mixnmatch.errors import InputError, without_passwords
from mixnmatch.metrics.figures import Figure, recorded
from mixnmatch_platform.directions import Mode, known_mode
from mixnmatch_platform.listing import RunRow, is_usual, read_runs, row_of
from mixnmatch_platform.pareto import front
from mixnmatch_platform.protocols import PROTOCOL_TAG, protocol_key, read_protocol
from mixnmatch_platform.space import Constraint, Objective
from mixnmatch_platform.store import connect_existing, numbers
from mixnmatch_platform.tracking import STAGES_TAG

if TYPE_CHECKING:
    from mlflow.entities import Run

__all__ = [
    "PLACES",
    "Experiment",
    "RunRecord",
    "parse_objective",
    "parse_objectives",
    "read_experiment",
]

FINISHED = "FINISHED"
"""MLflow's status of a run whose last part came to its end, or was asked to end."""
ON_THE_WAY = "training/"
"""Beginning of figures that are measured within the training, and are what they say at any time."""
UNKNOWN = "not recorded"
"""The protocol of runs that tell none."""
PLACES = ("data", "evaluation.batch_size")
"""Parameters that change no figure."""
BETTER: Mapping[Mode, str] = {"min": "lower", "max": "higher"}


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A run with all that was recorded of it."""

    row: RunRow
    """Its name, status and cost."""
    stages: str
    """What it has been through, ``1`` or ``1+2``; empty where it did not come to its end."""
    protocol: str
    """Short name of how its figures were measured."""
    settings: dict[str, str]
    """Its flat configuration."""
    metrics: dict[str, float]
    """Last value of all that was recorded, what is no number left out."""
    tags: dict[str, str]
    """As MLflow has them."""

    @property
    def name(self) -> str:
        """Its name."""
        return self.row.name

    @property
    def ended(self) -> bool:
        """Whether it came to its end, be it that it was then trained on."""
        return bool(self.stages)

    @property
    def finished(self) -> bool:
        """Whether it came to its end, and nothing has gone wrong with it since."""
        return self.ended and self.row.status == FINISHED

    def figure(self, metric: str) -> Figure | None:
        """A figure with its interval and chance level; None where it has none that counts."""
        figure = recorded(self.metrics, metric)
        if figure is None or not (self.ended or metric.startswith(ON_THE_WAY)):
            return None
        mode = known_mode(metric.removeprefix(ON_THE_WAY))
        return dataclasses.replace(figure, better=BETTER[mode] if mode else None)


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """The runs of one experiment, and what they are compared by."""

    name: str
    """Of MLflow."""
    uri: str
    """The store."""
    experiment_id: str
    """Its number there."""
    runs: tuple[RunRecord, ...]
    """All but the sweeps' own, oldest first."""
    objectives: tuple[Objective, ...] = ()
    """Figures to compare by."""
    constraints: tuple[Constraint, ...] = ()
    """Bounds within which a run must be to be on the front."""
    across: bool = False
    """Whether runs of all protocols are ranked together."""

    @cached_property
    def protocols(self) -> dict[str, int]:
        """How many runs that came to their end were measured each way, the most frequent first.

        Those that tell none are last: they need not even agree with each other.
        """
        counts = Counter(run.protocol for run in self.runs if run.ended).most_common()
        return dict(sorted(counts, key=lambda each: each[0] == UNKNOWN))

    @cached_property
    def ranked(self) -> tuple[RunRecord, ...]:
        """The runs that can be compared."""
        main = next(iter(self.protocols), None)
        return tuple(
            run for run in self.runs if run.ended and (self.across or run.protocol == main)
        )

    @cached_property
    def front(self) -> tuple[RunRecord, ...]:
        """The best run by one objective; by several, those that no other one beats in all."""
        if not self.objectives:
            return ()
        values = {}
        for run in self.ranked:
            figures = [run.figure(goal.metric) for goal in self.objectives]
            known = [figure.value for figure in figures if figure is not None]
            if len(known) == len(figures) and self.is_within(run):
                values[run.row.run_id] = known
        candidates = [run for run in self.ranked if run.row.run_id in values]
        places = front(list(values.values()), [goal.mode for goal in self.objectives])
        best = sorted((candidates[n] for n in places), key=self._order)
        return tuple(best[: 1 if len(self.objectives) == 1 else None])

    @cached_property
    def differing(self) -> list[str]:
        """Settings in which the runs differ, in the order of their names."""
        keys = sorted({key for run in self.runs for key in run.settings} - set(PLACES))
        return [key for key in keys if len({run.settings.get(key) for run in self.runs}) > 1]

    @cached_property
    def usual(self) -> list[str]:
        """Figures worth a column: the objectives, and the usual ones of these runs."""
        found = {name for run in self.runs if run.ended for name in run.metrics}
        objectives = [goal.metric for goal in self.objectives]
        return list(dict.fromkeys([*objectives, *sorted(filter(is_usual, found))]))

    @property
    def shown_uri(self) -> str:
        """The store, for people: without a password."""
        return without_passwords(self.uri)

    def is_within(self, run: RunRecord) -> bool:
        """Whether a run keeps to all constraints."""
        return all(constraint.violation(run.metrics) <= 0 for constraint in self.constraints)

    def chance(self, metric: str) -> float | None:
        """What a model that knows nothing gets, where the ranked runs know it."""
        figures = (run.figure(metric) for run in self.ranked)
        return next((f.chance for f in figures if f is not None and f.chance is not None), None)

    def in_order(self, by: Objective | None = None) -> list[RunRecord]:
        """The runs, best first; those that are not ranked come last, as they began.

        Args:
            by: The figure; else the front comes first, then what is good by the first objective.
        """
        ranked = {run.row.run_id for run in self.ranked}
        fronts = {run.row.run_id for run in self.front} if by is None else set()
        return sorted(
            self.runs,
            key=lambda run: (
                run.row.run_id not in ranked,
                run.row.run_id not in fronts,
                self._order(run, by) if run.row.run_id in ranked else 0.0,
            ),
        )

    def run(self, name: str) -> RunRecord:
        """A run by its name or the beginning of its id; of several of a name the newest.

        Raises:
            InputError: If there is none, or ids of several begin so.
        """
        named = [run for run in self.runs if run.name == name]
        if named:
            return named[-1]
        found = [run for run in self.runs if len(name) > 3 and run.row.run_id.startswith(name)]
        if len(found) != 1:
            known = ", ".join(run.name for run in self.runs)
            which = "more than one run" if found else "no run"
            raise InputError(f"{which} {name!r} in experiment {self.name!r}: there are {known}")
        return found[0]

    def _order(self, run: RunRecord, by: Objective | None = None) -> float:
        goal = by or (self.objectives[0] if self.objectives else None)
        figure = run.figure(goal.metric) if goal else None
        if goal is None or figure is None:
            return math.inf
        return figure.value if goal.mode == "min" else -figure.value


def read_experiment(
    uri: str, name: str, objectives: Sequence[Objective] = (), *, across: bool = False
) -> Experiment:
    """Read an experiment.

    Args:
        uri: The store.
        name: Of the experiment.
        objectives: What to compare by; else what its newest sweep has optimised.
        across: Whether to rank runs of all protocols together.

    Raises:
        InputError: If the store is away, there is no such experiment, nothing was run in it, or no
            run that came to its end has an objective.
    """
    client = connect_existing(uri)
    found = [run for run, _ in read_runs(uri, name)]
    sweeps = [run for run in found if run.data.tags.get("mixnmatch.kind") == "sweep"]
    records = []
    for run in found:
        if run in sweeps:
            continue
        ended = STAGES_TAG in run.data.tags
        key = run.data.tags.get(PROTOCOL_TAG)
        if key is None and ended:  # of a time before the tag
            protocol = read_protocol(client, run.info.run_id)
            key = protocol_key(protocol) if protocol else None
        records.append(_record(run, name, key or UNKNOWN))
    if not records:
        raise InputError(f"experiment {name!r} has no runs yet: train or sweep first")
    params = sweeps[-1].data.params if sweeps else {}
    experiment = Experiment(
        name=name,
        uri=uri,
        experiment_id=str(found[0].info.experiment_id),
        runs=tuple(records),
        objectives=tuple(objectives) or parse_objectives(params.get("objectives")),
        constraints=_constraints(params.get("constraints", "")),
        across=across,
    )
    _check(experiment, objectives)
    return experiment


def parse_objective(text: str) -> Objective:
    """An objective from ``METRIC``, or ``min METRIC`` (or ``min:METRIC``) where that is not known.

    Raises:
        ConfigError: If more of it is better and less was asked for, or the other way round.
        InputError: If it is not known which is better.
    """
    mode, _, metric = text.strip().replace(":", " ", 1).partition(" ")
    if mode in ("min", "max") and metric:
        return Objective(metric.strip(), "min" if mode == "min" else "max")
    known = known_mode(text.strip())
    if known is None:
        raise InputError(
            f"{text.strip()}: its name does not tell whether less or more is better: write "
            f"min:{text.strip()} or max:{text.strip()}"
        )
    return Objective(text.strip(), known)


def parse_objectives(text: str | None) -> tuple[Objective, ...]:
    """Objectives separated by commas, each as for ``parse_objective``."""
    return tuple(parse_objective(part) for part in (text or "").split(",") if part.strip())


def _record(run: "Run", experiment: str, protocol: str) -> RunRecord:
    return RunRecord(
        row=dataclasses.replace(row_of(run, experiment), figures={}),
        stages=run.data.tags.get(STAGES_TAG, ""),
        protocol=protocol,
        settings=dict(run.data.params),
        metrics=numbers(run.data.metrics),
        tags=dict(run.data.tags),
    )


def _constraints(text: str) -> tuple[Constraint, ...]:
    """Those of a sweep, from what it has recorded: ``Constraint`` as text."""
    found = []
    for part in filter(None, (each.strip() for each in text.split(";"))):
        ends = {end: re.search(rf"at {end} (\S+)", part) for end in ("least", "most")}
        low, high = ends["least"], ends["most"]
        found.append(
            Constraint(
                metric=part.split()[0],
                low=float(low[1]) if low else -math.inf,
                high=float(high[1]) if high else math.inf,
            )
        )
    return tuple(found)


def _check(experiment: Experiment, asked: Sequence[Objective]) -> None:
    known = sorted({name for run in experiment.runs if run.ended for name in run.metrics})
    for goal in asked:
        if goal.metric not in known:
            headlines = ", ".join(name for name in known if "/" not in name) or "none yet"
            raise InputError(
                f"no run of {experiment.name!r} that came to its end has {goal.metric}: they have "
                f"{headlines}"
            )
