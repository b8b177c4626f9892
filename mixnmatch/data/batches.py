"""Batches of the two training views, and the fixed pictures of an evaluation.

What a step sees is a function of seed, step and rank alone, so that a resumed run sees what an
undisturbed one would have seen.
"""

import io
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from functools import lru_cache
from itertools import count
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int, Int64, UInt8
from PIL import Image
from torch import Tensor

from mixnmatch.data.ahead import made_ahead
from mixnmatch.data.crops import Squares, cut_squares, random_squares, scale_pixels
from mixnmatch.data.prepared import open_prepared
from mixnmatch.data.records import Record, Split
from mixnmatch.data.store import Dataset
from mixnmatch.data.views import (
    Crop,
    Pixels,
    centre_crop,
    crop_keypoints,
    read_views,
    resize_object,
)
from mixnmatch.errors import DataError

FACTOR_NAMES = ("background", "shape", "texture", "pose")
PREFETCHED_BATCHES = 3
RESIDENT_SHARE = 0.25
"""Most of a GPU's free memory that views may take; the step's own needs are not known yet."""
_ORDER, _CROPS = 0, 1  # streams of randomness


class Batch(NamedTuple):
    """Both views of the same pictures, S pixels wide and T = S - 2. Boxes are x1, y1, x2, y2."""

    image: Float[Tensor, "B 3 S S"]
    """Object views, pixels in [-1, 1]."""
    image_box: Float[Tensor, "B 4"]
    """In pixels of ``image``; all zero where the crop shows nothing of the object."""
    background: Float[Tensor, "B 3 T T"]
    """Background views, pixels in [-1, 1]."""
    background_box: Float[Tensor, "B 4"]
    """In pixels of ``background``; all zero where the crop shows nothing of the object."""


class EvaluationSet(NamedTuple):
    """Pictures as evaluation sees them: object views cropped in the centre, not flipped."""

    images: Float[Tensor, "N 3 S S"]
    """Pixels in [-1, 1]."""
    boxes: Float[Tensor, "N 4"]
    """x1, y1, x2, y2 in pixels."""
    factors: dict[str, Int[Tensor, "N"]] | None
    """Background, shape, texture and pose, where all pictures have them."""
    labels: Int[Tensor, "N"] | None
    """Class indices, where all pictures have one."""
    masks: Float[Tensor, "N 1 S S"] | None
    """Opacity of the object in [0, 1], where all pictures have a mask."""
    keypoints: Float[Tensor, "N K 2"] | None = None
    """x and y in pixels, NaN where one cannot be seen or is outside of the view; in the order of
    ``DatasetInfo.parts``, where the data set names any."""


