"""Statistics of a data set: every picture is read again and prepared as training prepares it."""

import io
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64
from PIL import Image, ImageChops

from mixnmatch.data.ahead import made_ahead
from mixnmatch.data.free_patches import free_patches
from mixnmatch.data.info import DatasetInfo
from mixnmatch.data.pictures import Decoded, check_box, decode_whole, picture_errors
from mixnmatch.data.records import Record
from mixnmatch.data.store import Dataset
from mixnmatch.data.views import object_square, prepare_views
from mixnmatch.errors import DataError
from mixnmatch.networks.discriminators import PATCH_MAP

KINDS = {
    "unusable": "cannot be read or prepared",
    "bad_box": "box without area, or outside the picture",
    "cut_box": "box cut at the picture's edge",
    "small_box": "box with a side under 8 pixels",
    "enlarged": "object view enlarged more than twice",
    "grey": "greyscale",
    "no_background": "crops show less than one free patch of background",
    "several": "one of several objects",
    "twice": "the same picture under another name",
    "remark": "other remarks",
}
"""What can be odd about a picture."""
SMALL_BOX = 8
"""Pixels: a box with a shorter side is hardly one of an object."""
LARGE_FACTOR = 2
"""A view enlarged by more has less than a quarter of its pixels from the photograph."""
GREY_SPREAD = 8
"""Of 255: channels that nowhere differ by more are of a grey picture, not of a dull one."""
_CUT = 0.01  # pixels: less is rounding
_OTHERS = 5  # of the same pictures that are named
_CUT_REMARK = "box cut"
_SEVERAL_REMARK = re.compile(r" of \d+ objects$")
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?")
_GREY_REMARK = "greyscale"


class Odd(NamedTuple):
    """A picture with something odd about it."""

    row: int
    """In the data set."""
    id: int
    """Its own number."""
    source: str
    """Where it came from."""
    detail: str
    """What is odd, in a few words."""


class Measured(NamedTuple):
    """What training will make of a picture."""

    width: int
    """Pixels."""
    height: int
    """Pixels."""
    object_share: float
    """Area of the box as a share of the picture's, in (0, 1]."""
    enlargement: float
    """Factor from the photograph to its object view; under 1 where it is made smaller."""
    free_share: float
    """Expected share of background patches that are free of the object, in [0, 1]."""
    barren: float
    """Chance that a crop has no free patch at all, in [0, 1]."""


