"""Tensors to pictures, and grids of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mixnmatch.bundle import ModelBundle
from mixnmatch.codes import Codes
from mixnmatch.errors import InputError
from mixnmatch.files import whole_file

GAP = 2
CELL = 64
"""Smallest side of a picture on a sheet, in pixels."""


def to_picture(image: Float[Tensor, "C H W"]) -> Image.Image:
    """A tensor with pixels in [-1, 1] as an RGB picture; one channel becomes grey."""
    pixels = ((image.detach().cpu().float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(pixels.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy())


def check_picture_name(path: Path) -> None:
    """Refuse a file name that no picture can be written under, before any work is done.

    Raises:
        InputError: If Pillow knows no format for its ending.
    """
    formats = Image.registered_extensions()
    if formats.get(path.suffix.lower()) not in Image.SAVE:
        raise InputError(
            f"{path}: no picture format is written as {path.suffix or 'that'!r}: use .png"
        )


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture under a temporary name and rename it.

    Raises:
        InputError: If its folder cannot be written to.
    """
    with written_whole(path) as partial:
        try:
            picture.save(partial)
        except ValueError as error:  # as some of Pillow's formats raise
            raise InputError(f"{path}: cannot be written ({error})") from error


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """``files.whole_file`` of what a user has named.

    Raises:
        InputError: If it cannot be written.
    """
    try:
        with whole_file(path) as partial:
            yield partial
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path}: cannot be written ({reason})") from error


def to_tensor(picture: Image.Image, side: int) -> Float[Tensor, "1 3 S S"]:
    """The middle square of a picture, resized, with pixels in [-1, 1]."""
    width, height = picture.size
    half = min(width, height) / 2
    square = (width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half)
    resized = picture.convert("RGB").resize((side, side), Image.Resampling.BILINEAR, box=square)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)[None].float() / 127.5 - 1


def grid(rows: Sequence[Float[Tensor, "_ _ H W"]], *, zoom: int = 1) -> Image.Image:
    """Rows of pictures as one picture.

    Args:
        rows: Each a batch of one or three channels, pixels in [-1, 1], all of one size.
        zoom: Pixels of the grid for one of the pictures.
    """
    height, width = (zoom * side for side in rows[0].shape[-2:])
    columns = max(len(row) for row in rows)
    size = (columns * (width + GAP) - GAP, len(rows) * (height + GAP) - GAP)
    sheet = Image.new("RGB", size, "white")
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            cell = to_picture(image).resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(cell, (x * (width + GAP), y * (height + GAP)))
    return sheet


def zoom_of(side: int) -> int:
    """How much to enlarge pictures of a side, in pixels, so that they can be seen on a sheet."""
    return max(1, CELL // side)


def wrapped(
    images: Float[Tensor, "N _ H W"],
    *,
    columns: int,
    name: str,
    title: str,
    first: tuple[str, Float[Tensor, "_ _ H W"]] | None = None,
    above: tuple[str, Float[Tensor, "N _ H W"]] | None = None,
) -> Image.Image:
    """A long row of pictures as a labelled sheet, broken into lines.

    Args:
        images: Pixels in [-1, 1].
        columns: Pictures a line.
        name: Of one of them; lines are labelled with it and their numbers from 0.
        title: Of the sheet.
        first: A line to begin with, with its label.
        above: Another row to show line by line above that of the pictures, with the label of its
            lines.
    """
    labels, rows = ([], []) if first is None else ([first[0]], [first[1]])
    for start in range(0, len(images), columns):
        end = min(start + columns, len(images))
        if above is not None:
            labels.append(above[0])
            rows.append(above[1][start:end])
        labels.append(f"{name} {start}" + (f" to {end - 1}" if end - start > 1 else ""))
        rows.append(images[start:end])
    return labelled(grid(rows, zoom=zoom_of(images.shape[-1])), labels, title=title)


def labelled(
    sheet: Image.Image, labels: Sequence[str], *, title: str = "", margin: int = 175
) -> Image.Image:
    """A grid with a label beside each row, and a title above."""
    top = 34 if title else 0
    font = ImageFont.load_default(15)
    width = max(sheet.width + margin, round(font.getlength(title)) + 16)
    framed = Image.new("RGB", (width, sheet.height + top), "white")
    framed.paste(sheet, (margin, top))
    draw = ImageDraw.Draw(framed)
    if title:
        draw.text((8, 8), title, "black", font=font)
    step = (sheet.height + GAP) / len(labels)
    for i, label in enumerate(labels):
        middle = top + (i + 0.5) * step - GAP / 2
        draw.multiline_text((8, middle), label, "black", font=font, anchor="lm")
    return framed


@torch.no_grad()
def training_sheet(
    bundle: ModelBundle, images: Float[Tensor, "N 3 S S"], samples: Codes
) -> Image.Image:
    """What a model makes of some real pictures, and of some sampled codes.

    Args:
        bundle: The model, in eval mode.
        images: Real pictures, pixels in [-1, 1], on the model's device.
        samples: As many codes, on the model's device.
    """
    again = bundle.generator(bundle.encoders(images))
    drawn = bundle.generator(samples)
    rows = [
        images,
        again.child_image,
        again.background,
        again.parent_image,
        2 * again.child_mask - 1,
    ]
    names = ["real", "encoded, painted", "its background", "its parent", "its mask"]
    if bundle.extractor is not None:
        feature = bundle.extractor(images)
        codes = bundle.encoders(images)
        rows.append(bundle.generator.paint_object(feature, codes.c, again.background).child_image)
        names.append("feature mode")
    rows += [drawn.child_image, drawn.background, 2 * drawn.child_mask - 1]
    names += ["sampled codes", "background", "mask"]
    return labelled(grid([row.cpu() for row in rows], zoom=zoom_of(images.shape[-1])), names)


def stack(*sheets: Image.Image) -> Image.Image:
    """Sheets below each other, on white."""
    whole = Image.new(
        "RGB", (max(s.width for s in sheets), sum(s.height + 8 for s in sheets)), "white"
    )
    top = 0
    for sheet in sheets:
        whole.paste(sheet, (0, top))
        top += sheet.height + 8
    return whole
