"""What a measure is: it observes its cases in any parts, then makes figures of all of them.

What is observed of a case depends on the case alone. Hence figures are the same whether one process
observes all cases or many workers some each, and uncertainty is estimated over the same cases.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from mixnmatch.bundle import ModelBundle
from mixnmatch.codes import Codes, parent_of
from mixnmatch.config import EvaluationConfig
from mixnmatch.data.batches import EvaluationSet, evaluation_pictures
from mixnmatch.data.store import Dataset, open_dataset
from mixnmatch.metrics.figures import Figures
from mixnmatch.mixer import Mixer

Observations = dict[str, np.ndarray]
"""By name; the first axis of each goes over the cases."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is measured: a model, on a data set, with these counts and this seed."""

    bundle: ModelBundle
    """In eval mode, on any device."""
    dataset: Dataset
    """Real pictures."""
    config: EvaluationConfig
    """Counts."""
    seed: int = 0
    """Of everything drawn."""

    def __reduce__(self) -> tuple[Callable[..., "Subject"], tuple[Any, ...]]:
        """Without pictures: a worker opens the data set itself, and reads those that it needs."""
        return _subject_at, (self.bundle, self.dataset.source, self.config, self.seed)

    @property
    def image_size(self) -> int:
        """Side of the pictures, in pixels."""
        return self.bundle.config.model.image_size

    @cached_property
    def mixer(self) -> Mixer:
        """Of the model."""
        return Mixer(self.bundle, batch_size=self.config.batch_size)

    @cached_property
    def real_rows(self) -> Int64[np.ndarray, "N"]:
        """The pictures that generated ones are compared with: the training split."""
        return self.dataset.indices("train")

    @cached_property
    def held_out_rows(self) -> Int64[np.ndarray, "N"]:
        """The pictures that are encoded and mixed: the test split, or all without one."""
        return self.dataset.held_out_rows()

    @cached_property
    def held_out(self) -> EvaluationSet:
        """Those, read once."""
        return self.read(self.held_out_rows)

    def read(self, rows: Int64[np.ndarray, "N"]) -> EvaluationSet:
        """Pictures of the data set, as evaluation sees them."""
        return evaluation_pictures(self.dataset, rows, self.image_size)

    def random(self, purpose: int) -> torch.Generator:
        """A stream of random numbers that no other purpose shares."""
        return torch.Generator().manual_seed(self.seed * 1_000_003 + purpose)

    def tied_codes(self, samples: int, purpose: int) -> Codes:
        """Codes of generated pictures: as many of each texture, with its shape and background.

        Args:
            samples: How many.
            purpose: Of the noise.
        """
        model = self.bundle.config.model
        fine = torch.arange(samples) % model.fine_categories
        if samples < model.fine_categories:  # then spread over all of them
            fine = torch.arange(samples) * model.fine_categories // samples
        z = torch.randn(samples, model.noise_dim, generator=self.random(purpose))
        c = F.one_hot(fine, model.fine_categories).float()
        p = F.one_hot(parent_of(fine, model), model.super_categories).float()
        return Codes(z=z, b=c, p=p, c=c)

    @torch.no_grad()
    def paint(self, codes: Codes) -> Float[Tensor, "B 3 S S"]:
        """Pictures of codes, pixels in [-1, 1], on the CPU."""
        return self.bundle.generator(codes.to(self.bundle.device)).child_image.float().cpu()


def _subject_at(
    bundle: ModelBundle, data: Path | str, config: EvaluationConfig, seed: int
) -> Subject:
    return Subject(bundle=bundle, dataset=open_dataset(data), config=config, seed=seed)


class Observer(ABC):
    """Something that observes cases, each by its number."""

    @property
    @abstractmethod
    def count(self) -> int:
        """Number of cases."""

    @abstractmethod
    def observe(self, cases: range) -> Observations:
        """Look at some cases.

        Args:
            cases: Their numbers; at most a batch.
        """


class Preparation(Observer):
    """Observations that a measure needs before its own, such as features of real pictures."""

    @abstractmethod
    def keep(self, seen: Observations) -> None:
        """Put away what was observed of all cases, for the measure that needs it."""


class Measure(Observer):
    """A group of figures.

    Args:
        subject: What is measured.
    """

    group: str
    """Its name, as ``evaluation.metrics`` and ``--metrics`` have it."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    @classmethod
    @abstractmethod
    def names(cls, dataset: Dataset, config: EvaluationConfig) -> set[str]:
        """Names of its figures for a model after both stages; none where it does not apply."""

    def needs(self) -> Sequence[Preparation]:
        """What must be observed and kept before its cases are; nothing by default."""
        return ()

    @abstractmethod
    def figures(self, seen: Observations) -> Figures:
        """Figures of all cases.

        Args:
            seen: Observations of all cases, in their order.
        """

    def weights(self) -> Mapping[str, str]:
        """SHA-256 of the weights of each network that its features come from, by its name."""
        return {}

    def oracles(self) -> Mapping[str, str]:
        """SHA-256 of the weights of each network that judges its cases, by its name.

        The names are ``classifier`` and ``localiser``.
        """
        return {}

    def exhibits(self, seen: Observations) -> "Sequence[Exhibit]":
        """Pictures and tables behind the figures, for people; none by default."""
        return ()


@dataclass(frozen=True, kw_only=True)
class Table:
    """Shares by row and column, shown as a heat map."""

    rows: Sequence[str]
    """Their labels."""
    columns: Sequence[str]
    """Their labels."""
    values: Float[np.ndarray, "R C"]
    """In [0, 1]."""
    chance: Float[np.ndarray, "R C"] | None = None
    """What they would be by chance."""
    corner: str = ""
    """What rows and columns are."""


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """Something to look at."""

    title: str
    """A few words."""
    caption: str
    """What to look for; one or two sentences."""
    picture: Image.Image | None = None
    """RGB."""
    table: Table | None = None
    """Numbers."""


def join(parts: Sequence[Observations]) -> Observations:
    """Observations of consecutive parts as those of the whole."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def parts_of(count: int, batch_size: int) -> list[range]:
    """Cases in batches, the same ones whoever observes them."""
    return [range(start, min(start + batch_size, count)) for start in range(0, count, batch_size)]