@dataclass(kw_only=True, slots=True)
class Findings:
    """All that was found in a data set."""

    name: str
    """Its folder."""
    info: DatasetInfo
    """What it says of itself."""
    image_size: int
    """Side of the object view that was asked about, in pixels."""
    count: int
    """Rows."""
    training: int = 0
    """Different pictures of split "train" that can be used."""
    splits: Counter[str] = field(default_factory=Counter)
    """Rows of each split."""
    classes: dict[str, Counter[str]] = field(default_factory=dict)
    """Rows of each class and split, in the order of their labels."""
    odd: dict[str, list[Odd]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    """Odd pictures, by the keys of ``KINDS``, in the order of their rows."""
    spoilt: int = 0
    """Rows that cannot be used."""
    repeated: int = 0
    """Rows of pictures that are there under another name already."""
    shared: int = 0
    """Rows of split "test" whose picture is in split "train" too."""
    rejects: Counter[str] = field(default_factory=Counter)
    """Pictures that ingestion left out, by their reason without its numbers."""
    measured: list[Measured] = field(default_factory=list)
    """Of each row that can be used."""

    def values(self, name: str) -> Float64[np.ndarray, "N"]:
        """A field of ``Measured``, of each row that can be used."""
        return np.array([getattr(item, name) for item in self.measured], dtype=np.float64)


def check_dataset(
    dataset: Dataset, image_size: int, progress: Callable[[int], object] = lambda _: None
) -> Findings:
    """Read everything in a data set.

    Args:
        dataset: To be checked.
        image_size: Side of the object view that a model would be trained on, in pixels.
        progress: Told of pictures that are done.
    """
    found = Findings(
        name=str(dataset.path), info=dataset.info, image_size=image_size, count=len(dataset)
    )
    ids, sources = dataset.column("id"), dataset.column("source")
    splits, remarks = dataset.column("split"), dataset.column("remarks")
    cores = os.cpu_count() or 1
    # Threads do: Pillow lets go of the interpreter lock while it decodes and resizes.
    read = made_ahead(
        lambda row: _read(dataset, row, sources[row], image_size),
        range(len(dataset)),
        threads=cores,
        depth=4 * cores,
        name="mixnmatch-check",
    )
    usable: list[int] = []
    with closing(read):
        for row, (measured, oddities) in enumerate(read):
            for kind, detail in [*oddities, *_from_remarks(remarks[row])]:
                found.odd[kind].append(Odd(row, ids[row], sources[row], detail))
            if measured is not None:
                usable.append(row)
                found.measured.append(measured)
            progress(1)
    found.spoilt = len(dataset) - len(usable)
    found.splits = Counter(split or "none" for split in splits)
    found.rejects = Counter(reject_kind(*reject) for reject in dataset.info.rejects)
    _count_classes(dataset, found)
    _find_same(dataset, found)
    objects = _columns(dataset, "sha256", "box_x", "box_y", "box_width", "box_height")
    found.training = len({objects[row] for row in usable if splits[row] == "train"})
    return found


def reject_kind(source: str, reason: str) -> str:
    """The reason of a reject without the names and numbers of its picture."""
    reason = reason.rsplit(f"{source}: ", 1)[-1]
    return _NUMBER.sub("…", reason)


Oddities = list[tuple[str, str]]
"""Kinds and details."""


def _read(
    dataset: Dataset, row: int, source: str, image_size: int
) -> tuple[Measured | None, Oddities]:
    """A row, or None where training could not use it, and what is odd about it."""
    try:
        record = dataset[row]
        decoded = _decode(record)
    except DataError as error:
        return None, [("unusable", _reason(error, source))]
    try:
        box = check_box(record.box, record.width, record.height, record.source)
    except DataError as error:
        return None, [("bad_box", _reason(error, source))]
    try:
        views = prepare_views(decoded.image, box, image_size)
    except DataError as error:
        return None, [("unusable", str(error))]
    odd: Oddities = []
    square = object_square(box, record.width, record.height)
    share = box.area / (record.width * record.height)
    enlargement = min(views.object_pixels.shape[:2]) / min(square.width, square.height)
    free = free_patches(views, image_size)
    if any(abs(a - b) > _CUT for a, b in zip(box.corners, record.box.corners, strict=True)):
        values = "({:g}, {:g}, {:g}, {:g})".format(*record.box)
        odd.append(("cut_box", f"box {values} goes past the edge"))
    if min(box.width, box.height) < SMALL_BOX:
        odd.append(("small_box", f"box of {box.width:g}x{box.height:g} pixels"))
    if enlargement > LARGE_FACTOR:
        detail = f"{square.width:g}x{square.height:g} pixels enlarged {enlargement:.1f} times"
        odd.append(("enlarged", detail))
    if (grey := _grey(decoded)) is not None:
        odd.append(("grey", grey))
    if free.share * PATCH_MAP**2 < 1:
        odd.append(("no_background", f"box of {share:.0%} of the picture"))
    return Measured(record.width, record.height, share, enlargement, *free), odd


def _decode(record: Record) -> Decoded:
    """The picture, once all that the row says of it was found true.

    Raises:
        DataError: If it was not.
    """
    decoded = decode_whole(record.image, record.source)
    said = (record.width, record.height)
    if decoded.image.size != said:
        raise DataError(
            "picture of {}x{} pixels, its row says {}x{}".format(*decoded.image.size, *said)
        )
    if record.mask is not None:
        with picture_errors("mask", len(record.mask)), Image.open(io.BytesIO(record.mask)) as mask:
            mask.load()
        if mask.size != said:
            raise DataError(
                "mask of {}x{} pixels, its picture is of {}x{}".format(*mask.size, *said)
            )
    return decoded


def _reason(error: DataError, source: str) -> str:
    return str(error).removeprefix(f"{source}: ")


def _grey(decoded: Decoded) -> str | None:
    if decoded.mode in ("L", "LA", "1", "F") or decoded.mode.startswith("I"):
        return f"stored as grey (mode {decoded.mode})"
    red, green, blue = decoded.image.split()
    pairs = ((red, green), (green, blue), (red, blue))
    spread = max(np.asarray(ImageChops.difference(*pair)).max() for pair in pairs)
    return f"colours differ by {spread} of 255 at most" if spread <= GREY_SPREAD else None


def _from_remarks(remarks: list[str]) -> Oddities:
    """What ingestion remarked, but for what is measured here anyway."""
    odd: Oddities = []
    for remark in remarks:
        if remark.startswith(_CUT_REMARK):
            odd.append(("cut_box", remark))
        elif _SEVERAL_REMARK.search(remark):
            odd.append(("several", remark))
        elif not remark.startswith(_GREY_REMARK):
            odd.append(("remark", remark))
    return odd


def _count_classes(dataset: Dataset, found: Findings) -> None:
    named: dict[int, tuple[str, Counter[str]]] = {}
    for label, name, split in _columns(dataset, "label", "class_name", "split"):
        if label is not None:
            counts = named.setdefault(label, (name or f"class {label}", Counter()))[1]
            counts[split or "none"] += 1
    for label in sorted(named):
        name, counts = named[label]
        found.classes[name if name not in found.classes else f"{name} ({label})"] = counts


def _find_same(dataset: Dataset, found: Findings) -> None:
    """Rows whose bytes are those of another picture; objects of one picture are not."""
    same: dict[str, list[tuple[int, int, str, str]]] = defaultdict(list)
    columns = _columns(dataset, "sha256", "id", "source", "split")
    for row, (checksum, number, source, split) in enumerate(columns):
        same[checksum].append((row, number, source, split or "none"))
    for group in same.values():
        named = {source: f"{source} (split {split})" for _, _, source, split in group}
        if len(named) == 1:
            continue
        found.repeated += sum(source != group[0][2] for _, _, source, _ in group)
        if any(split == "train" for *_, split in group):
            found.shared += sum(split == "test" for *_, split in group)
        for row, number, source, split in group:
            # All of them for each of them would be too much where a source has thousands of one.
            others = list(islice((named[name] for name in named if name != source), _OTHERS))
            more = len(named) - 1 - len(others)
            detail = f"split {split}; the same as {', '.join(others)}"
            detail += f" and {more} more" if more else ""
            found.odd["twice"].append(Odd(row, number, source, detail))


def _columns(dataset: Dataset, *names: str) -> list[tuple[Any, ...]]:
    return list(zip(*(dataset.column(name) for name in names), strict=True))