class TrainingSet:
    """The pictures of a data set, made into batches on the device that trains.

    Their views are decoded and resized once (``prepared``); a batch then is a gather out of them.
    It is made where that costs the training least:

    * On a GPU, where the views take at most ``RESIDENT_SHARE`` of its free memory, they are copied
      there once, and the GPU gathers.
    * Else, for a GPU, a thread gathers out of the memory-mapped file ahead of the training, whose
      work is not on the CPU's cores.
    * On a CPU each batch is gathered when it is asked for. A thread would take its time from the
      very cores that the step computes on, and bring a second team of torch's threads into their
      way, to save the step about a hundredth of its time.
    """

    def __init__(
        self,
        dataset: Dataset,
        image_size: int,
        split: Split | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """Choose the pictures; none is read yet.

        Args:
            dataset: Where they are.
            image_size: Side S of the object views, in pixels.
            split: Only those of this split.
            device: Of the batches.

        Raises:
            DataError: If there are none.
        """
        self.image_size = image_size
        self._dataset = dataset
        self._split: Split | None = split
        self._device = torch.device(device)
        self._count = len(dataset.indices(split))
        if not self._count:
            raise DataError(f"{dataset.path}: no picture of split {split!r}")

    def __len__(self) -> int:
        return self._count

    def steps_per_epoch(self, batch_size: int, world_size: int = 1) -> int:
        """Steps that see each picture at most once; the last incomplete one is dropped."""
        return len(self) // (batch_size * world_size)

    def check_batches(self, batch_size: int, world_size: int = 1) -> None:
        """Refuse batches that the pictures do not suffice for, without reading one.

        Args:
            batch_size: Pictures a batch and rank.
            world_size: Number of ranks.

        Raises:
            DataError: If they do not suffice for one step.
        """
        if not self.steps_per_epoch(batch_size, world_size):
            raise DataError(
                f"{self._dataset.path}: {len(self)} pictures are too few for "
                f"batches of {batch_size} on {world_size} worker(s): at least "
                f"{batch_size * world_size} are needed"
            )

    def batches(
        self,
        batch_size: int,
        *,
        seed: int,
        start_step: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> Generator[Batch, None, None]:
        """Batches without end; closing the generator lets go of the views.

        Where no run has prepared the views yet, it is done before this returns.

        Args:
            batch_size: Pictures a batch and rank.
            seed: Of order, crops and flips.
            start_step: Step of the first batch, from 0.
            rank: Which part of each step's pictures to take.
            world_size: Number of ranks, which share each step's pictures without overlap. Together
                they see what one rank with ``world_size`` times the batch size would see.

        Raises:
            DataError: If the pictures do not suffice for one step, or one cannot be read.
            RunError: If there is no room to prepare them.
        """
        self.check_batches(batch_size, world_size)
        prepared = open_prepared(self._dataset, self.image_size, self._split)
        device = self._device
        resident = _is_resident(prepared.pixels, device)
        pixels = prepared.pixels.to(device) if resident else prepared.pixels

        def cut(step: int) -> _Cut:
            numbers, chances = self._draw(step, batch_size, seed, rank, world_size)
            parts: list[Tensor] = []
            for view, side in enumerate((self.image_size, self.image_size - 2)):
                squares = random_squares(
                    prepared.starts[numbers, view],
                    prepared.sizes[numbers, view],
                    prepared.boxes[numbers, view],
                    side,
                    chances[:, view],
                )
                squares = Squares(*(_moved(part, pixels.device) for part in squares))
                parts += [cut_squares(pixels, squares), squares.box]
            return _Cut(*parts)

        if resident:
            return (_scaled(cut(step)) for step in count(start_step))
        return _streamed(cut, start_step, device)

    def _draw(
        self, step: int, batch_size: int, seed: int, rank: int, world_size: int
    ) -> tuple[Int64[np.ndarray, "B"], Float64[np.ndarray, "B 2 3"]]:
        """Numbers of the pictures in their split, and the chances of their crops."""
        whole = batch_size * world_size
        mine = slice(rank * batch_size, (rank + 1) * batch_size)
        epoch, position = divmod(step, self.steps_per_epoch(batch_size, world_size))
        order = _order(len(self), seed, epoch)
        chances = np.random.default_rng([seed, _CROPS, step]).random((whole, 2, 3))
        return order[position * whole :][mine], chances[mine]


def evaluation_pictures(
    dataset: Dataset, indices: Sequence[int] | Int64[np.ndarray, "N"], image_size: int
) -> EvaluationSet:
    """Read the pictures of an evaluation.

    Args:
        dataset: Where they are.
        indices: Their rows, in the order wanted.
        image_size: Side S of the views, in pixels.

    Raises:
        DataError: If there are none, or one cannot be read.
    """
    if not len(indices):
        raise DataError(f"{dataset.path}: no picture to evaluate")
    crops: list[Crop] = []
    masks: list[Pixels] = []
    records: list[Record] = []
    for row in indices:
        record = dataset[int(row)]
        views = read_views(record, image_size)
        crops.append(centre_crop(views.object_pixels, views.object_box, image_size))
        if record.mask is not None:
            with Image.open(io.BytesIO(record.mask)) as mask:
                resized = np.asarray(resize_object(mask, record.box, image_size))
            masks.append(centre_crop(resized, views.object_box, image_size).pixels)
        records.append(record)
    images, boxes = _stack(crops)
    parts = len(dataset.info.parts)
    keypoints = [crop_keypoints(record, parts, image_size) for record in records if parts]
    return EvaluationSet(
        images=images,
        boxes=boxes,
        factors=_factor_tensors(records),
        labels=_integers([record.label for record in records]),
        masks=torch.from_numpy(np.stack(masks)[:, None] / np.float32(255))
        if len(masks) == len(records)
        else None,
        keypoints=torch.from_numpy(np.stack(keypoints)) if parts else None,
    )


def _factor_tensors(records: Sequence[Record]) -> dict[str, Int[Tensor, "N"]] | None:
    if any(record.factors is None for record in records):
        return None
    columns = {
        name: _integers([getattr(record.factors, name) for record in records])
        for name in FACTOR_NAMES
    }
    return {name: column for name, column in columns.items() if column is not None}


def _integers(values: Sequence[int | None]) -> Int[Tensor, "N"] | None:
    return None if any(value is None for value in values) else torch.tensor(values)


def _stack(crops: Sequence[Crop]) -> tuple[Float[Tensor, "B 3 S S"], Float[Tensor, "B 4"]]:
    pixels = np.stack([crop.pixels for crop in crops]).transpose(0, 3, 1, 2)
    scaled = scale_pixels(torch.from_numpy(np.ascontiguousarray(pixels)))
    return scaled, torch.from_numpy(np.stack([crop.box for crop in crops]))


class _Cut(NamedTuple):
    """A batch whose pixels are not floats yet: a quarter of the bytes to copy to a GPU."""

    image: UInt8[Tensor, "B 3 S S"]
    image_box: Float[Tensor, "B 4"]
    background: UInt8[Tensor, "B 3 T T"]
    background_box: Float[Tensor, "B 4"]


@lru_cache(maxsize=1)  # one epoch's, for all of its steps
def _order(count: int, seed: int, epoch: int) -> Int64[np.ndarray, "N"]:
    return np.random.default_rng([seed, _ORDER, epoch]).permutation(count)


def _is_resident(pixels: UInt8[Tensor, "P"], device: torch.device) -> bool:
    """Whether to gather on the training device."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return pixels.nbytes <= RESIDENT_SHARE * free
    return device.type == "cpu"


def _moved(part: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device, without waiting for work begun there."""
    # Only from pinned memory is a copy to a GPU not waited for.
    return (part.pin_memory() if device.type == "cuda" else part).to(device, non_blocking=True)


def _scaled(cut: _Cut) -> Batch:
    return Batch(
        scale_pixels(cut.image), cut.image_box, scale_pixels(cut.background), cut.background_box
    )


def _streamed(
    cut: Callable[[int], _Cut], start: int, device: torch.device
) -> Generator[Batch, None, None]:
    def pinned(step: int) -> _Cut:
        if device.type != "cuda":
            return cut(step)
        with torch.cuda.device(device):  # else the thread would open the first GPU too
            return _Cut(*(part.pin_memory() for part in cut(step)))

    ahead = made_ahead(
        pinned, count(start), threads=1, depth=PREFETCHED_BATCHES, name="mixnmatch-batches"
    )
    with closing(ahead):
        for made in ahead:
            yield _scaled(_Cut(*(_moved(part, device) for part in made)))
