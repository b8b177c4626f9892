"""The judge: a classifier trained on labelled real pictures that says what a picture shows.

One head for each factor (background, shape, texture, pose) where the data set knows them, or one
for the class label. Its own accuracy on held-out pictures is part of every result that it gives.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from mixnmatch.data.batches import EvaluationSet, evaluation_pictures
from mixnmatch.data.store import Dataset
from mixnmatch.errors import DataError
from mixnmatch.metrics.figures import Figure, Figures, share
from mixnmatch.metrics.oracles import load_or_train, oracle_file, weights_digest

FEATURES = 64
"""Dimensions of the features of `frechet_factors` and `frechet_labels`."""
LARGEST_SIDE = 64
"""Side in pixels that larger pictures are reduced to before the network sees them."""
HELD_OUT_SHARE = 0.2
MOST_PICTURES = 6000
LEAST_PICTURES = 5
"""One to measure it on, and some to teach it."""
BATCH_SIZE = 64
LEARNING_RATE = 5e-3
"""At its highest, a third of the way through training."""
_VERSION = 2  # part of the cache key: raise it when training or network change


class JudgeNetwork(nn.Module):
    """A small convolutional classifier with one head for each factor.

    Args:
        categories: Number of categories by factor.
        image_size: Side of the pictures, in pixels.
    """

    def __init__(self, categories: dict[str, int], image_size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        side, width = min(image_size, LARGEST_SIDE), 32
        self.side = side
        while side > 4:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            layers += [nn.MaxPool2d(2)]
            channels, width, side = width, min(2 * width, 128), side // 2
        layers += [nn.Flatten(), nn.Dropout(0.1), nn.Linear(channels * side * side, FEATURES)]
        self.trunk = nn.Sequential(*layers, nn.BatchNorm1d(FEATURES))
        self.heads = nn.ModuleDict(
            {name: nn.Linear(FEATURES, count) for name, count in categories.items()}
        )

    def features(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B D"]:
        """What the heads stand on; pixels in [-1, 1]."""
        if images.shape[-1] > self.side:
            images = F.interpolate(images, size=(self.side, self.side), mode="area")
        return self.trunk(images)

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> dict[str, Float[Tensor, "B _"]]:
        """Logits of each factor; pixels in [-1, 1]."""
        hidden = F.relu(self.features(images))
        return {name: head(hidden) for name, head in self.heads.items()}


@dataclass(frozen=True)
class Judge:
    """A trained judge."""

    network: JudgeNetwork
    kind: str
    """``factors`` or ``labels``: what it was taught, and part of the names of its results."""
    accuracy: dict[str, float]
    """On held-out real pictures, by factor."""
    held_out: int
    """Number of those pictures."""
    chance: dict[str, float]
    """Probability that two of them agree, by factor."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of its weights."""
        return weights_digest(self.network)

    @torch.no_grad()
    def classify(self, images: Float[Tensor, "B 3 S S"]) -> dict[str, Int[Tensor, "B"]]:
        """The most likely category of each factor, on the CPU."""
        device = next(self.network.parameters()).device
        logits = self.network(images.to(device))
        return {name: values.argmax(dim=1).cpu() for name, values in logits.items()}

    def figures(self) -> Figures:
        """``judge/<factor>``, its accuracy, and ``judge/held_out``."""
        figures = {}
        for name, accuracy in self.accuracy.items():
            right = np.arange(self.held_out) < round(accuracy * self.held_out)
            figures[f"judge/{name}"] = share(right, chance=self.chance[name])
        return figures | {"judge/held_out": Figure(value=float(self.held_out))}


def targets_of(pictures: EvaluationSet, kind: str) -> dict[str, Int[Tensor, "N"]]:
    """What a judge of this kind is asked about these pictures."""
    known = pictures.factors if kind == "factors" else {"label": pictures.labels}
    return {name: values for name, values in (known or {}).items() if values is not None}


def judge_kind(dataset: Dataset) -> str | None:
    """``factors``, ``labels``, or None where the data set knows neither."""
    if dataset.info.factors:
        return "factors"
    return "labels" if dataset.info.labels and dataset.info.labels > 1 else None


def judge_rows(dataset: Dataset) -> Int64[np.ndarray, "N"]:
    """Rows of the pictures that a judge is taught and measured on."""
    # Where there are pictures drawn for judges (textures free of shapes), no cue can stand in.
    free = dataset.indices("judge")
    rows = free if len(free) else dataset.indices()
    if judge_kind(dataset) != "labels":
        return rows
    return rows[[label is not None for label in np.array(dataset.column("label"), object)[rows]]]


