"""Is a candidate better than the champion, on the same evaluation and by more than the noise?

Figures that training has recorded are compared where both were measured under the same conditions
and have 95 % intervals. Else, or if it is asked for, both models are measured again, several times
with other samples but each time with the same ones, and the differences are what counts. The
candidate was chosen as the best of many by its recorded figure, which is flattered by that; new
samples flatter no one.
"""

import math
import re
from collections.abc import Callable, Mapping, Set
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mixnmatch.bundle import ModelBundle, load_bundle
from mixnmatch.config import EvaluationConfig
from mixnmatch.data.store import Dataset
from mixnmatch.errors import InputError, ModelError
from mixnmatch.metrics.evaluate import Runner, applicable, evaluate
from mixnmatch.metrics.figures import noise_between, recorded
from mixnmatch.metrics.measure import Subject
from mixnmatch.settings import override
from mixnmatch_platform.directions import Mode
from mixnmatch_platform.promotion.candidates import Opened, of_version, opened
from mixnmatch_platform.promotion.gates import Verdict, refuse
from mixnmatch_platform.protocols import differences
from mixnmatch_platform.store import numbers

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from mixnmatch_platform.promotion.request import Promotion, Request

__all__ = ["Comparing", "Comparison", "Measured", "compare_again", "compare_recorded"]

