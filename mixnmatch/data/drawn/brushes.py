"""What backgrounds are painted with."""

import numpy as np
from jaxtyping import Float32
from PIL import Image, ImageDraw

Canvas = Float32[np.ndarray, "H W 3"]
"""Red, green and blue in the last axis, 0 to 255."""
Plane = Float32[np.ndarray, "H W"]
"""One value a pixel."""
Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""


def gradient(
    side: int,
    top: Colour,
    bottom: Colour,
    rng: np.random.Generator,
) -> Canvas:
    """From one colour to another downwards, a little lighter or darker each time."""
    share = np.linspace(0, 1, side, dtype=np.float32)[:, None, None]
    low, high = (np.array(colour, dtype=np.float32) for colour in (top, bottom))
    column = (low + (high - low) * share) * np.float32(rng.uniform(0.93, 1.07))
    return np.broadcast_to(column, (side, side, 3))


def noise(side: int, cells: tuple[int, int], rng: np.random.Generator) -> Plane:
    """Smooth noise about 0 with that many cells across and down."""
    coarse = rng.normal(size=(cells[0] + 3, cells[1] + 3)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))


def image(canvas: Canvas) -> Image.Image:
    """The picture of a canvas."""
    return Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))


def disc(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, colour: Colour) -> None:
    """Fill a disc about a point."""
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
