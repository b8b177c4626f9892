"""Boxes told by their first and last pixel, as Pascal VOC and MATLAB do."""

import math
from collections.abc import Sequence
from typing import Literal

from mixnmatch.data.records import Box


def box_of_pixels(values: Sequence[object], first_pixel: Literal[0, 1] = 1) -> Box:
    """The box from one pixel to another, both counted in.

    Programs that should count from 1 write 0 for objects at the edge: there the edge is meant.

    Args:
        values: Column and row of the first pixel, then of the last; numbers or their text.
        first_pixel: Number of a picture's first column and row.

    Raises:
        ValueError: If they are not four finite numbers.
    """
    try:
        numbers = [float(str(value)) for value in values]
    except ValueError:
        numbers = []
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        shown = ", ".join(f"{str(value)[:20]!r}" for value in values[:4])
        raise ValueError(f"box ({shown}) is not four numbers: x and y of its first and last pixel")
    left, top = (max(0.0, v - first_pixel) if v >= 0 else v - first_pixel for v in numbers[:2])
    return Box.from_corners(left, top, numbers[2] + 1 - first_pixel, numbers[3] + 1 - first_pixel)
