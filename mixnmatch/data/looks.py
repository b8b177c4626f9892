"""Pictures of a data set made ready to be looked at: with their boxes, as training sees them."""

import math
import os
from collections.abc import Generator, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64
from PIL import Image, ImageDraw

from mixnmatch.data.ahead import made_ahead
from mixnmatch.data.pictures import check_box, decode_picture
from mixnmatch.data.records import Box, Part, Record, Split
from mixnmatch.data.store import Dataset
from mixnmatch.data.views import Crop, centre_crop, prepare_views
from mixnmatch.errors import DataError

LEAST_SIDE, LARGEST_SIDE = 8, 2048
NO_CLASS = "no class"
_INK = (255, 40, 120)
_DOT = (60, 220, 255)
_SHOWN_SIDE = 256
_NAMED = 8


class Panel(NamedTuple):
    """A picture made small, and what is marked in it."""

    image: Image.Image
    """RGB, nothing drawn into it."""
    size: tuple[int, int]
    """Width and height in pixels before it was made small; the box is in these."""
    corners: tuple[float, float, float, float]
    """Of the box: left, top, right, bottom; all zero where nothing of the object is seen."""
    parts: Sequence[Part] = ()
    """Keypoints, in the box's pixels."""

    def marked(self, width: int, height: int) -> Image.Image:
        """The picture of that size with the box and the keypoints drawn into it."""
        method = Image.Resampling.BOX if width >= self.image.width else Image.Resampling.BILINEAR
        image = self.image.resize((width, height), method)
        draw = ImageDraw.Draw(image)
        x, y = width / self.size[0], height / self.size[1]
        left, top, right, bottom = self.corners
        if right > left:
            # A box of less than a pixel still shows.
            ends = (max(right * x - 1, left * x), max(bottom * y - 1, top * y))
            draw.rectangle((left * x, top * y, *ends), outline=_INK)
        for part in self.parts:
            draw.circle((part.x * x, part.y * y), 2, fill=_DOT, outline=(0, 0, 0))
        return image


class Panels(NamedTuple):
    """The three pictures of a row."""

    picture: Panel
    """The whole picture."""
    object: Panel
    """The middle of its object view, as evaluation crops it; training crops at random."""
    background: Panel
    """The middle of its background view."""


class Look(NamedTuple):
    """A row of a data set."""

    record: Record
    """What is stored."""
    panels: Panels | None
    """None where the picture cannot be used."""
    problem: str | None
    """Why not, in one line."""

    @property
    def class_title(self) -> str:
        """Class in words, as ``class_title`` says."""
        return class_title(self.record.class_name, self.record.label)

    @property
    def object_share(self) -> float | None:
        """Area of the box as a share of the picture's, in (0, 1]; None for a box that is none."""
        width, height = self.record.width, self.record.height
        try:
            return check_box(self.record.box, width, height, "").area / (width * height)
        except DataError:
            return None


def class_title(name: str | None, label: int | None) -> str:
    """How people see a class: its name, or its number where it has none."""
    if name:
        return name
    return NO_CLASS if label is None else f"class {label}"


def choose_rows(
    dataset: Dataset,
    count: int | None = None,
    *,
    split: Split | None = None,
    class_name: str | None = None,
    odd: bool = False,
    seed: int | None = None,
) -> Int64[np.ndarray, "N"]:
    """Rows to look at, in ascending order.

    Args:
        dataset: Where they are.
        count: Most rows; all by default.
        split: Of this split only.
        class_name: Of this class only, as ``class_title`` calls it.
        odd: Only those with remarks.
        seed: Choose at random; without it rows are spread evenly.

    Raises:
        DataError: If there is no such class, or no row is left.
    """
    rows = dataset.indices(split)
    wanted = [] if split is None else [f"of split {split!r}"]
    if class_name is not None:
        titles = _class_titles(dataset)
        if class_name not in set(titles):
            some = sorted(set(titles))
            more = f" and {len(some) - _NAMED} more" if len(some) > _NAMED else ""
            raise DataError(
                f"{dataset.path}: no class {class_name!r}; there are "
                f"{', '.join(map(repr, some[:_NAMED]))}{more}"
            )
        rows = rows[[titles[row] == class_name for row in rows]]
        wanted.append(f"of class {class_name!r}")
    if odd:
        remarks = dataset.column("remarks")
        rows = rows[[bool(remarks[row]) for row in rows]]
        wanted.append("with remarks")
    if not len(rows):
        raise DataError(f"{dataset.path}: no picture {' and '.join(wanted)}")
    if count is None or count >= len(rows):
        return rows
    if seed is not None:
        return np.sort(np.random.default_rng(seed).permutation(rows)[:count])
    return rows[np.linspace(0, len(rows) - 1, count).round().astype(int)]


def read_looks(
    dataset: Dataset, rows: Iterable[int], image_size: int
) -> Generator[Look, None, None]:
    """Rows made ready by threads, in their order.

    Args:
        dataset: Where they are.
        rows: Their numbers.
        image_size: Side s of the object view in pixels; the background view is of side s - 2.

    Raises:
        DataError: If a shard is damaged. A picture that cannot be used is told by its own ``Look``.
    """
    threads = os.cpu_count() or 1
    return made_ahead(
        lambda row: look(dataset[int(row)], image_size),
        rows,
        threads=threads,
        depth=2 * threads,
        name="look",
    )


def look(record: Record, image_size: int) -> Look:
    """A row made ready to be looked at.

    Args:
        record: The row.
        image_size: Side s of the object view in pixels.
    """
    try:
        image = decode_picture(record.image, record.source)
        box = check_box(record.box, *image.size, record.source)
        views = prepare_views(image, box, image_size)
    except DataError as error:
        reason = str(error).removeprefix(f"{record.source}: ")
        return Look(record, None, f"{record.source}: {reason}")
    crops = (
        centre_crop(views.object_pixels, views.object_box, image_size),
        centre_crop(views.background_pixels, views.background_box, image_size - 2),
    )
    parts = [part for part in record.parts if math.isfinite(part.x) and math.isfinite(part.y)]
    return Look(record, Panels(whole(image, box, parts), *map(_of_crop, crops)), None)


def whole(image: Image.Image, box: Box, parts: Sequence[Part] = ()) -> Panel:
    """A whole picture with its box and keypoints.

    Args:
        image: RGB.
        box: In its pixels, inside it.
        parts: In its pixels, finite.
    """
    left, top, right, bottom = map(float, box.corners)
    return Panel(_small(image), image.size, (left, top, right, bottom), parts)


def _of_crop(crop: Crop) -> Panel:
    left, top, right, bottom = map(float, crop.box)
    image = Image.fromarray(np.ascontiguousarray(crop.pixels))
    return Panel(_small(image), image.size, (left, top, right, bottom))


def _small(image: Image.Image) -> Image.Image:
    longest = max(image.size)
    if longest <= _SHOWN_SIDE:
        return image
    width, height = (max(1, round(side * _SHOWN_SIDE / longest)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BILINEAR)


def _class_titles(dataset: Dataset) -> list[str]:
    names, labels = dataset.column("class_name"), dataset.column("label")
    return [class_title(name, label) for name, label in zip(names, labels, strict=True)]
