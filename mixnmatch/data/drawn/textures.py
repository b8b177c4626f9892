"""Body textures of the drawn objects: two colours and a pattern that moves with the object."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32

Plane = Float32[np.ndarray, "H W"]
"""One value a pixel."""
Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""


Palette = tuple[str, Colour, Colour]
"""A name, the body's colour and its pattern's."""


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
    (colour, base, accent), pattern = _TEXTURES[index]
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


def _hoops(_: Plane, y: Plane) -> Plane:
    return _is(_wave(y, 0.44) > 0.5)


def _mesh(x: Plane, y: Plane) -> Plane:
    return np.maximum(_is(_wave(x, 0.42) > 0.68), _is(_wave(y, 0.42) > 0.68))


def _diamonds(x: Plane, y: Plane) -> Plane:
    return _is(_wave(x, 0.56) + _wave(y, 0.72) > 1.02)


def _rays(x: Plane, y: Plane) -> Plane:
    return _is(np.sin(8 * np.arctan2(y - 0.1, x + 0.1)) > 0)


def _waves(x: Plane, y: Plane) -> Plane:
    return _is(_wave(y + np.float32(0.13) * np.sin(np.float32(7.5) * x), 0.5) > 0.56)


def _speckles(x: Plane, y: Plane) -> Plane:
    return _is(np.hypot(_wave(x + y, 0.36), _wave(x - y, 0.36)) < 0.62)


def _patches(x: Plane, y: Plane) -> Plane:
    bumps = np.sin(9.9 * x + 4.6 * y) + np.sin(8.7 * y - 6.3 * x + 1) + np.sin(13 * x - 3 * y)
    return _is(bumps > 0.3)


def _slants(x: Plane, y: Plane) -> Plane:
    return _is(_wave(x - np.float32(1.6) * y, 0.42) > 0.62)


_PATTERNS: dict[str, Callable[[Plane, Plane], Plane]] = {
    "stripes": _stripes,
    "spots": _spots,
    "belly": _belly,
    "checks": _checks,
    "zigzag": _zigzag,
    "rings": _rings,
    "halves": _halves,
    "bands": _bands,
    "hoops": _hoops,
    "mesh": _mesh,
    "diamonds": _diamonds,
    "rays": _rays,
    "waves": _waves,
    "speckles": _speckles,
    "patches": _patches,
    "slants": _slants,
}

# Saturated, so that they stand out from the muted backgrounds.
_PALETTES: tuple[Palette, ...] = (
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
    ("black", (34, 30, 38), (255, 206, 0)),
    ("lime", (176, 240, 0), (30, 40, 120)),
    ("magenta", (240, 0, 200), (255, 250, 150)),
    ("cyan", (0, 214, 232), (150, 0, 60)),
    ("navy", (24, 34, 150), (255, 150, 190)),
    ("emerald", (0, 150, 92), (255, 255, 255)),
    ("rust", (186, 72, 10), (120, 240, 240)),
    ("mint", (160, 255, 206), (96, 40, 150)),
)


def _order() -> tuple[tuple[Palette, str], ...]:
    """All pairs of palette and pattern, each once, neighbours different in both.

    The first 96 are of the first twelve palettes and eight patterns.
    """
    names, palettes = tuple(_PATTERNS), range(len(_PALETTES))
    first = [(p, (p + 13 * turn) % 8) for turn in range(8) for p in palettes[:12]]
    every = [(p, (3 * p + turn + 8) % len(names)) for turn in range(len(names)) for p in palettes]
    rest = [pair for pair in every if pair not in set(first)]
    return tuple((_PALETTES[palette], names[pattern]) for palette, pattern in [*first, *rest])


_TEXTURES = _order()
TEXTURE_COUNT = len(_TEXTURES)
"""Textures that all differ."""
