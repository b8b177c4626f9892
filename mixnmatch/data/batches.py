"""Batches of the two training views, and the fixed pictures of an evaluation.

What a step sees is a function of seed, step and rank alone, so that a resumed run sees what an
undisturbed one would have seen.
"""

import io
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int, Int64
from PIL import Image
from torch import Tensor

from mixnmatch.data.pictures import decode_picture
from mixnmatch.data.records import Record, Split
from mixnmatch.data.store import Dataset
from mixnmatch.data.views import (
    Corners,
    Crop,
    Pixels,
    Views,
    centre_crop,
    crop_view,
    prepare_views,
    resize_object,
)
from mixnmatch.errors import DataError

FACTOR_NAMES = ("background", "shape", "texture", "pose")
PREFETCHED_BATCHES = 3
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


class TrainingSet:
    """The pictures of a data set, made into batches.

    Each picture is decoded and resized once and then kept, as long as all fit into memory; those
    beyond the limit are decoded again whenever they are needed.
    """

    def __init__(
        self,
        dataset: Dataset,
        image_size: int,
        split: Split | None = None,
        memory_limit_bytes: int = 2 * 2**30,
    ) -> None:
        """Choose the pictures.

        Args:
            dataset: Where they are.
            image_size: Side S of the object views, in pixels.
            split: Only those of this split.
            memory_limit_bytes: Most memory that prepared pictures may take.

        Raises:
            DataError: If there are none.
        """
        self.image_size = image_size
        self._dataset = dataset
        self._rows = dataset.indices(split)
        self._memory_limit_bytes = memory_limit_bytes
        self._prepared: dict[int, Views] = {}
        self._prepared_bytes = 0
        if not len(self._rows):
            raise DataError(f"{dataset.path}: no picture of split {split!r}")

    def __len__(self) -> int:
        return len(self._rows)

    def steps_per_epoch(self, batch_size: int, world_size: int = 1) -> int:
        """Steps that see each picture at most once; the last incomplete one is dropped."""
        return len(self) // (batch_size * world_size)

    def batches(
        self,
        batch_size: int,
        *,
        seed: int,
        start_step: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> Generator[Batch, None, None]:
        """Batches without end; a thread prepares the next ones until the generator is closed.

        Args:
            batch_size: Pictures a batch and rank.
            seed: Of order, crops and flips.
            start_step: Step of the first batch, from 0.
            rank: Which part of each step's pictures to take.
            world_size: Number of ranks, which share each step's pictures without overlap. Together
                they see what one rank with ``world_size`` times the batch size would see.

        Raises:
            DataError: If the pictures do not suffice for one step.
        """
        if not self.steps_per_epoch(batch_size, world_size):
            raise DataError(
                f"{self._dataset.path}: {len(self)} pictures are too few for "
                f"batches of {batch_size} on {world_size} worker(s): at least "
                f"{batch_size * world_size} are needed"
            )

        def batch(step: int) -> Batch:
            return self._batch(step, batch_size, seed, rank, world_size)

        return _prefetched(batch, start_step)

    def _batch(self, step: int, batch_size: int, seed: int, rank: int, world_size: int) -> Batch:
        whole = batch_size * world_size
        mine = slice(rank * batch_size, (rank + 1) * batch_size)
        epoch, position = divmod(step, self.steps_per_epoch(batch_size, world_size))
        order = np.random.default_rng([seed, _ORDER, epoch]).permutation(self._rows)
        rows = order[position * whole :][mine]
        chances = np.random.default_rng([seed, _CROPS, step]).random((whole, 2, 3))[mine]
        images, backgrounds = [], []
        for row, (of_object, of_background) in zip(rows, chances, strict=True):
            views = self._views(int(row))
            images.append(
                _random_crop(views.object_pixels, views.object_box, self.image_size, of_object)
            )
            backgrounds.append(
                _random_crop(
                    views.background_pixels,
                    views.background_box,
                    self.image_size - 2,
                    of_background,
                )
            )
        return Batch(*_stack(images), *_stack(backgrounds))

    def _views(self, row: int) -> Views:
        views = self._prepared.get(row)
        if views is None:
            views = _prepare(self._dataset[row], self.image_size)
            size = sum(part.nbytes for part in views)
            if self._prepared_bytes + size <= self._memory_limit_bytes:
                self._prepared[row] = views
                self._prepared_bytes += size
        return views


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
        views = _prepare(record, image_size)
        crops.append(centre_crop(views.object_pixels, views.object_box, image_size))
        if record.mask is not None:
            with Image.open(io.BytesIO(record.mask)) as mask:
                resized = np.asarray(resize_object(mask, record.box, image_size))
            masks.append(centre_crop(resized, views.object_box, image_size).pixels)
        records.append(record)
    images, boxes = _stack(crops)
    return EvaluationSet(
        images=images,
        boxes=boxes,
        factors=_factor_tensors(records),
        labels=_integers([record.label for record in records]),
        masks=torch.from_numpy(np.stack(masks)[:, None] / np.float32(255))
        if len(masks) == len(records)
        else None,
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


def _prepare(record: Record, image_size: int) -> Views:
    image = decode_picture(record.image, record.source)
    try:
        return prepare_views(image, record.box, image_size)
    except DataError as error:
        raise DataError(f"{record.source}: {error}") from error


def _random_crop(
    pixels: Pixels, box: Corners, side: int, chances: Float64[np.ndarray, "3"]
) -> Crop:
    height, width = pixels.shape[:2]
    offset_x = int(chances[0] * (width - side + 1))
    offset_y = int(chances[1] * (height - side + 1))
    return crop_view(pixels, box, side, offset_x, offset_y, flip=bool(chances[2] < 0.5))


def _stack(crops: Sequence[Crop]) -> tuple[Float[Tensor, "B 3 S S"], Float[Tensor, "B 4"]]:
    pixels = np.stack([crop.pixels for crop in crops]).transpose(0, 3, 1, 2)
    scaled = np.ascontiguousarray(pixels, dtype=np.float32) / np.float32(127.5) - np.float32(1)
    return torch.from_numpy(scaled), torch.from_numpy(np.stack([crop.box for crop in crops]))


def _prefetched(make: Callable[[int], Batch], start: int) -> Generator[Batch, None, None]:
    """Make batches ahead in one thread; Pillow lets go of the interpreter lock meanwhile."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="mixnmatch-batches")
    steps = count(start)
    ahead: deque[Future[Batch]] = deque()
    try:
        while True:
            while len(ahead) < PREFETCHED_BATCHES:
                ahead.append(pool.submit(make, next(steps)))
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
