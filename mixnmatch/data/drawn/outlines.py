"""The strokes that objects are drawn with, in a frame where x grows right and y downwards."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from mixnmatch.data.records import Number

Points = Float64[np.ndarray, "_ 2"]
"""One x, y a row."""


class Dot(NamedTuple):
    """A round detail on top of the body."""

    x: float
    y: float
    radius: float
    colour: tuple[int, int, int]


Drawing = tuple[list[Points], list[Points], list[Dot]]
"""Closed polygons that make up a body, dark open lines on it, and dots."""


def eye(x: Number, y: Number, radius: Number) -> list[Dot]:
    """An eye that looks to the right."""
    return [
        Dot(x, y, radius, (255, 255, 255)),
        Dot(x + 0.25 * radius, y, 0.6 * radius, (20, 20, 30)),
    ]


def polygon(points: Sequence[tuple[Number, Number]]) -> Points:
    """Straight edges, or an open line, through the points."""
    return np.array(points, dtype=np.float64)


def arc(
    x: Number, y: Number, radius_x: Number, radius_y: Number, start: Number, stop: Number
) -> Points:
    """Part of an ellipse, from one angle in degrees to another, clockwise as seen."""
    angles = np.radians(np.linspace(start, stop, 24))
    return np.stack([x + radius_x * np.cos(angles), y + radius_y * np.sin(angles)], axis=1)


def ellipse(x: Number, y: Number, radius_x: Number, radius_y: Number, tilt: Number = 0) -> Points:
    """An ellipse, turned clockwise as seen by degrees."""
    cosine, sine = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))
    upright = arc(0, 0, radius_x, radius_y, 0, 345)
    turned: Points = upright @ np.array([[cosine, sine], [-sine, cosine]]) + (x, y)
    return turned


def rounded(start: tuple[Number, Number], stop: tuple[Number, Number], radius: Number) -> Points:
    """A bar with round ends."""
    heading = math.degrees(math.atan2(stop[1] - start[1], stop[0] - start[0]))
    return np.concatenate(
        [
            arc(*stop, radius, radius, heading - 90, heading + 90),
            arc(*start, radius, radius, heading + 90, heading + 270),
        ]
    )


def curve(points: Sequence[tuple[Number, Number]], steps: int = 8) -> Points:
    """A smooth closed curve through the points (Catmull-Rom)."""
    here = polygon(points)
    before, after, next_after = (np.roll(here, shift, axis=0) for shift in (1, -1, -2))
    t = (np.arange(steps) / steps)[None, :, None]
    p0, p1, p2, p3 = (p[:, None] for p in (before, here, after, next_after))
    curve = 0.5 * (
        2 * p1
        + (p2 - p0) * t
        + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2
        + (3 * p1 - p0 - 3 * p2 + p3) * t**3
    )
    return curve.reshape(-1, 2)
