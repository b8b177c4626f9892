"""Which settings a figure depends on, with what chance makes of as many trials.

Shares are functional ANOVA's (Optuna's ``FanovaImportanceEvaluator``): how much of the spread of a
figure over the searched space each setting explains alone, by a random forest. A forest finds
something in anything. So the same is done with the figures dealt out at random: what a setting is
given then, at most, is what its own share must exceed.
"""

import random
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mixnmatch.metrics.report import columns
from mixnmatch.settings import parse_assignment
from mixnmatch_platform.compare import PLACES, Experiment
from mixnmatch_platform.space import FINE, PER_SUPER, SUPERS, Objective

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

__all__ = ["Importance", "importance", "importance_lines"]

LEAST_TRIALS = 10
"""Below which nothing is said, whatever the space."""
TRIALS_A_SETTING = 4
"""Needed for each setting that varies."""
TREES = 32
SHUFFLES = 19
"""Deals of the figures among the trials: a setting beyond all of them is beyond chance in 19 of 20
cases."""
FEW_VALUES = 4
"""Numbers of so few different values, or fewer, are taken for choices."""


@dataclass(frozen=True, kw_only=True)
class Importance:
    """What the settings do to one figure."""

    metric: str
    """The figure."""
    trials: int
    """Number of runs that it rests on."""
    shares: dict[str, float]
    """Of each setting that varies, largest first; together 1. Empty where ``refused``."""
    by_chance: dict[str, float]
    """The largest share of each that dealt-out figures gave it."""
    refused: str = ""
    """Why nothing is said."""

    def told(self, setting: str) -> bool:
        """Whether a setting's share is more than chance gives it."""
        return self.shares[setting] > self.by_chance[setting]


def importance(experiment: Experiment, goal: Objective) -> Importance:
    """Ask which settings matter.

    It rests on the ranked runs that are not another one trained on.

    Args:
        experiment: The runs.
        goal: The figure.
    """
    runs = [run for run in experiment.ranked if run.row.kind != "refit"]
    known = [(run.settings, figure.value) for run in runs if (figure := run.figure(goal.metric))]
    table = _varying([settings for settings, _ in known])
    values = [value for _, value in known]
    needed = max(LEAST_TRIALS, TRIALS_A_SETTING * len(table))
    refused = ""
    if not table:
        refused = "no setting varies"
    elif len(values) < needed:
        refused = f"{len(values)} trials are too few for {len(table)} settings: it takes {needed}"
    elif len(set(values)) == 1:
        refused = "all trials have the same figure"
    if refused:
        return Importance(
            metric=goal.metric, trials=len(values), shares={}, by_chance={}, refused=refused
        )
    distributions = {name: _distribution(column) for name, column in table.items()}
    rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    shares = _shares(rows, distributions, values)
    dealt = random.Random(0)
    chances = [
        _shares(rows, distributions, dealt.sample(values, len(values))) for _ in range(SHUFFLES)
    ]
    return Importance(
        metric=goal.metric,
        trials=len(values),
        shares=dict(sorted(shares.items(), key=lambda item: -item[1])),
        by_chance={name: max(each[name] for each in chances) for name in shares},
    )


def importance_lines(found: Importance) -> list[str]:
    """In words, for a terminal."""
    if found.refused:
        return [f"what {found.metric} depends on: not said, {found.refused}"]
    head = (f"what {found.metric} depends on, by {found.trials} trials", "share", "by chance")
    rows = [
        (
            f"  {name}",
            f"{share:.2f}",
            f"to {found.by_chance[name]:.2f}",
            "" if found.told(name) else "not told from chance",
        )
        for name, share in found.shares.items()
    ]
    return list(columns([(*head, ""), *rows]))


def _varying(settings: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    """The settings that differ, each with its value in every run.

    Numbers of textures are those of each shape, as spaces choose them: the product of both would
    repeat what the number of shapes says.
    """
    rows = [{k: v for k, v in each.items() if k not in PLACES} for each in settings]
    counts = [(int(row.get(SUPERS, 0)), int(row.get(FINE, 0))) for row in rows]
    if all(supers and fine and not fine % supers for supers, fine in counts):
        for row, (supers, fine) in zip(rows, counts, strict=True):
            del row[FINE]
            row[PER_SUPER] = str(fine // supers)
    keys = sorted({key for row in rows for key in row})
    columns = {key: [row.get(key, "") for row in rows] for key in keys}
    return {key: column for key, column in columns.items() if len(set(column)) > 1}


def _distribution(column: Sequence[str]) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    numbers = [parse_assignment(f"x={text}")[1] for text in column]
    plain = all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers)
    if not plain or len(set(numbers)) <= FEW_VALUES:
        return CategoricalDistribution(sorted(set(column)))
    return FloatDistribution(min(numbers), max(numbers), log=min(numbers) > 0)


def _shares(
    rows: Sequence[Mapping[str, str]],
    distributions: "Mapping[str, BaseDistribution]",
    values: Sequence[float],
) -> dict[str, float]:
    import optuna
    from optuna.distributions import FloatDistribution

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    for row, value in zip(rows, values, strict=True):
        params = {
            name: float(row[name]) if isinstance(kind, FloatDistribution) else row[name]
            for name, kind in distributions.items()
        }
        trial = optuna.trial.create_trial(
            params=params, distributions=dict(distributions), values=[value]
        )
        study.add_trial(trial)
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=TREES, seed=0)
    with warnings.catch_warnings(action="ignore"):
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(share) for name, share in found.items()}
