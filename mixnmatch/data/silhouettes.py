"""Outlines of the drawn objects: polygons in a unit frame, all of them looking to the right.

In the frame x grows to the right and y downwards. Every outline differs from its mirror image, so
that mirroring can be seen.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
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


@dataclass(frozen=True, slots=True)
class Silhouette:
    """An object's outline, centred; its longer side is 2."""

    name: str
    """Of the shape, for people."""
    parts: tuple[Points, ...]
    """Closed polygons; the body is all they cover together."""
    lines: tuple[Points, ...] = ()
    """Dark open lines on the body."""
    dots: tuple[Dot, ...] = ()
    """Details on the body, such as eyes, in drawing order."""


@cache
def silhouette(shape: int) -> Silhouette:
    """The outline of a shape.

    Args:
        shape: Index below ``len(SHAPE_NAMES)``.
    """
    return _normalised(SHAPE_NAMES[shape], *_DRAWN[SHAPE_NAMES[shape]]())


_Drawing = tuple[list[Points], list[Points], list[Dot]]


def _fish() -> _Drawing:
    body = _curve(
        [
            (1.0, 0.04),
            (0.72, -0.3),
            (0.2, -0.46),
            (-0.3, -0.3),
            (-0.62, -0.08),
            (-0.62, 0.08),
            (-0.3, 0.3),
            (0.2, 0.46),
            (0.72, 0.34),
        ]
    )
    tail = _polygon([(-0.45, 0), (-1.0, -0.52), (-0.82, 0), (-1.0, 0.52)])
    back_fin = _polygon([(0.35, -0.38), (-0.25, -0.72), (-0.4, -0.2)])
    belly_fin = _polygon([(0.15, 0.4), (-0.2, 0.68), (-0.25, 0.25)])
    gill = _arc(0.2, 0.0, 0.26, 0.3, -55, 55)
    return [body, tail, back_fin, belly_fin], [gill], _eye(0.66, -0.1, 0.115)


def _rabbit() -> _Drawing:
    body = _ellipse(-0.08, 0.5, 0.42, 0.5)
    chest = _ellipse(0.1, 0.25, 0.3, 0.4)
    head = _ellipse(0.2, -0.2, 0.34, 0.27, 8)
    ears = [_ellipse(0.0, -0.68, 0.12, 0.42, -6), _ellipse(-0.27, -0.58, 0.11, 0.42, -34)]
    tail = _ellipse(-0.52, 0.72, 0.16, 0.16)
    paws = [_ellipse(0.26, 0.93, 0.28, 0.1), _ellipse(-0.1, 0.93, 0.35, 0.1)]
    haunch = _arc(-0.12, 0.68, 0.26, 0.26, 150, 350)
    return [body, chest, head, *ears, tail, *paws], [haunch], _eye(0.32, -0.24, 0.085)


def _boat() -> _Drawing:
    hull = _polygon([(-0.95, 0.42), (1.0, 0.34), (0.62, 0.9), (-0.68, 0.9)])
    mast = _polygon([(-0.06, -1.0), (0.02, -1.0), (0.02, 0.5), (-0.06, 0.5)])
    main_sail = _polygon([(0.04, -0.95), (0.8, 0.2), (0.04, 0.26)])
    back_sail = _polygon([(-0.08, -0.62), (-0.08, 0.28), (-0.62, 0.3)])
    portholes = [Dot(x, 0.64, 0.085, (250, 250, 240)) for x in (-0.4, 0.0, 0.4)]
    rail = _polygon([(-0.86, 0.5), (0.94, 0.44)])
    return [hull, mast, main_sail, back_sail], [rail], portholes


def _mushroom() -> _Drawing:
    cap = _curve(
        [
            (-0.8, -0.02),
            (-0.72, -0.5),
            (-0.2, -0.95),
            (0.35, -0.88),
            (0.72, -0.4),
            (0.74, -0.05),
            (0.3, 0.08),
            (-0.3, 0.1),
        ]
    )
    stem = _curve([(-0.24, 0), (0.24, -0.02), (0.2, 0.5), (0.3, 0.95), (-0.2, 0.95), (-0.16, 0.5)])
    small_cap = _curve([(0.26, 0.5), (0.42, 0.24), (0.72, 0.24), (0.92, 0.52), (0.6, 0.58)])
    small_stem = _polygon([(0.5, 0.5), (0.68, 0.5), (0.7, 0.97), (0.46, 0.97)])
    return [cap, stem, small_cap, small_stem], [_arc(-0.02, -0.14, 0.6, 0.2, 15, 165)], []


def _bird() -> _Drawing:
    body = _curve(
        [
            (0.45, -0.45),
            (0.5, 0.0),
            (0.3, 0.42),
            (-0.15, 0.5),
            (-0.55, 0.2),
            (-0.5, -0.05),
            (0.0, -0.2),
        ]
    )
    head = _ellipse(0.4, -0.5, 0.3, 0.28)
    beak = _polygon([(0.6, -0.66), (1.0, -0.44), (0.6, -0.34)])
    tail = _polygon([(-0.35, 0.2), (-1.0, -0.35), (-0.88, -0.02), (-0.98, 0.18), (-0.4, 0.4)])
    crest = _polygon([(0.3, -0.7), (0.12, -1.0), (0.38, -0.85), (0.48, -1.04), (0.56, -0.7)])
    legs = [
        _polygon([(x, 0.4), (x + 0.08, 0.4), (x + 0.08, 0.8), (x + 0.26, 0.9), (x, 0.9)])
        for x in (-0.1, 0.16)
    ]
    wing = _arc(-0.12, 0.05, 0.36, 0.22, -20, 175)
    return [body, head, beak, tail, crest, *legs], [wing], _eye(0.48, -0.54, 0.085)


