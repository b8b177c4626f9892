"""The judge: a classifier trained on labelled real pictures that says what a picture shows.

One head for each factor (background, shape, texture, pose) where the data set knows them, or one
for the class label. Its own accuracy on held-out pictures is part of every result that it gives.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from mixnmatch.data.batches import EvaluationSet, evaluation_pictures
from mixnmatch.data.store import Dataset
from mixnmatch.errors import DataError
from mixnmatch.files import cache_folder

FEATURES = 64
"""Dimensions of the features of `frechet_factors` and `frechet_labels`."""
HELD_OUT_SHARE = 0.2
MOST_PICTURES = 6000
BATCH_SIZE = 64
_VERSION = 1  # part of the cache key: raise it when training or network change


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
        side, width = image_size, 32
        while side > 4:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            layers += [nn.MaxPool2d(2)]
            channels, width, side = width, min(2 * width, 128), side // 2
        self.trunk = nn.Sequential(
            *layers, nn.Flatten(), nn.Dropout(0.2), nn.Linear(channels * side * side, FEATURES)
        )
        self.heads = nn.ModuleDict(
            {name: nn.Linear(FEATURES, count) for name, count in categories.items()}
        )

    def features(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B D"]:
        """What the heads stand on; pixels in [-1, 1]."""
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

    @torch.no_grad()
    def classify(self, images: Float[Tensor, "B 3 S S"]) -> dict[str, Int[Tensor, "B"]]:
        """The most likely category of each factor."""
        return {name: logits.argmax(dim=1) for name, logits in self.network(images).items()}


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
    return free if len(free) else dataset.indices()


def chance_level(values: Int[Tensor, "N"]) -> float:
    """Probability that two pictures drawn at random agree."""
    share = torch.bincount(values).double() / len(values)
    return float((share**2).sum())


def load_judge(dataset: Dataset, image_size: int, *, steps: int, seed: int = 0) -> Judge:
    """The judge of a data set: from the cache, or trained now (once a data set and size).

    Args:
        dataset: Labelled real pictures.
        image_size: Side of the pictures judged, in pixels.
        steps: Training steps.
        seed: Of weights, order and the held-out split.

    Raises:
        DataError: If the data set has neither factors nor labels.
    """
    kind = judge_kind(dataset)
    if kind is None:
        raise DataError(f"{dataset.path}: has neither factors nor labels, so nothing can be judged")
    if kind == "factors":
        categories = dict(dataset.info.factors or {})
    else:
        categories = {"label": int(dataset.info.labels or 0)}
    key = json.dumps([_VERSION, dataset.info.fingerprint, kind, image_size, steps, seed])
    name = hashlib.sha256(key.encode()).hexdigest()[:16]
    cached = cache_folder() / f"judge-{name}.safetensors"
    network = JudgeNetwork(categories, image_size)
    if cached.is_file():
        state = load_file(cached)
        measured = json.loads(bytes(state.pop("__measured__").tolist()))
        network.load_state_dict(state)
        return Judge(network.eval().requires_grad_(False), kind, **measured)
    judge = _train(dataset, network, kind, image_size, steps=steps, seed=seed)
    measured = json.dumps({"accuracy": judge.accuracy, "held_out": judge.held_out}).encode()
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    state["__measured__"] = torch.tensor(list(measured), dtype=torch.uint8)
    cached.parent.mkdir(parents=True, exist_ok=True)
    partial = cached.with_suffix(f".{os.getpid()}.partial")
    try:
        save_file(state, partial)
        partial.replace(cached)
    finally:
        partial.unlink(missing_ok=True)
    return judge


def _train(
    dataset: Dataset, network: JudgeNetwork, kind: str, image_size: int, *, steps: int, seed: int
) -> Judge:
    random = torch.Generator().manual_seed(seed)
    rows = judge_rows(dataset)
    order = torch.randperm(len(rows), generator=random)[:MOST_PICTURES].numpy()
    pictures = evaluation_pictures(dataset, rows[order], image_size)
    targets = targets_of(pictures, kind)
    held_out = max(1, int(HELD_OUT_SHARE * len(pictures.images)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network.apply(lambda layer: getattr(layer, "reset_parameters", lambda: None)())
        optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
        network.train()
        for index in _minibatches(held_out, len(pictures.images), steps, random):
            logits = network(_jitter(pictures.images[index], random))
            losses = [F.cross_entropy(logits[name], targets[name][index]) for name in targets]
            optimiser.zero_grad()
            torch.stack(losses).sum().backward()
            optimiser.step()
            schedule.step()
    judge = Judge(network.eval().requires_grad_(False), kind, {}, held_out)
    answers: dict[str, list[Tensor]] = {name: [] for name in targets}
    for images in pictures.images[:held_out].split(BATCH_SIZE):
        for name, answer in judge.classify(images).items():
            answers[name].append(answer)
    for name, values in targets.items():
        correct = torch.cat(answers[name]) == values[:held_out]
        judge.accuracy[name] = float(correct.float().mean())
    return judge


def _minibatches(
    start: int, stop: int, steps: int, random: torch.Generator
) -> Iterator[Int[Tensor, "B"]]:
    for _ in range(steps):
        yield torch.randint(start, stop, (BATCH_SIZE,), generator=random)


def _jitter(images: Float[Tensor, "B 3 S S"], random: torch.Generator) -> Float[Tensor, "B 3 S S"]:
    """Shift a batch by up to a sixteenth of its side, and add a little noise."""
    reach = max(1, images.shape[-1] // 16)
    shift_x, shift_y = torch.randint(-reach, reach + 1, (2,), generator=random).tolist()
    moved = torch.roll(F.pad(images, [reach] * 4, mode="replicate"), (shift_y, shift_x), (2, 3))
    moved = moved[..., reach:-reach, reach:-reach]
    return moved + 0.03 * torch.randn(moved.shape, generator=random)
