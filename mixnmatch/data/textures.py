"""Body textures of the drawn objects: two colours and a pattern that moves with the object."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32

Plane = Float32[np.ndarray, "H W"]
"""One value a pixel."""
Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""


class Texture(NamedTuple):
    """How a body is painted."""

    name: str
    """Colour and pattern in words."""
    base: Colour
    """The body."""
    accent: Colour
    """The pattern on it."""
    pattern: Callable[[Plane, Plane], Plane]
    """Where the pattern is, 0 or 1, from x and y in the object's frame of [-1, 1]."""


def texture(index: int) -> Texture:
    """The texture of an index; any two below ``TEXTURE_COUNT`` differ in colours or pattern.

    Args:
        index: From 0; neighbours differ in both.
    """
    rounds, position = divmod(index, len(_PALETTES))
    colour, base, accent = _PALETTES[position]
    names = tuple(_PATTERNS)
    pattern = names[(index + rounds) % len(names)]
    return Texture(f"{colour}-{pattern}", base, accent, _PATTERNS[pattern])


def paint(
    painted: Texture, x: Plane, y: Plane, rng: np.random.Generator
) -> Float32[np.ndarray, "H W 3"]:
    """Colours of body pixels.

    Args:
        painted: The texture.
        x: Of each pixel, in the object's frame.
        y: Of each pixel, in the object's frame.
        rng: Of the small differences between bodies of one texture.

    Returns:
        Red, green and blue in the last axis, 0 to 255.
    """
    shift_x, shift_y = rng.uniform(-0.06, 0.06, size=2).astype(np.float32)
    brightness = rng.uniform(0.93, 1.05)
    amount = painted.pattern(x + shift_x, y + shift_y)[..., None]
    base, accent = (np.array(c, dtype=np.float32) for c in (painted.base, painted.accent))
    colours = (base + (accent - base) * amount) * np.float32(brightness)
    clipped: Float32[np.ndarray, "H W 3"] = np.clip(colours, 0, 255)
    return clipped


def _wave(values: Plane, period: float) -> Plane:
    """Triangle wave between 0 and 1."""
    wave: Plane = np.abs(values / np.float32(period) % 1 - np.float32(0.5)) * 2
    return wave


def _is(condition: Bool[np.ndarray, "H W"]) -> Plane:
    return condition.astype(np.float32)


def _stripes(x: Plane, _: Plane) -> Plane:
    return _is(_wave(x, 0.46) > 0.5)


def _spots(x: Plane, y: Plane) -> Plane:
    row = np.floor(y / 0.42)
    centred_x = (x / 0.48 + row / 2) % 1 - 0.5
    centred_y = y / 0.42 - row - 0.5
    return _is((centred_x * 0.48) ** 2 + (centred_y * 0.42) ** 2 < 0.15**2)


def _checks(x: Plane, y: Plane) -> Plane:
    return _is((np.floor(x / 0.36) + np.floor(y / 0.36)) % 2 == 0)


def _belly(x: Plane, y: Plane) -> Plane:
    return _is(y > 0.12 + 0.08 * np.cos(4 * x))


def _zigzag(x: Plane, y: Plane) -> Plane:
    return _is((y + 0.22 * _wave(x, 0.5)) / 0.5 % 1 < 0.45)


def _rings(x: Plane, y: Plane) -> Plane:
    return _is(np.hypot(x, y) / 0.44 % 1 < 0.5)


def _halves(x: Plane, _: Plane) -> Plane:
    return _is(x > 0)


def _bands(x: Plane, y: Plane) -> Plane:
    return _is(_wave(x + y, 0.64) > 0.52)


_PATTERNS: dict[str, Callable[[Plane, Plane], Plane]] = {
    "stripes": _stripes,
    "spots": _spots,
    "belly": _belly,
    "checks": _checks,
    "zigzag": _zigzag,
    "rings": _rings,
    "halves": _halves,
    "bands": _bands,
}

# Saturated, so that they stand out from the muted backgrounds.
_PALETTES: tuple[tuple[str, Colour, Colour], ...] = (
    ("red", (222, 32, 40), (255, 245, 235)),
    ("yellow", (255, 214, 20), (20, 60, 190)),
    ("orange", (245, 120, 10), (255, 238, 190)),
    ("purple", (128, 30, 190), (250, 215, 250)),
    ("white", (252, 250, 250), (226, 30, 130)),
    ("brown", (128, 64, 28), (255, 230, 186)),
    ("pink", (255, 110, 180), (120, 10, 80)),
    ("maroon", (125, 16, 36), (250, 180, 150)),
    ("violet", (176, 96, 255), (60, 0, 90)),
    ("cream", (255, 236, 190), (196, 44, 20)),
    ("crimson", (200, 0, 80), (255, 214, 20)),
    ("coral", (255, 112, 86), (70, 10, 60)),
)
TEXTURE_COUNT = len(_PALETTES) * len(_PATTERNS)
"""Textures that all differ."""
