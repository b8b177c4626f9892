"""The localiser: a small network that finds the keypoints of an object, and its mask.

It is taught once a data set on real object views, and measured on others.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from mixnmatch.data.batches import EvaluationSet, evaluation_pictures
from mixnmatch.data.store import Dataset
from mixnmatch.errors import DataError
from mixnmatch.metrics import figures
from mixnmatch.metrics.figures import Figure
from mixnmatch.metrics.lessons import (
    Maps,
    jittered,
    lesson_of,
    localiser_loss,
    mirrored_parts,
    resized,
)
from mixnmatch.metrics.oracles import load_or_train, oracle_file, weights_digest

LARGEST_SIDE = 64
"""Side in pixels that larger pictures are reduced to before the network sees them."""
CELLS = 32
"""Cells of a heat map along a side."""
REACH = 2
"""Cells around the hottest one whose weighted mean is the place of a keypoint."""
PCK_SHARE = 0.1
"""A keypoint is found where it is at most this share of the longer box side away."""
HELD_OUT_SHARE = 0.2
MOST_PICTURES = 6000
BATCH_SIZE = 32
_VERSION = 1  # part of the cache key: raise it when training or network change


class LocaliserNetwork(nn.Module):
    """A fully convolutional encoder and decoder with additive skips.

    Args:
        keypoints: Number K of keypoints; may be 0.
        side: Of its pictures, in pixels: 32 or 64.
    """

    def __init__(self, keypoints: int, side: int) -> None:
        super().__init__()
        self.side, self.keypoints = side, keypoints
        widths = (32, 64, 128, 128)
        self.stem = nn.Sequential(_conv(3, widths[0], 5, side // CELLS), _conv(widths[0], 32))
        self.downs = nn.ModuleList(
            nn.Sequential(_conv(i, o, stride=2), _conv(o, o)) for i, o in pairwise(widths)
        )
        self.ups = nn.ModuleList(
            nn.Sequential(_conv(o, o), _conv(o, i, 1)) for i, o in pairwise(widths)
        )
        self.last = _conv(widths[0], 64)
        self.maps = nn.Conv2d(64, keypoints + 1, 1)
        self.visible = nn.Linear(widths[-1], max(1, keypoints))

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> Maps:
        """Maps of pictures of the network's side, pixels in [-1, 1]."""
        hidden, skips = self.stem(images), []
        for down in self.downs:
            skips.append(hidden)
            hidden = down(hidden)
        whole = hidden.mean(dim=(2, 3))
        for up in reversed(self.ups):
            hidden = F.interpolate(up(hidden), scale_factor=2.0) + skips.pop()
        maps = self.maps(self.last(hidden))
        return Maps(maps[:, :-1], self.visible(whole)[:, : self.keypoints], maps[:, -1:])


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Found(NamedTuple):
    """What the localiser finds in pictures."""

    keypoints: Float[Tensor, "B K 2"]
    """x and y in pixels of the pictures."""
    visible: Bool[Tensor, "B K"]
    """Whether it takes each for visible."""
    masks: Bool[Tensor, "B 1 S S"]
    """Where the object is; of no meaning where it was taught no masks."""


@dataclass(frozen=True)
class Localiser:
    """A trained localiser."""

    network: LocaliserNetwork
    worth: dict[str, Figure]
    """On held-out real pictures: ``pck`` and ``error``, the mean distance in units of the picture's
    side, if there are keypoints; ``mask_iou`` if it was taught masks. Chance is the mean position
    of each keypoint, and the best constant mask."""
    pck_of_part: dict[str, float]
    """The same of each keypoint that was visible anywhere, by name."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of its weights."""
        return weights_digest(self.network)

    @torch.no_grad()
    def locate(self, images: Float[Tensor, "B 3 S S"]) -> Found:
        """Keypoints and masks of pictures, pixels in [-1, 1], on the CPU."""
        side = images.shape[-1]
        maps = self.network(resized(images, self.network.side))
        return Found(
            keypoints=places(maps.heat) * (side / CELLS),
            visible=maps.visible > 0,
            masks=resized(maps.mask, side) > 0,
        )


def places(heat: Float[Tensor, "B K C C"]) -> Float[Tensor, "B K 2"]:
    """Soft-argmax: x and y in cells of the mean of a heat map's softmax about its maximum."""
    cells = heat.shape[-1]
    warm = heat.flatten(2).softmax(dim=2)
    middle = torch.arange(cells, device=heat.device) + 0.5
    grid = torch.stack(torch.meshgrid(middle, middle, indexing="xy"), dim=-1).view(-1, 2)
    near = (grid - grid[warm.argmax(dim=2)][:, :, None]).abs().amax(dim=3) <= REACH
    weights = warm * near
    return (weights / weights.sum(dim=2, keepdim=True)) @ grid


def localiser_rows(
    dataset: Dataset, seed: int = 0
) -> tuple[Int64[np.ndarray, "N"], Int64[np.ndarray, "M"]]:
    """Rows of the pictures that a localiser is taught, and of those that it is measured on."""
    judge, train, test = (dataset.indices(split) for split in ("judge", "train", "test"))
    random = np.random.default_rng(seed)
    # Where there are pictures drawn for judges (textures free of shapes), no cue can stand in.
    if not len(judge) and len(train) and len(test):
        return random.permutation(train)[:MOST_PICTURES], test[:MOST_PICTURES]
    rows = random.permutation(judge if len(judge) else dataset.indices())[:MOST_PICTURES]
    held_out = max(1, int(HELD_OUT_SHARE * len(rows)))
    return rows[held_out:], rows[:held_out]


