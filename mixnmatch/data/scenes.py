"""Backgrounds of the drawn pictures: fairly plain, each with its own colours and marks."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32
from PIL import Image, ImageDraw

Canvas = Float32[np.ndarray, "H W 3"]
"""Red, green and blue in the last axis, 0 to 255."""
Plane = Float32[np.ndarray, "H W"]
"""One value a pixel."""


def paint_scene(background: int, side: int, rng: np.random.Generator) -> Image.Image:
    """Paint a background; no two look the same.

    Args:
        background: Index below ``len(BACKGROUND_NAMES)``.
        side: Of the square picture, in pixels.
        rng: Of everything but the kind of background.
    """
    return _SCENES[BACKGROUND_NAMES[background]](side, rng)


def _sky(side: int, rng: np.random.Generator) -> Image.Image:
    sky = _gradient(side, (104, 170, 232), (196, 226, 248), rng)
    clouds = np.clip((_noise(side, (3, 2), rng) - 0.1) * 1.1, 0, 1)[..., None]
    return _image(sky + (np.float32(250) - sky) * clouds * np.float32(0.8))


def _grass(side: int, rng: np.random.Generator) -> Image.Image:
    ground = _gradient(side, (128, 184, 96), (74, 138, 60), rng)
    image = _image(ground + 9 * _noise(side, (6, 6), rng)[..., None])
    draw = ImageDraw.Draw(image)
    for x, y in rng.uniform(0, side, size=(70, 2)):
        lean, height = rng.uniform(-0.02, 0.02) * side, rng.uniform(0.04, 0.08) * side
        colour = (58, 118, 48) if rng.random() < 0.5 else (150, 204, 112)
        draw.line([(x, y), (x + lean, y - height)], fill=colour, width=max(1, side // 90))
    return image


def _night(side: int, rng: np.random.Generator) -> Image.Image:
    image = _image(_gradient(side, (16, 20, 62), (44, 48, 108), rng))
    draw = ImageDraw.Draw(image)
    for x, y in rng.uniform(0, side, size=(26, 2)):
        _disc(draw, x, y, rng.uniform(0.006, 0.016) * side, (240, 240, 200))
    return image


def _sand(side: int, rng: np.random.Generator) -> Image.Image:
    dune = _gradient(side, (236, 214, 164), (206, 174, 118), rng)
    y = np.arange(side, dtype=np.float32)[:, None] / side
    ripple = np.sin(2 * np.pi * (7 * y + 0.8 * _noise(side, (2, 3), rng) + rng.random()))
    return _image(dune + 10 * ripple.astype(np.float32)[..., None])


def _water(side: int, rng: np.random.Generator) -> Image.Image:
    sea = _gradient(side, (40, 150, 160), (14, 92, 116), rng)
    y = np.arange(side, dtype=np.float32)[:, None] / side
    x = np.arange(side, dtype=np.float32)[None] / side
    wave = np.sin(2 * np.pi * (8 * y + 0.35 * np.sin(2 * np.pi * (2.5 * x + rng.random()))))
    return _image(sea + 26 * np.clip(wave - 0.4, 0, 1).astype(np.float32)[..., None])


def _brick(side: int, rng: np.random.Generator) -> Image.Image:
    image = Image.new("RGB", (side, side), (206, 196, 186))
    draw = ImageDraw.Draw(image)
    height, width, gap = side / 7, side / 3.5, side / 60
    shift = rng.uniform(0, width)
    for row in range(8):
        for column in range(-2, 5):
            x = column * width + shift + (row % 2) * width / 2
            tone = rng.integers(-10, 11)
            colour = (164 + tone, 104 + tone, 90 + tone)
            box = (x, row * height, x + width - gap, (row + 1) * height - gap)
            draw.rectangle(box, fill=tuple(int(value) for value in colour))
    return image


def _snow(side: int, rng: np.random.Generator) -> Image.Image:
    image = _image(_gradient(side, (150, 166, 186), (206, 216, 228), rng))
    draw = ImageDraw.Draw(image)
    for x, y in rng.uniform(0, side, size=(40, 2)):
        _disc(draw, x, y, rng.uniform(0.008, 0.02) * side, (250, 250, 255))
    return image


def _dusk(side: int, rng: np.random.Generator) -> Image.Image:
    sky = _gradient(side, (92, 62, 110), (240, 172, 136), rng)
    haze = np.clip(_noise(side, (7, 1), rng), 0, 1)[..., None]
    return _image(sky + 30 * haze)


_SCENES: dict[str, Callable[[int, np.random.Generator], Image.Image]] = {
    "sky": _sky,
    "grass": _grass,
    "night": _night,
    "sand": _sand,
    "water": _water,
    "brick": _brick,
    "snow": _snow,
    "dusk": _dusk,
}
BACKGROUND_NAMES = tuple(_SCENES)
"""Names of all backgrounds; those painted first differ most."""


def _gradient(
    side: int,
    top: tuple[int, int, int],
    bottom: tuple[int, int, int],
    rng: np.random.Generator,
) -> Canvas:
    """From one colour to another downwards, a little lighter or darker each time."""
    share = np.linspace(0, 1, side, dtype=np.float32)[:, None, None]
    low, high = (np.array(colour, dtype=np.float32) for colour in (top, bottom))
    column = (low + (high - low) * share) * np.float32(rng.uniform(0.93, 1.07))
    return np.broadcast_to(column, (side, side, 3))


def _noise(side: int, cells: tuple[int, int], rng: np.random.Generator) -> Plane:
    """Smooth noise about 0 with that many cells across and down."""
    coarse = rng.normal(size=(cells[0] + 3, cells[1] + 3)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))


def _image(canvas: Canvas) -> Image.Image:
    return Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))


def _disc(
    draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, colour: tuple[int, int, int]
) -> None:
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
