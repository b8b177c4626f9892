"""Backgrounds of the drawn pictures: fairly plain, each with its own colours and marks."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from mixnmatch.data.drawn import first_scenes, more_scenes


def paint_scene(background: int, side: int, rng: np.random.Generator) -> Image.Image:
    """Paint a background; no two look the same.

    Args:
        background: Index below ``len(BACKGROUND_NAMES)``.
        side: Of the square picture, in pixels.
        rng: Of everything but the kind of background.
    """
    return _SCENES[BACKGROUND_NAMES[background]](side, rng)


_SCENES: dict[str, Callable[[int, np.random.Generator], Image.Image]] = {
    "sky": first_scenes.sky,
    "grass": first_scenes.grass,
    "night": first_scenes.night,
    "sand": first_scenes.sand,
    "water": first_scenes.water,
    "brick": first_scenes.brick,
    "snow": first_scenes.snow,
    "dusk": first_scenes.dusk,
    "planks": more_scenes.planks,
    "tiles": more_scenes.tiles,
    "embers": more_scenes.embers,
    "straw": more_scenes.straw,
    "cobbles": more_scenes.cobbles,
    "lavender": more_scenes.lavender,
    "pines": more_scenes.pines,
    "paper": more_scenes.paper,
    "curtain": more_scenes.curtain,
    "hills": more_scenes.hills,
    "slate": more_scenes.slate,
    "gingham": more_scenes.gingham,
    "moss": more_scenes.moss,
    "city": more_scenes.city,
    "autumn": more_scenes.autumn,
    "rain": more_scenes.rain,
}
BACKGROUND_NAMES = tuple(_SCENES)
"""Names of all backgrounds; those painted first differ most."""