def localiser_file(dataset: Dataset, image_size: int, *, steps: int, seed: int = 0) -> Path:
    """Where the localiser that ``load_localiser`` gives is kept."""
    side = min(image_size, LARGEST_SIDE)
    names = list(dataset.info.parts)
    return oracle_file("localiser", [_VERSION, dataset.info.fingerprint, names, side, steps, seed])


def load_localiser(dataset: Dataset, image_size: int, *, steps: int, seed: int = 0) -> Localiser:
    """The localiser of a data set: from the cache, or trained now.

    Args:
        dataset: Real pictures with keypoints, masks or both.
        image_size: Side of the pictures that it is to look at, in pixels.
        steps: Training steps.
        seed: Of weights, order, augmentation and the held-out pictures.

    Raises:
        DataError: If the data set has neither, or only one picture.
    """
    if len(dataset) < 2:
        raise DataError(f"{dataset.path}: 1 picture is too few for a localiser: it needs 2")
    network = LocaliserNetwork(len(dataset.info.parts), min(image_size, LARGEST_SIDE))
    measured = load_or_train(
        localiser_file(dataset, image_size, steps=steps, seed=seed),
        network,
        partial(_train, dataset, network, steps=steps, seed=seed),
    )
    worth = {name: Figure(**figure) for name, figure in measured["worth"].items()}
    return Localiser(network, worth, measured["pck_of_part"])


def _train(dataset: Dataset, network: LocaliserNetwork, *, steps: int, seed: int) -> dict[str, Any]:
    """Train it, and measure it."""
    taught, held_out = (
        evaluation_pictures(dataset, rows, network.side) for rows in localiser_rows(dataset, seed)
    )
    if taught.keypoints is None and taught.masks is None:
        raise DataError(f"{dataset.path}: has neither keypoints nor masks, so none can be found")
    for pictures in (taught, held_out):
        if pictures.keypoints is not None and pictures.keypoints.isnan().all():
            raise DataError(
                f"{dataset.path}: of {len(pictures.images)} pictures that a localiser is taught or "
                "measured on none shows a keypoint"
            )
    mirror = mirrored_parts(dataset.info.parts)
    random = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network.apply(lambda layer: getattr(layer, "reset_parameters", lambda: None)())
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    network.train()
    for _ in tqdm(range(steps), "teaching the localiser", disable=None, leave=False):
        rows = torch.randint(len(taught.images), (BATCH_SIZE,), generator=random)
        seen = jittered(lesson_of(taught, rows), mirror, random)
        optimiser.zero_grad()
        localiser_loss(network(seen.images), seen).backward()
        optimiser.step()
        schedule.step()
    network.eval()
    return _measured(Localiser(network, {}, {}), taught, held_out, dataset.info.parts)


def _measured(
    localiser: Localiser, taught: EvaluationSet, held_out: EvaluationSet, names: Sequence[str]
) -> dict[str, Any]:
    """What the localiser is worth, as JSON types."""
    found = [localiser.locate(images) for images in held_out.images.split(BATCH_SIZE)]
    worth: dict[str, Figure] = {}
    of_part: dict[str, float] = {}
    if held_out.keypoints is not None and taught.keypoints is not None:
        truth, side = held_out.keypoints, held_out.images.shape[-1]
        corner, other = held_out.boxes.split(2, dim=1)
        most = PCK_SHARE * (other - corner).amax(dim=1)

        def distances(points: Tensor) -> Tensor:
            return (points - truth).norm(dim=2)

        def right(away: Tensor) -> Tensor:
            return torch.where(away.isnan(), away, (away <= most[:, None]).float())

        away = distances(torch.cat([part.keypoints for part in found]))
        by_chance = distances(taught.keypoints.nanmean(dim=0))
        worth["pck"] = figures.mean(
            right(away).numpy(), chance=float(right(by_chance).nanmean()), better="higher"
        )
        worth["error"] = figures.mean(
            (away / side).numpy(), chance=float(by_chance.nanmean() / side), better="lower"
        )
        shares = right(away).nanmean(dim=0).tolist()
        of_part = {n: share for n, share in zip(names, shares, strict=True) if share == share}
    if held_out.masks is not None and taught.masks is not None:
        masks, truths = torch.cat([part.masks for part in found]), held_out.masks > 0.5
        chance = constant_overlap(taught.masks.mean(dim=0, keepdim=True), truths)
        worth["mask_iou"] = figures.mean(overlap(masks, truths), chance=chance, better="higher")
    return {"worth": {n: asdict(f) for n, f in worth.items()}, "pck_of_part": of_part}


def overlap(
    first: Bool[Tensor, "#B 1 S S"], second: Bool[Tensor, "#B 1 S S"]
) -> Float[np.ndarray, "B"]:
    """Intersection over union of masks, in [0, 1]; 0 where both are empty."""
    both = (first & second).sum(dim=(1, 2, 3)).double()
    either = (first | second).sum(dim=(1, 2, 3)).double()
    return (both / either.clamp(min=1)).numpy()


def constant_overlap(often: Float[Tensor, "1 1 S S"], truths: Bool[Tensor, "N 1 S S"]) -> float:
    """Mean overlap of the best mask that is the same for all pictures.

    Args:
        often: How often each pixel is the object's; the mask is where it is often enough.
        truths: True masks.
    """
    return max(
        float(overlap(often >= least, truths).mean()) for least in torch.linspace(0.05, 1, 20)
    )
