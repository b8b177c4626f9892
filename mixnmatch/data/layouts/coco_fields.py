"""What is in COCO's lists: a category, a picture's size, an object; whatever types they have.

Functions raise ``ValueError`` with the end of a line that begins with the place in the file.
"""

import math
from collections.abc import Mapping, Sequence
from reprlib import repr as brief
from typing import Any, NamedTuple, TypeGuard

from mixnmatch.data.layouts.listing import Annotation
from mixnmatch.data.records import Box, Part

_VISIBLE = 2
Key = int | str
"""Of a picture; COCO's own are numbers, but not those of camera traps."""


class Category(NamedTuple):
    """A class of COCO."""

    name: str
    """In words."""
    parts: tuple[str, ...]
    """Names of its keypoints."""


def read_categories(items: Sequence[Any]) -> dict[int, Category]:
    """All categories by their id, in ascending order.

    Raises:
        ValueError: If one is no category, or an id is there twice.
    """
    found: dict[int, Category] = {}
    for index, item in enumerate(items):
        where = f"categories[{index}]"
        if not isinstance(item, dict):
            raise ValueError(f"{where}: {brief(item)} is not an object with id and name")
        key, name, parts = item.get("id"), item.get("name"), item.get("keypoints") or []
        if not is_whole(key):
            raise ValueError(f"{where}: id {brief(key)} is not a whole number")
        if key in found:
            raise ValueError(f"{where}: id {key} is there twice")
        if not is_word(name):
            raise ValueError(f"{where}: name {brief(name)} is not a word")
        if not isinstance(parts, list) or not all(map(is_word, parts)):
            raise ValueError(f"{where}: keypoints {brief(parts)} are not a list of names")
        if len(set(parts)) < len(parts):
            raise ValueError(f"{where}: keypoints {brief(parts)} have a name twice")
        found[key] = Category(name, tuple(parts))
    return dict(sorted(found.items()))


def size_of(image: Mapping[str, Any]) -> tuple[int, int] | None:
    """Width and height of a picture, where it says both.

    Raises:
        ValueError: If they are no numbers of pixels.
    """
    width, height = image.get("width"), image.get("height")
    if width is None and height is None:
        return None
    if not (is_whole(width) and is_whole(height) and width > 0 and height > 0):
        raise ValueError(
            f"width {brief(width)} and height {brief(height)} are not whole numbers above 0"
        )
    return width, height


def is_crowd(item: Mapping[str, Any]) -> bool:
    """Whether an annotation is of a crowd.

    Raises:
        ValueError: If it says neither 0 nor 1.
    """
    crowd = item.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise ValueError(f"iscrowd {brief(crowd)} is neither 0 nor 1")
    return bool(crowd)


def object_of(
    item: Mapping[str, Any], categories: Mapping[int, Category], parts: Mapping[str, int]
) -> Annotation:
    """An annotation.

    Args:
        item: As it is in the file.
        categories: By their id. Without any, objects have no class.
        parts: Indices of keypoints by name.

    Raises:
        ValueError: If it cannot be understood.
    """
    numbers = item.get("bbox")
    if not _are_numbers(numbers) or len(numbers) != 4:
        raise ValueError(f"bbox {brief(numbers)} is not four numbers: x, y, width, height")
    box = Box(*map(float, numbers))
    if not categories:
        return Annotation(box)
    key = item.get("category_id")
    if not is_whole(key) or key not in categories:
        raise ValueError(f"category_id {brief(key)} is not among the categories")
    category = categories[key]
    keypoints = item.get("keypoints") if category.parts else None
    return Annotation(
        box,
        class_name=category.name,
        parts=_visible(keypoints, category, parts) if keypoints is not None else (),
    )


def is_key(value: Any) -> TypeGuard[Key]:
    """Whether a value may be the id of a picture."""
    return is_whole(value) or isinstance(value, str)


def is_whole(value: Any) -> TypeGuard[int]:
    """Whether a value is an integer and no truth value."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_word(value: Any) -> TypeGuard[str]:
    """Whether a value is text that can be stored: JSON can spell halves of characters."""
    if not isinstance(value, str) or not value.strip():
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _visible(numbers: Any, category: Category, parts: Mapping[str, int]) -> tuple[Part, ...]:
    count = len(category.parts)
    if not _are_numbers(numbers) or len(numbers) != 3 * count:
        raise ValueError(
            f"keypoints {brief(numbers)} are not {3 * count} numbers: x, y and v of each of the "
            f"{count} of {category.name!r}"
        )
    found = []
    for index, name in enumerate(category.parts):
        x, y, v = numbers[3 * index : 3 * index + 3]
        if v not in (0, 1, _VISIBLE):
            raise ValueError(f"keypoint {name!r}: v {brief(v)} is none of 0, 1 and 2")
        if v == _VISIBLE:
            found.append(Part(parts[name], float(x), float(y)))
    return tuple(found)


def _are_numbers(values: Any) -> TypeGuard[list[int | float]]:
    return isinstance(values, list) and all(map(_is_number, values))


def _is_number(value: Any) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False