def _teapot() -> _Drawing:
    body = _ellipse(-0.02, 0.16, 0.58, 0.5)
    foot = _polygon([(-0.36, 0.55), (0.32, 0.55), (0.4, 0.74), (-0.44, 0.74)])
    lid = _ellipse(-0.02, -0.3, 0.36, 0.16)
    knob = _ellipse(-0.02, -0.5, 0.12, 0.12)
    spout = _polygon(
        [(0.4, 0.36), (0.7, 0.02), (0.78, -0.32), (1.0, -0.36), (0.9, 0.1), (0.5, 0.5)]
    )
    handle = np.concatenate(
        [_arc(-0.55, 0.1, 0.45, 0.4, 80, 280), _arc(-0.55, 0.1, 0.29, 0.24, 80, 280)[::-1]]
    )
    return [body, foot, lid, knob, spout, handle], [_arc(-0.02, -0.32, 0.42, 0.2, 20, 160)], []


def _hedgehog() -> _Drawing:
    angles = np.radians(np.linspace(-200, -20, 19))
    radii = np.where(np.arange(19) % 2, 0.72, 1.0)
    back = np.stack([radii * np.cos(angles) - 0.1, radii * np.sin(angles) + 0.3], axis=1)
    face = _curve([(0.3, -0.1), (0.66, 0.1), (1.02, 0.42), (0.7, 0.62), (0.2, 0.62)])
    belly = _ellipse(-0.1, 0.42, 0.84, 0.26)
    feet = [_ellipse(x, 0.68, 0.14, 0.1) for x in (-0.5, 0.35)]
    nose = Dot(1.0, 0.42, 0.09, (25, 20, 30))
    return [back, face, belly, *feet], [], [*_eye(0.62, 0.24, 0.1), nose]


def _cactus() -> _Drawing:
    trunk = _rounded((-0.05, -0.78), (-0.05, 0.62), 0.23)
    left = [_rounded((-0.1, 0.2), (-0.52, 0.2), 0.14), _rounded((-0.52, 0.2), (-0.52, -0.3), 0.14)]
    right = [_rounded((0.0, -0.1), (0.4, -0.1), 0.13), _rounded((0.4, -0.1), (0.4, -0.55), 0.13)]
    pot = _polygon([(-0.42, 0.55), (0.36, 0.55), (0.26, 1.0), (-0.32, 1.0)])
    flower = [_ellipse(0.02, -0.98, 0.14, 0.1, 25)]
    return [trunk, *left, *right, pot, *flower], [_polygon([(-0.42, 0.62), (0.36, 0.62)])], []


_DRAWN: dict[str, Callable[[], _Drawing]] = {
    "fish": _fish,
    "rabbit": _rabbit,
    "boat": _boat,
    "mushroom": _mushroom,
    "bird": _bird,
    "teapot": _teapot,
    "hedgehog": _hedgehog,
    "cactus": _cactus,
}
SHAPE_NAMES = tuple(_DRAWN)
"""Names of all shapes; those drawn first differ most."""


def _eye(x: Number, y: Number, radius: Number) -> list[Dot]:
    return [
        Dot(x, y, radius, (255, 255, 255)),
        Dot(x + 0.25 * radius, y, 0.6 * radius, (20, 20, 30)),
    ]


def _polygon(points: Sequence[tuple[Number, Number]]) -> Points:
    return np.array(points, dtype=np.float64)


def _arc(
    x: Number, y: Number, radius_x: Number, radius_y: Number, start: Number, stop: Number
) -> Points:
    """Part of an ellipse, from one angle in degrees to another, clockwise as seen."""
    angles = np.radians(np.linspace(start, stop, 24))
    return np.stack([x + radius_x * np.cos(angles), y + radius_y * np.sin(angles)], axis=1)


def _ellipse(x: Number, y: Number, radius_x: Number, radius_y: Number, tilt: Number = 0) -> Points:
    cosine, sine = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))
    upright = _arc(0, 0, radius_x, radius_y, 0, 345)
    turned: Points = upright @ np.array([[cosine, sine], [-sine, cosine]]) + (x, y)
    return turned


def _rounded(start: tuple[Number, Number], stop: tuple[Number, Number], radius: Number) -> Points:
    """A bar with round ends."""
    heading = math.degrees(math.atan2(stop[1] - start[1], stop[0] - start[0]))
    return np.concatenate(
        [
            _arc(*stop, radius, radius, heading - 90, heading + 90),
            _arc(*start, radius, radius, heading + 90, heading + 270),
        ]
    )


def _curve(points: Sequence[tuple[Number, Number]], steps: int = 8) -> Points:
    """A smooth closed curve through the points (Catmull-Rom)."""
    here = _polygon(points)
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


def _normalised(name: str, parts: list[Points], lines: list[Points], dots: list[Dot]) -> Silhouette:
    everything = np.concatenate(parts)
    low, high = everything.min(axis=0), everything.max(axis=0)
    centre, half = (low + high) / 2, float((high - low).max()) / 2
    return Silhouette(
        name=name,
        parts=tuple((part - centre) / half for part in parts),
        lines=tuple((line - centre) / half for line in lines),
        dots=tuple(
            Dot(
                (dot.x - centre[0]) / half,
                (dot.y - centre[1]) / half,
                dot.radius / half,
                dot.colour,
            )
            for dot in dots
        ),
    )