FIRST_SEED = 1_000
"""Of evaluations made again: none that training takes by default."""
_PARTS = re.compile("^(low|high|chance)/")


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A model measured several times, each time with other samples."""

    metrics: list[dict[str, float]]
    """All numbers of each evaluation, with ``low/…``, ``high/…`` and ``chance/…``."""
    protocol: dict[str, Any]
    """Of the first one; the others differ in the seed."""
    on: str
    """Data set, samples and number of evaluations."""

    def beyond(self, recorded: Mapping[str, float]) -> dict[str, float]:
        """Means of the numbers of figures that were not recorded.

        An interval is that of a single evaluation, and so wider than the mean's.
        """
        names = set.intersection(*map(set, self.metrics))
        new = {name for name in names if _PARTS.sub("", name) not in recorded}
        return {name: float(np.mean([each[name] for each in self.metrics])) for name in new}


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


def compare_again(metric: str, mode: Mode, candidate: Measured, champion: Measured) -> Comparison:
    """Compare two models by what was measured on the same samples, evaluation by evaluation."""
    from scipy.stats import t as student

    pairs = np.array([[each[metric] for each in model.metrics] for model in (candidate, champion)])
    apart = pairs[0] - pairs[1]
    noise = student.ppf(0.975, len(apart) - 1) * apart.std(ddof=1) / math.sqrt(len(apart))
    means = pairs.mean(axis=1)
    return Comparison(
        candidate=float(means[0]),
        champion=float(means[1]),
        noise=float(noise),
        mode=mode,
        how=f"measured again on {candidate.on} seeds, the same for both",
    )


class Comparing:
    """Compares one candidate with whichever version is champion; each is read and measured once.

    Args:
        client: Of the store.
        store: Its tracking URI.
        request: What is asked of the promotion.
        run_id: The candidate's run.
        files: Its files.
        bundle: What was read from them.
        dataset: To measure on, where there is one.
        runner: Where cases are observed.
        said: Told what takes time.
        stack: Closes what was fetched.
    """

    def __init__(
        self,
        client: "MlflowClient",
        store: str,
        request: "Request",
        run_id: str,
        files: Opened,
        bundle: ModelBundle,
        dataset: Dataset | None,
        runner: Runner,
        said: Callable[[str], None],
        stack: ExitStack,
    ) -> None:
        self._client, self._store, self._request, self._run_id = client, store, request, run_id
        self._files, self._bundle, self._dataset = files, bundle, dataset
        self._runner, self._said, self._stack = runner, said, stack
        self._champions: dict[int, Opened] = {}

    def is_champion(self, version: Any | None) -> bool:
        """Whether a version has the candidate's weights; by force those of another run replace it.

        A run's id tells nothing: it may have been trained on since.
        """
        if version is None or self._request.candidate:
            return False
        try:
            champion = self._open(version)
        except ModelError:  # which is told where they are compared
            return False
        same_run = version.run_id == self._run_id
        return champion.sha256 == self._files.sha256 and (same_run or not self._request.force)

    def beside(self, version: Any | None, promotion: "Promotion") -> "Promotion":
        """The promotion with its comparison.

        Raises:
            InputError: If the candidate is not better, and need be.
        """
        if version is None or self._request.candidate:
            return promotion
        number = int(version.version)
        try:
            comparison = self._compare(version)
        except InputError as error:
            if not self._request.force:
                raise
            self._said(f"not compared with champion v{number}: {error}")
            return replace(promotion, champion=number, comparison=None)
        if not self._request.force:
            verdict = comparison.verdict(self._request.metric, number)
            refuse(f"run {promotion.run_name}", [verdict])
        return replace(promotion, champion=number, comparison=comparison)

    @cached_property
    def candidate(self) -> Measured:
        """The candidate, measured again; also in what gates want and was not recorded."""
        wanted = [each.metric for each in self._request.gates.require]
        lacking = set(wanted) - numbers(self._files.metrics).keys()
        return self._measure("candidate", self._bundle, lacking)

    def _compare(self, version: Any) -> Comparison:
        request, mode = self._request, self._request.direction
        assert mode is not None
        try:
            champion = self._open(version)
            reason = "it is asked for"
            if not request.again:
                found = compare_recorded(request.metric, mode, self._files, champion)
                if isinstance(found, Comparison):
                    return found
                reason = found
            if self._dataset is None:
                raise InputError(
                    f"gate better than the champion: {reason}, so both must be measured again: "
                    "name the data set with --data, or replace the champion with --force"
                )
            self._said(f"measuring again, because {reason}")
            bundle = load_bundle(champion.bundle)
        except ModelError as error:
            raise ModelError(
                f"gate better than the champion: v{version.version} cannot be read ({error}): "
                "replace it with --force"
            ) from error
        sides = [each.config.model.image_size for each in (bundle, self._bundle)]
        if sides[0] != sides[1]:
            raise InputError(
                f"gate better than the champion: it paints {sides[0]} px, the candidate "
                f"{sides[1]} px, and figures of other sizes are not comparable: take another "
                "model name, or --force"
            )
        measured = self._measure("champion", bundle)
        return compare_again(request.metric, mode, self.candidate, measured)

    def _open(self, version: Any) -> Opened:
        number = int(version.version)
        if number not in self._champions:
            files = opened(self._client, self._store, of_version(self._client, version))
            self._champions[number] = self._stack.enter_context(files)
        return self._champions[number]

    def _measure(self, who: str, bundle: ModelBundle, more: Set[str] = frozenset()) -> Measured:
        """Measure a model by the candidate's settings of evaluation."""
        metric, seeds = self._request.metric, self._request.seeds
        if seeds < 2:
            raise InputError(f"--seeds is {seeds}: noise needs at least 2")
        if self._dataset is None:
            raise InputError(
                f"the {who} has no {metric}, so it must be measured: name the data set with --data"
            )
        settings = self._bundle.config.evaluation
        groups = _groups(metric, more, self._dataset, settings)
        config = override(settings, {"metrics": groups})
        evaluations = []
        for seed in range(FIRST_SEED, FIRST_SEED + seeds):
            self._said(f"measuring {metric} of the {who} again, seed {seed}")
            subject = Subject(bundle=bundle, dataset=self._dataset, config=config, seed=seed)
            evaluations.append(evaluate(subject, runner=self._runner))
        if not all(math.isfinite(each.figures[metric].value) for each in evaluations):
            raise InputError(f"{metric} of the {who} is no number on {self._dataset.path}")
        return Measured(
            metrics=[evaluation.metrics for evaluation in evaluations],
            protocol=evaluations[0].protocol,
            on=f"{self._dataset.path}, {config.samples} samples with each of {seeds}",
        )


def _groups(metric: str, more: Set[str], dataset: Dataset, config: EvaluationConfig) -> str:
    """The groups of a figure, which must be measured there, and of others, where they are."""
    everything = override(config, {"metrics": "all"})
    names = {
        kind.group: kind.names(dataset, everything) for kind in applicable(dataset, everything)
    }
    if not any(metric in each for each in names.values()):
        raise InputError(
            f"{metric} is not measured on {dataset.path} by {everything.samples} samples"
        )
    return ",".join(group for group, each in names.items() if each & {metric, *more})
