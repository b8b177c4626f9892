"""The first eight backgrounds; those painted first differ most."""

import numpy as np
from PIL import Image, ImageDraw

from mixnmatch.data.drawn.brushes import Colour, disc, gradient, image, noise


def sky(side: int, rng: np.random.Generator) -> Image.Image:
    """Clouds on pale blue."""
    sky = gradient(side, (104, 170, 232), (196, 226, 248), rng)
    clouds = np.clip((noise(side, (3, 2), rng) - 0.1) * 1.1, 0, 1)[..., None]
    return image(sky + (np.float32(250) - sky) * clouds * np.float32(0.8))


def grass(side: int, rng: np.random.Generator) -> Image.Image:
    """Blades on green."""
    ground = gradient(side, (128, 184, 96), (74, 138, 60), rng)
    picture = image(ground + 9 * noise(side, (6, 6), rng)[..., None])
    draw = ImageDraw.Draw(picture)
    for x, y in rng.uniform(0, side, size=(70, 2)):
        lean, height = rng.uniform(-0.02, 0.02) * side, rng.uniform(0.04, 0.08) * side
        colour = (58, 118, 48) if rng.random() < 0.5 else (150, 204, 112)
        draw.line([(x, y), (x + lean, y - height)], fill=colour, width=max(1, side // 90))
    return picture


def night(side: int, rng: np.random.Generator) -> Image.Image:
    """Stars on dark blue."""
    picture = image(gradient(side, (16, 20, 62), (44, 48, 108), rng))
    return _strewn(picture, 26, (0.006, 0.016), (240, 240, 200), rng)


def sand(side: int, rng: np.random.Generator) -> Image.Image:
    """Ripples on pale brown."""
    dune = gradient(side, (236, 214, 164), (206, 174, 118), rng)
    y = np.arange(side, dtype=np.float32)[:, None] / side
    ripple = np.sin(2 * np.pi * (7 * y + 0.8 * noise(side, (2, 3), rng) + rng.random()))
    return image(dune + 10 * ripple.astype(np.float32)[..., None])


def water(side: int, rng: np.random.Generator) -> Image.Image:
    """Crests on teal."""
    sea = gradient(side, (40, 150, 160), (14, 92, 116), rng)
    y = np.arange(side, dtype=np.float32)[:, None] / side
    x = np.arange(side, dtype=np.float32)[None] / side
    wave = np.sin(2 * np.pi * (8 * y + 0.35 * np.sin(2 * np.pi * (2.5 * x + rng.random()))))
    return image(sea + 26 * np.clip(wave - 0.4, 0, 1).astype(np.float32)[..., None])


def brick(side: int, rng: np.random.Generator) -> Image.Image:
    """Courses of bricks."""
    picture = Image.new("RGB", (side, side), (206, 196, 186))
    draw = ImageDraw.Draw(picture)
    height, width, gap = side / 7, side / 3.5, side / 60
    shift = rng.uniform(0, width)
    for row in range(8):
        for column in range(-2, 5):
            x = column * width + shift + (row % 2) * width / 2
            tone = rng.integers(-10, 11)
            colour = (164 + tone, 104 + tone, 90 + tone)
            box = (x, row * height, x + width - gap, (row + 1) * height - gap)
            draw.rectangle(box, fill=tuple(int(value) for value in colour))
    return picture


def snow(side: int, rng: np.random.Generator) -> Image.Image:
    """Flakes on grey."""
    picture = image(gradient(side, (150, 166, 186), (206, 216, 228), rng))
    return _strewn(picture, 40, (0.008, 0.02), (250, 250, 255), rng)


def dusk(side: int, rng: np.random.Generator) -> Image.Image:
    """From violet down to orange."""
    sky = gradient(side, (92, 62, 110), (240, 172, 136), rng)
    haze = np.clip(noise(side, (7, 1), rng), 0, 1)[..., None]
    return image(sky + 30 * haze)


def _strewn(
    picture: Image.Image,
    count: int,
    radii: tuple[float, float],
    colour: Colour,
    rng: np.random.Generator,
) -> Image.Image:
    """A square picture with discs anywhere, their radii least and most shares of its side."""
    draw = ImageDraw.Draw(picture)
    for x, y in rng.uniform(0, picture.width, size=(count, 2)):
        disc(draw, x, y, rng.uniform(*radii) * picture.width, colour)
    return picture
