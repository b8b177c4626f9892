"""All measures of a model on a data set."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mixnmatch.config import EvaluationConfig
from mixnmatch.data.store import Dataset
from mixnmatch.errors import DataError
from mixnmatch.metrics.code_use import CodeMeasure
from mixnmatch.metrics.disentanglement import FactorMeasure
from mixnmatch.metrics.diversity import DiversityMeasure
from mixnmatch.metrics.figures import Figures, flat
from mixnmatch.metrics.judge import judge_file, judge_kind, load_judge
from mixnmatch.metrics.keypoints import KeypointMeasure
from mixnmatch.metrics.localiser import load_localiser, localiser_file
from mixnmatch.metrics.masks import MaskMeasure
from mixnmatch.metrics.measure import (
    Exhibit,
    Measure,
    Observations,
    Observer,
    Subject,
    join,
    parts_of,
)
from mixnmatch.metrics.protocol import describe
from mixnmatch.metrics.quality import QualityMeasure

ALL: tuple[type[Measure], ...] = (
    QualityMeasure,
    DiversityMeasure,
    FactorMeasure,
    KeypointMeasure,
    MaskMeasure,
    CodeMeasure,
)
"""In the order of ``config.MEASURES``."""

Runner = Callable[[Observer, Subject, str], Observations]
"""Observes all cases of an observer, which has some, for a subject, under this title."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was measured, and how."""

    figures: Figures
    """By name."""
    groups: dict[str, str]
    """The group of each figure."""
    exhibits: dict[str, list[Exhibit]]
    """By group; none unless asked for."""
    protocol: dict[str, Any]
    """What the figures depend on beside the model, as plain JSON."""
    seconds: dict[str, float]
    """That each group took."""

    @property
    def metrics(self) -> dict[str, float]:
        """All numbers by name, for records."""
        return flat(self.figures)


def observe_here(observer: Observer, subject: Subject, title: str) -> Observations:
    """Observe all cases in this process, with a progress bar on a terminal."""
    parts = parts_of(observer.count, subject.config.batch_size)
    seen = []
    with tqdm(desc=title, total=observer.count, disable=None, leave=False) as bar:
        for part in parts:
            seen.append(observer.observe(part))
            bar.update(len(part))
    return join(seen)


def evaluate(
    subject: Subject, *, runner: Runner = observe_here, exhibits: bool = False
) -> Evaluation:
    """Measure a model.

    Args:
        subject: The model, its data, what to measure and how much of it.
        runner: Where cases are observed; the figures are the same anywhere.
        exhibits: Whether to make the pictures behind the figures.

    Raises:
        DataError: If the data set knows too little for all of the groups asked for, or has no
            training pictures.
        ModelError: If weights of a measure cannot be had.
    """
    if not len(subject.real_rows):
        raise DataError(f"{subject.dataset.path}: has no pictures of split 'train'")
    figures: Figures = {}
    groups: dict[str, str] = {}
    shown: dict[str, list[Exhibit]] = {}
    seconds: dict[str, float] = {}
    weights: dict[str, str] = {}
    oracles: dict[str, str] = {}
    for kind in applicable(subject.dataset, subject.config):
        began = time.monotonic()
        measure = kind(subject)
        for preparation in measure.needs():
            if preparation.count:
                preparation.keep(runner(preparation, subject, f"{kind.group}: real pictures"))
        seen = runner(measure, subject, kind.group)
        measured = measure.figures(seen)
        weights |= measure.weights()
        oracles |= measure.oracles()
        figures |= measured
        groups |= dict.fromkeys(measured, kind.group)
        if exhibits:
            shown[kind.group] = list(measure.exhibits(seen))
        seconds[kind.group] = time.monotonic() - began
    return Evaluation(
        figures=figures,
        groups=groups,
        exhibits=shown,
        protocol=describe(subject, weights, oracles),
        seconds=seconds,
    )


def applicable(dataset: Dataset, config: EvaluationConfig) -> Sequence[type[Measure]]:
    """The measures that are asked for, without those that the data set knows too little for.

    Raises:
        DataError: If none is left.
    """
    chosen = [kind for kind in ALL if kind.group in config.groups and kind.names(dataset, config)]
    if not chosen:
        raise DataError(
            f"{dataset.path}: nothing of {config.metrics} can be measured on it: `factors` needs "
            "drawn pictures, `keypoints` annotated parts, `quality` labels or the FID weights"
        )
    return chosen


def oracle_files(dataset: Dataset, image_size: int, config: EvaluationConfig) -> dict[str, Path]:
    """Where the networks are kept that judge pictures for an evaluation, once they are trained.

    Args:
        dataset: That they are taught on.
        image_size: Side of the pictures judged, in pixels.
        config: Says what is measured, and for how long they are taught.

    Returns:
        Those that it needs, of ``classifier`` and ``localiser``.
    """
    groups = {kind.group for kind in applicable(dataset, config)}
    files = {}
    if judge_kind(dataset) and groups & {"quality", "factors"}:
        files["classifier"] = judge_file(dataset, image_size, steps=config.classifier_steps)
    if metric_names(dataset, config) & {"keypoints/pck", "mask_iou/localiser"}:
        files["localiser"] = localiser_file(dataset, image_size, steps=config.localiser_steps)
    return files


def teach_oracles(dataset: Dataset, image_size: int, config: EvaluationConfig) -> None:
    """Train the networks that judge pictures, where the cache has none, before many need them.

    Args:
        dataset: That they are taught on.
        image_size: Side of the pictures judged, in pixels.
        config: Says what is measured, and for how long they are taught.
    """
    needed = oracle_files(dataset, image_size, config)
    if "classifier" in needed:
        load_judge(dataset, image_size, steps=config.classifier_steps)
    if "localiser" in needed:
        load_localiser(dataset, image_size, steps=config.localiser_steps)


def metric_names(dataset: Dataset, config: EvaluationConfig) -> set[str]:
    """Names of the figures that ``evaluate`` gives for a model after both stages."""
    return {name for kind in applicable(dataset, config) for name in kind.names(dataset, config)}
