"""What is in YOLO's files: an object in a line, and the names of the classes.

A line is ``class x y width height`` with the middle of the box, all but the class in shares of the
picture; or a class and the corners of an outline, whose box is taken; or, where ``data.yaml`` gives
``kpt_shape``, a box followed by keypoints.

Source: https://docs.ultralytics.com/datasets/
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from reprlib import repr as brief
from typing import Any, NamedTuple

from mixnmatch.data.info import one_line
from mixnmatch.data.layouts.coco_fields import is_word
from mixnmatch.data.layouts.listing import Annotation
from mixnmatch.data.records import Box, Part, Split

PIXELS_FROM = 2.0
"""Magnitude of what cannot be a share: boxes go past the edge, but not by a whole picture. It also
tells a keypoint's "visible" from a corner of an outline."""
_MOST_KEYPOINTS = 1000


class Names(NamedTuple):
    """What a set says of its classes and keypoints."""

    classes: dict[int, str]
    """Names by number."""
    keypoints: tuple[int, int] | None = None
    """How many each object has, and numbers of each: x, y and, where there are three, v."""


class SetFile(NamedTuple):
    """What the YAML file of a set says."""

    names: Names
    """Of classes and keypoints."""
    lists: tuple[tuple[Split, str], ...]
    """Text files with the paths of pictures, as they are written, and the split of these; none
    where it names folders."""


def object_of(line: str, names: Names) -> Annotation:
    """The object of a line, its box in shares of the picture.

    Keypoints are taken as they are. Of those with three numbers only the visible are kept (v = 2);
    of those with two, those that are not negative, which is how YOLO marks missing ones.

    Args:
        line: Of a label file.
        names: Without classes, an object is called by its number.

    Raises:
        ValueError: If it cannot be understood.
    """
    numbers = _numbers(line)
    key, values = numbers[0], numbers[1:]
    if not key.is_integer() or key < 0:
        raise ValueError(f"class {key:g} is not a whole number from 0")
    if names.classes and int(key) not in names.classes:
        raise ValueError(f"class {key:g} is not among the {len(names.classes)} that have names")
    parts: tuple[Part, ...] = ()
    if names.keypoints and len(values) == 4 + math.prod(names.keypoints):
        parts = _visible(values[4:], names.keypoints[1])
        box = _centred(values[:4])
    elif len(values) == 4:
        box = _centred(values)
    elif len(values) >= 6 and len(values) % 2 == 0:
        _check_shares(values)
        xs, ys = values[::2], values[1::2]
        box = Box.from_corners(min(xs), min(ys), max(xs), max(ys))
    else:
        raise ValueError(
            f"{len(numbers)} numbers; there must be 5 (class, x and y of the middle, width, height)"
            ", or the class and three or more corners of an outline, or, where data.yaml gives "
            "kpt_shape, 5 and the keypoints"
        )
    if box.width <= 0 or box.height <= 0:
        raise ValueError(f"width {box.width:g} and height {box.height:g} must be above 0")
    name = names.classes[int(key)] if names.classes else str(int(key))
    return Annotation(box, unit="shares", class_name=name, parts=parts)


def looks_like_object(line: str) -> bool:
    """Whether a line may be of a label file: a class, and four or more small numbers."""
    try:
        numbers = _numbers(line)
    except ValueError:
        return False
    small = all(abs(value) <= PIXELS_FROM for value in numbers[1:])  # false for those that are nan
    return len(numbers) >= 5 and numbers[0].is_integer() and numbers[0] >= 0 and small


def read_set(text: str) -> SetFile | None:
    """What a YAML file says of a set, if it has names of classes.

    All in it is taken as text, so that a class may be called "no" or 1.

    Raises:
        ValueError: If it cannot be understood.
    """
    if "names" not in text:  # a file about something else, which need not even be YAML
        return None
    import yaml

    try:
        table = yaml.load(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"not YAML ({one_line(error)})") from error
    if not isinstance(table, dict) or "names" not in table:
        return None
    names = table["names"]
    if isinstance(names, list):
        names = {str(index): name for index, name in enumerate(names)}
    if not isinstance(names, dict) or not names:
        raise ValueError(f"names {brief(names)} must be a list, or a mapping from numbers")
    classes = {}
    for key, name in names.items():
        if not (is_word(key) and key.isascii() and key.isdecimal() and len(key) < 10):
            raise ValueError(f"names: {brief(key)} is not the number of a class")
        if not is_word(name):
            raise ValueError(f"names: {key} is called {brief(name)}, which is not a word")
        classes[int(key)] = name
    keypoints = _keypoints(table.get("kpt_shape"))
    return SetFile(Names(dict(sorted(classes.items())), keypoints), tuple(_lists(table)))


def names_of_lines(text: str) -> Names:
    """The names of a file with one in each line.

    Raises:
        ValueError: If one is empty.
    """
    lines = [line.strip() for line in text.rstrip().splitlines()]
    if "" in lines or not lines:
        raise ValueError(f"line {lines.index('') + 1 if lines else 1} is empty, not a class's name")
    return Names(dict(enumerate(lines)))


def _lists(table: Mapping[str, Any]) -> Iterator[tuple[Split, str]]:
    for key in ("train", "val", "test"):
        value = table.get(key)
        for name in value if isinstance(value, list) else [value]:
            if isinstance(name, str) and name.lower().endswith(".txt"):
                yield "train" if key == "train" else "test", name


def _numbers(line: str) -> list[float]:
    try:
        return [float(word) for word in line.split()]
    except ValueError:
        raise ValueError(
            f"{brief(line)} is not numbers: class, x and y of the middle, width, height"
        ) from None


def _check_shares(values: Sequence[float]) -> None:
    for value in values:
        if not math.isfinite(value):
            raise ValueError(f"{value:g} is not a finite number")
        if abs(value) >= PIXELS_FROM:
            raise ValueError(
                f"{value:g} is not a share: YOLO's numbers are shares of the picture's width and "
                "height, from 0 to 1, not pixels"
            )


def _centred(values: Sequence[float]) -> Box:
    _check_shares(values)
    x, y, width, height = values
    return Box(x - width / 2, y - height / 2, width, height)


def _visible(values: Sequence[float], size: int) -> tuple[Part, ...]:
    found = []
    for part in range(len(values) // size):
        x, y, *rest = values[part * size : (part + 1) * size]
        if rest and rest[0] not in (0, 1, 2):
            raise ValueError(f"keypoint {part}: v {rest[0]:g} is none of 0, 1 and 2")
        if rest[0] == 2 if rest else x >= 0 and y >= 0:
            _check_shares((x, y))
            found.append(Part(part, x, y))
    return tuple(found)


def _keypoints(shape: Any) -> tuple[int, int] | None:
    if shape is None:
        return None
    try:
        count, size = map(int, shape)
    except (TypeError, ValueError):
        count = size = 0
    if not (0 < count <= _MOST_KEYPOINTS and size in (2, 3)):
        raise ValueError(f"kpt_shape {brief(shape)} is not a number of keypoints, and 2 or 3")
    return count, size