def chance_level(values: Int[Tensor, "N"]) -> float:
    """Probability that two pictures drawn at random agree."""
    share = torch.bincount(values).double() / len(values)
    return float((share**2).sum())


def judge_file(dataset: Dataset, image_size: int, *, steps: int, seed: int = 0) -> Path:
    """Where the judge that ``load_judge`` gives is kept."""
    key = [_VERSION, dataset.info.fingerprint, judge_kind(dataset), image_size, steps, seed]
    return oracle_file("judge", key)


def load_judge(dataset: Dataset, image_size: int, *, steps: int, seed: int = 0) -> Judge:
    """The judge of a data set: from the cache, or trained now (once a data set and size).

    Args:
        dataset: Labelled real pictures.
        image_size: Side of the pictures judged, in pixels.
        steps: Training steps.
        seed: Of weights, order and the held-out split.

    Raises:
        DataError: If the data set has neither factors nor labels, or too few of them.
        RunError: If it cannot be kept in the cache.
    """
    kind = judge_kind(dataset)
    if kind is None:
        raise DataError(f"{dataset.path}: has neither factors nor labels, so nothing can be judged")
    if len(judge_rows(dataset)) < LEAST_PICTURES:
        raise DataError(
            f"{dataset.path}: {len(judge_rows(dataset))} pictures with {kind} are too few to teach "
            f"a judge: it needs {LEAST_PICTURES}"
        )
    if kind == "factors":
        categories = dict(dataset.info.factors or {})
    else:
        categories = {"label": int(dataset.info.labels or 0)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = JudgeNetwork(categories, image_size)
        measured = load_or_train(
            judge_file(dataset, image_size, steps=steps, seed=seed),
            network,
            partial(_train, dataset, network, kind, image_size, steps=steps, seed=seed),
        )
    return Judge(network, kind, **measured)


def _train(
    dataset: Dataset, network: JudgeNetwork, kind: str, image_size: int, *, steps: int, seed: int
) -> dict[str, Any]:
    """Train it, and measure it: the fields of ``Judge`` that say how good it is."""
    random = torch.Generator().manual_seed(seed)
    rows = judge_rows(dataset)
    order = torch.randperm(len(rows), generator=random)[:MOST_PICTURES].numpy()
    pictures = evaluation_pictures(dataset, rows[order], image_size)
    targets = targets_of(pictures, kind)
    held_out = max(1, int(HELD_OUT_SHARE * len(pictures.images)))
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
    network.train()
    batches = _minibatches(held_out, len(pictures.images), steps, random)
    for index in tqdm(batches, "teaching the judge", steps, disable=None, leave=False):
        logits = network(_jitter(pictures.images[index], random))
        losses = [F.cross_entropy(logits[name], targets[name][index]) for name in targets]
        optimiser.zero_grad()
        torch.stack(losses).sum().backward()
        optimiser.step()
        schedule.step()
    return _measure(Judge(network.eval(), kind, {}, held_out, {}), pictures, targets)


def _measure(
    judge: Judge, pictures: EvaluationSet, targets: dict[str, Int[Tensor, "N"]]
) -> dict[str, Any]:
    """How good it is on the pictures held out of them, the first ones."""
    parts = [judge.classify(images) for images in pictures.images[: judge.held_out].split(256)]
    truth = {name: values[: judge.held_out] for name, values in targets.items()}
    right = {name: torch.cat([part[name] for part in parts]) == truth[name] for name in truth}
    return {
        "accuracy": {name: float(values.double().mean()) for name, values in right.items()},
        "held_out": judge.held_out,
        "chance": {name: chance_level(values) for name, values in truth.items()},
    }


def _minibatches(
    start: int, stop: int, steps: int, random: torch.Generator
) -> Iterator[Int[Tensor, "B"]]:
    for _ in range(steps):
        yield torch.randint(start, stop, (BATCH_SIZE,), generator=random)


def _jitter(images: Float[Tensor, "B 3 S S"], random: torch.Generator) -> Float[Tensor, "B 3 S S"]:
    """Shift each picture by up to a sixteenth of its side, and add a little noise."""
    count, _, side, _ = images.shape
    reach = max(1, side // 16)
    padded = F.pad(images, [reach] * 4, mode="replicate")
    starts = torch.randint(2 * reach + 1, (2, count, 1), generator=random)
    rows, columns = starts + torch.arange(side)
    pictures, channels = torch.arange(count)[:, None, None, None], torch.arange(3)[:, None, None]
    moved = padded[pictures, channels, rows[:, None, :, None], columns[:, None, None, :]]
    return moved + 0.03 * torch.randn(moved.shape, generator=random)
