"""Outlines of the drawn objects: polygons in a unit frame, all of them looking to the right.

In the frame x grows to the right and y downwards. Every outline differs from its mirror image, so
that mirroring can be seen.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from mixnmatch.data.drawn import animals, originals, things
from mixnmatch.data.drawn.outlines import Dot, Drawing, Points


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


_DRAWN: dict[str, Callable[[], Drawing]] = {
    "fish": originals.fish,
    "rabbit": originals.rabbit,
    "boat": originals.boat,
    "mushroom": originals.mushroom,
    "bird": originals.bird,
    "teapot": originals.teapot,
    "hedgehog": originals.hedgehog,
    "cactus": originals.cactus,
    "elephant": animals.elephant,
    "key": things.key,
    "snail": animals.snail,
    "car": things.car,
    "giraffe": animals.giraffe,
    "umbrella": things.umbrella,
    "whale": animals.whale,
    "daisy": things.daisy,
    "helicopter": things.helicopter,
    "snake": animals.snake,
    "house": things.house,
    "turtle": animals.turtle,
    "palm": things.palm,
    "boot": things.boot,
    "sauropod": animals.sauropod,
    "mug": things.mug,
    "dachshund": animals.dachshund,
    "clover": things.clover,
}
SHAPE_NAMES = tuple(_DRAWN)
"""Names of all shapes; those drawn first differ most."""


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
