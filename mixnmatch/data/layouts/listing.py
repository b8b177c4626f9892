"""What a layout says of its pictures before any of them is read.

Each module of a layout has

* ``recognise(place, files)``: what it saw, in a few words, where these files are of its layout,
  else None;
* ``read_listing(place, files, options)``: the pictures and their objects.

A listing is refused as a whole (``DataError``) only where its own index cannot be understood; what
is wrong with one picture is told by that picture's entry.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal, NamedTuple

from mixnmatch.data.info import Kind
from mixnmatch.data.places import FileMark
from mixnmatch.data.records import Box, Part, Split

Files = dict[str, FileMark]
"""All files of a folder by their path, in ascending order."""
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")
_LOOKED_AT = 100
_SHOWN = 3


class Annotation(NamedTuple):
    """An object as a layout tells of it; the layout's convention is undone already."""

    box: Box
    """x, y, width and height, x and y from the left and upper edge of the first pixel."""
    unit: Literal["pixels", "shares"] = "pixels"
    """Of box and parts: pixels, or shares of the picture's width and height."""
    class_name: str | None = None
    """Class in words."""
    parts: tuple[Part, ...] = ()
    """Keypoints that can be seen."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A picture of a listing."""

    path: str
    """Of its file, below the listing's folder."""
    objects: tuple[Annotation, ...] = ()
    """What is annotated in it, in the order of the source."""
    id: int | None = None
    """The source's own number of it."""
    split: Split | None = None
    """Part of the data set."""
    size: tuple[int, int] | None = None
    """Width and height in pixels that the annotation speaks of, where it says."""
    problem: str | None = None
    """Why its annotation cannot be used, in one line; the picture is then left out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """All pictures of a source."""

    kind: Kind
    """Its layout."""
    entries: Sequence[Entry]
    """In a stable order."""
    class_names: Sequence[str] = ()
    """By label; classes that no picture has may be among them."""
    part_names: Sequence[str] = ()
    """Of the keypoints, by index."""
    saw: str = ""
    """What was recognised, for people: layout, number of files and where they are."""
    notes: Sequence[str] = ()
    """What people should know of how it was read, a line each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LayoutOptions:
    """How a source is to be read, where its layout leaves that open."""

    columns: tuple[tuple[str, str], ...] = ()
    """Of a table: our name of a column (image, x, y, width, height, x2, y2, class, split) and the
    table's."""
    boxes: Literal["xywh", "xyxy", "cxcywh"] = "xywh"
    """Of a table: what the four numbers are."""
    unit: Literal["pixels", "shares"] = "pixels"
    """Of a table's boxes: pixels, or shares of the picture's width and height."""
    first_pixel: Literal[0, 1] = 1
    """Of Pascal VOC XML: the number of the first pixel; the last is counted in."""
    margin: float = 0.05
    """Of pictures without boxes: share of each side that is taken for background."""
    image_folder: str | None = None
    """Where pictures are, below the source, if the layout's own place is another; "" is the source
    itself, however that is written: ".", "./" or "/"."""
    table: str | None = None
    """Of several tables: the one that is meant, below the source."""

    def __post_init__(self) -> None:
        if self.image_folder is not None:
            folder = "/".join(PurePosixPath(self.image_folder.strip("/")).parts)
            object.__setattr__(self, "image_folder", folder)


def files_below(files: Iterable[str], folder: str | None) -> list[str]:
    """Those of the files that are in a folder, at any depth.

    Args:
        files: Paths.
        folder: As ``image_folder`` of ``LayoutOptions``; None is all of the source.
    """
    start = f"{folder}/" if folder else ""
    return [path for path in files if path.startswith(start)]


def pictures_below(files: Iterable[str], folder: str | None) -> list[str]:
    """Those of ``files_below`` that are pictures."""
    return [path for path in files_below(files, folder) if path.lower().endswith(PICTURE_SUFFIXES)]


def outermost(paths: Iterable[str]) -> list[str]:
    """Of many files the first hundred, those in the fewest folders: thousands are one a picture."""
    return sorted(paths, key=lambda path: (path.count("/"), path))[:_LOOKED_AT]


def some(paths: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    more = len(paths) - _SHOWN
    return ", ".join(paths[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def split_of(name: str) -> Split | None:
    """The split that a folder or a column names: "val" and "valid" are for tests, too."""
    lowered = name.strip().lower()
    if lowered in ("train", "training", "trainval"):
        return "train"
    if lowered in ("test", "testing", "val", "valid", "validation", "dev"):
        return "test"
    return None


def numbered(names: set[str]) -> tuple[str, ...]:
    """Class names in the order of their labels: numbers in them count as numbers."""

    def key(name: str) -> tuple[list[tuple[int, int, str]], str]:
        parts = []
        for digit, run in _runs(name):
            value = run.lstrip("0")  # by length, then digits: Python reads no number of 5,000
            parts.append((0, len(value), value) if digit else (1, 0, run))
        return parts, name

    return tuple(sorted(names, key=key))


def _runs(text: str) -> list[tuple[bool, str]]:
    runs: list[tuple[bool, str]] = []
    for character in text:
        digit = character.isascii() and character.isdigit()
        if runs and runs[-1][0] == digit:
            runs[-1] = (digit, runs[-1][1] + character)
        else:
            runs.append((digit, character))
    return runs
