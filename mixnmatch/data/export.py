"""Pictures of a data set as files, for instance to mix them."""

import re
import shutil
import uuid
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from mixnmatch.data.pictures import decode_picture
from mixnmatch.data.records import Record, Split
from mixnmatch.data.store import Dataset
from mixnmatch.data.views import centre_crop, prepare_views
from mixnmatch.errors import DataError
from mixnmatch.files import replace_folder

LEAST_SIDE, LARGEST_SIDE = 8, 2048


class Exported(NamedTuple):
    """What was written."""

    files: list[Path]
    """In the order of the data set."""
    available: int
    """Number of pictures to choose from."""


def export_pictures(
    dataset: Dataset,
    out: Path,
    *,
    count: int,
    side: int = 128,
    split: Split | None = None,
    seed: int = 0,
) -> Exported:
    """Write some pictures as PNG files, cut to the object as evaluation sees them.

    Args:
        dataset: Where they are.
        out: The folder; it must not exist, or be empty. It appears whole or not at all.
        count: Most pictures to write.
        side: Of the files, in pixels.
        split: Choose among this split only.
        seed: Of the choice.

    Raises:
        DataError: If an argument is out of range, ``out`` is in the way, the split is empty, or a
            picture cannot be read.
    """
    if count < 1:
        raise DataError(f"count is {count}: it must be at least 1")
    if not LEAST_SIDE <= side <= LARGEST_SIDE:
        raise DataError(f"side is {side}: it must be from {LEAST_SIDE} to {LARGEST_SIDE} pixels")
    if seed < 0:
        raise DataError(f"seed is {seed}: it must be at least 0")
    out = out.resolve()
    _check_free(out)
    rows = dataset.indices(split)
    if not len(rows):
        raise DataError(f"{dataset.path}: has no pictures of split {split!r}")
    chosen = np.sort(np.random.default_rng(seed).permutation(rows)[:count])
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.partial")
    partial.mkdir()
    names = []
    try:
        for row in chosen:
            record = dataset[int(row)]
            names.append(file_name(record))
            _object_view(record, side).save(partial / names[-1])
        _check_free(out)
        replace_folder(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Exported([out / name for name in names], len(rows))


def file_name(record: Record) -> str:
    """The picture's number and its class, of letters, digits, ``_`` and ``-``."""
    words = re.sub(r"[^A-Za-z0-9_]+", "-", record.class_name or "").strip("-")[:80]
    return f"{record.id:04d}{'-' if words else ''}{words}.png"


def _object_view(record: Record, side: int) -> Image.Image:
    image = decode_picture(record.image, record.source)
    try:
        views = prepare_views(image, record.box, side)
    except DataError as error:
        raise DataError(f"{record.source}: {error}") from error
    crop = centre_crop(views.object_pixels, views.object_box, side)
    return Image.fromarray(np.ascontiguousarray(crop.pixels))


def _check_free(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: exists already and is not an empty folder")
