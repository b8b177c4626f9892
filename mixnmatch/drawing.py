"""Drawings made ready as the shape of a mix: lines are no solid object and rarely fill the page."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from mixnmatch.data.pictures import read_upright
from mixnmatch.errors import DataError

DRAWING_SIDE = 384
"""Pixels in which outlines are filled."""
_INK = 48
"""How much a line's grey differs from the paper's, of 255."""
_BODY = (128, 128, 128)


def read_drawing(path: Path, *, fill: bool = False, trim: bool = False) -> Image.Image:
    """Read a drawing from a file, made ready as ``ready_drawing`` says.

    Raises:
        DataError: If it cannot be read, or has no lines to trim to, or none that enclose.
    """
    return ready_drawing(read_upright(path, DRAWING_SIDE), str(path), fill=fill, trim=trim)


def ready_drawing(
    drawing: Image.Image, source: str, *, fill: bool = False, trim: bool = False
) -> Image.Image:
    """A drawing as the shape of a mix.

    Args:
        drawing: Lines on paper, RGB; of at least ``DRAWING_SIDE`` pixels, if it has them.
        source: Its name, for messages.
        fill: Fill what the lines enclose; see ``fill_outlines``.
        trim: Cut to the square about the lines; see ``trim_paper``.

    Raises:
        DataError: If it has no lines to trim to, or none that enclose.
    """
    drawing = drawing.copy()  # as `thumbnail` works in place
    drawing.thumbnail((4 * DRAWING_SIDE, 4 * DRAWING_SIDE))
    if trim:
        drawing = trim_paper(drawing, source)
    if fill:
        # Of the size that is seen, as gaps in the lines are measured by it.
        drawing = fill_outlines(ImageOps.fit(drawing, (DRAWING_SIDE, DRAWING_SIDE)), source)
    return drawing


def fill_outlines(drawing: Image.Image, source: str) -> Image.Image:
    """Fill what lines enclose with grey, so that the drawing is a silhouette and not only its edge.

    Everything that the paper at the edge reaches stays paper. Gaps in a line of up to about a
    fiftieth of the short side are taken as closed. Lines keep their colour.

    Args:
        drawing: RGB; the paper is the colour that most of its edge has.
        source: Its name, for messages.

    Raises:
        DataError: If the lines enclose nothing.
    """
    ink = _ink(drawing)
    reach = 2 * max(1, round(min(drawing.size) / 100)) + 1
    closed = ink.filter(ImageFilter.MaxFilter(reach))
    # With a margin that joins all of the paper outside.
    page = Image.new("L", (closed.width + 2, closed.height + 2))
    page.paste(closed, (1, 1))
    ImageDraw.floodfill(page, (0, 0), 128)
    outside = page.point(lambda value: 255 if value == 128 else 0)
    # The lines were thickened by as much to close them.
    outside = outside.filter(ImageFilter.MaxFilter(reach)).crop(
        (1, 1, page.width - 1, page.height - 1)
    )
    inside = ImageChops.subtract(ImageChops.invert(outside), ink)
    if inside.getbbox() is None:
        raise DataError(f"{source}: the lines enclose nothing: they must close an outline")
    filled = drawing.copy()
    filled.paste(_BODY, mask=inside)
    return filled


def trim_paper(drawing: Image.Image, source: str) -> Image.Image:
    """The square about the lines, half as wide again as they are; paper where it leaves the page.

    So wide are the views of objects that models learn from.

    Args:
        drawing: RGB; the paper is the colour that most of its edge has.
        source: Its name, for messages.

    Raises:
        DataError: If there are no lines.
    """
    box = _ink(drawing).getbbox()
    if box is None:
        raise DataError(f"{source}: no lines: they must differ from the paper")
    left, top, right, bottom = box
    side = round(1.5 * max(right - left, bottom - top))
    square = Image.new("RGB", (side, side), _paper(drawing))
    square.paste(drawing, ((side - left - right) // 2, (side - top - bottom) // 2))
    return square


def _paper(drawing: Image.Image) -> tuple[int, ...]:
    pixels = np.asarray(drawing)
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return tuple(int(value) for value in np.median(edge, axis=0))


def _ink(drawing: Image.Image) -> Image.Image:
    """255 where there is a line, 0 on paper."""
    paper = Image.new("RGB", drawing.size, _paper(drawing))
    difference = ImageChops.difference(drawing, paper).convert("L")
    return difference.point(lambda value: 255 if value >= _INK else 0)
