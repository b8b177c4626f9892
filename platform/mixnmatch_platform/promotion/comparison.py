"""Is a candidate better than the champion, on the same evaluation and by more than the noise?

Figures that training has recorded are compared where both were measured under the same conditions
and have 95 % intervals. Else, or if it is asked for, both models are measured again, several times
with other samples but each time with the same ones, and the differences are what counts. The
candidate was chosen as the best of many by its recorded figure, which is flattered by that; new
samples flatter no one.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mixnmatch.bundle import load_bundle
from mixnmatch.config import RunConfig
from mixnmatch.data.store import Dataset
from mixnmatch.errors import InputError
from mixnmatch.metrics.evaluate import Runner, applicable, evaluate
from mixnmatch.metrics.figures import noise_between, recorded
from mixnmatch.metrics.measure import Subject
from mixnmatch.settings import override
from mixnmatch_platform.directions import Mode
from mixnmatch_platform.promotion.candidates import Opened
from mixnmatch_platform.promotion.gates import Verdict
from mixnmatch_platform.protocols import differences
from mixnmatch_platform.store import numbers

__all__ = ["Comparison", "compare_again", "compare_recorded"]

FIRST_SEED = 1_000
"""Of evaluations made again: none that training takes by default."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """A candidate beside the champion."""

    candidate: float
    """The figure of the candidate: recorded, or the mean of the repeated evaluations."""
    champion: float
    """That of the champion."""
    noise: float
    """How far apart two equal models would be in 19 of 20 cases, at most."""
    mode: Mode
    """Whether less or more is better."""
    how: str
    """What it rests on."""

    @property
    def gain(self) -> float:
        """By how much the candidate is better; negative where it is worse."""
        difference = self.candidate - self.champion
        return difference if self.mode == "max" else -difference

    def verdict(self, metric: str, version: int) -> Verdict:
        """In words."""
        return Verdict(
            gate="better than the champion",
            passed=self.gain > self.noise,
            said=f"{metric} {self.candidate:.4g}, champion v{version} has {self.champion:.4g}: "
            f"better by {self.gain:.3g}, noise is {self.noise:.3g} ({self.how})",
        )


def compare_recorded(
    metric: str, mode: Mode, candidate: Opened, champion: Opened
) -> Comparison | str:
    """Compare what training has recorded, or say why that cannot be done."""
    figures = []
    for name, model in (("candidate", candidate), ("champion", champion)):
        figure = recorded(numbers(model.metrics), metric)
        if figure is None:
            return f"the {name} has no {metric}"
        if figure.reach is None:
            return f"{metric} of the {name} has no interval"
        figures.append(figure)
    one, other = figures
    noise = noise_between(one, other)
    assert noise is not None
    if candidate.protocol is None or champion.protocol is None:
        return "it was not recorded how they were measured"
    if unlike := differences(candidate.protocol, champion.protocol):
        said = ", ".join(f"{name} {a} and {b}" for name, (a, b) in unlike.items())
        return f"they were measured otherwise ({said})"
    return Comparison(
        candidate=one.value,
        champion=other.value,
        noise=noise,
        mode=mode,
        how="recorded, their 95 % intervals added in squares",
    )


def compare_again(
    metric: str,
    mode: Mode,
    candidate: Path,
    champion: Path,
    dataset: Dataset,
    *,
    seeds: int,
    runner: Runner,
    said: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Measure two models again on the same samples, several times.

    Args:
        metric: The figure.
        mode: Whether less or more of it is better.
        candidate: A bundle; its settings of evaluation are those of both.
        champion: Another.
        dataset: To measure them on.
        seeds: How many times, at least two.
        runner: Where cases are observed.
        said: Told before each evaluation.

    Raises:
        InputError: If the metric is not measured on that data set, the pictures of the models
            differ in size, or fewer than two seeds are wanted.
    """
    from scipy.stats import t as student

    if seeds < 2:
        raise InputError(f"--seeds is {seeds}: noise needs at least 2")
    bundles = [load_bundle(path) for path in (candidate, champion)]
    sides = [bundle.config.model.image_size for bundle in bundles]
    if sides[0] != sides[1]:
        raise InputError(
            f"gate better than the champion: it paints {sides[1]} px, the candidate {sides[0]} px, "
            "and figures of other sizes are not comparable: take another model name, or --force"
        )
    config = override(
        bundles[0].config.evaluation, {"metrics": _group(metric, dataset, bundles[0].config)}
    )
    values: list[Sequence[float]] = []
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        pair = []
        for who, bundle in zip(("candidate", "champion"), bundles, strict=True):
            said(f"measuring {metric} of the {who} again, seed {seed}")
            subject = Subject(bundle=bundle, dataset=dataset, config=config, seed=seed)
            pair.append(evaluate(subject, runner=runner).figures[metric].value)
        values.append(pair)
    table = np.array(values)
    apart = table[:, 0] - table[:, 1]
    noise = student.ppf(0.975, seeds - 1) * apart.std(ddof=1) / math.sqrt(seeds)
    means = table.mean(axis=0)
    return Comparison(
        candidate=float(means[0]),
        champion=float(means[1]),
        noise=float(noise),
        mode=mode,
        how=f"measured again on {dataset.path}, {config.samples} samples with each of {seeds} "
        "seeds, the same for both",
    )


def _group(metric: str, dataset: Dataset, config: RunConfig) -> str:
    everything = override(config.evaluation, {"metrics": "all"})
    for kind in applicable(dataset, everything):
        if metric in kind.names(dataset, everything):
            return kind.group
    raise InputError(f"{metric} is not measured on {dataset.path} by {everything.samples} samples")
