"""The two views that training sees of a picture: about its object, and of its background.

The object view is a square of half-side 0.75·max(w, h) about the box, the background view the whole
picture; both are resized somewhat larger than needed, then cropped and flipped at random.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from PIL import Image

from mixnmatch.data.crops import carry_boxes
from mixnmatch.data.pictures import LARGEST_ASPECT, decode_picture
from mixnmatch.data.records import Box, Record
from mixnmatch.errors import DataError

Pixels = UInt8[np.ndarray, "_ _ ..."]
"""Colours in the last axis, or none for a mask; values 0 to 255."""
Corners = Float32[np.ndarray, "4"]
"""x1, y1, x2, y2 in pixels; all zero where a crop shows nothing of the object."""

VIEWS_VERSION = 1
"""Part of the key of prepared views: raise it when ``read_views`` gives other pixels or boxes."""
HALF_SIDE_SHARE = 0.75


class Views(NamedTuple):
    """A picture made ready for cropping."""

    object_pixels: Pixels
    """Surroundings of the object; the short side is int(image_size · 76/64)."""
    object_box: Corners
    """The box in them."""
    background_pixels: Pixels
    """The whole picture; the short side is int((image_size - 2) · 76/64)."""
    background_box: Corners
    """The box in them."""


class Crop(NamedTuple):
    """A square part of a view."""

    pixels: Pixels
    """A square of the side asked for."""
    box: Corners
    """The box in them, clipped."""


def read_views(record: Record, image_size: int) -> Views:
    """Decode a picture and prepare its views.

    Args:
        record: The picture.
        image_size: Side s of the object view to be cropped; the background view is of side s - 2.

    Raises:
        DataError: If it cannot be read, or is too long and narrow to be resized.
    """
    image = decode_picture(record.image, record.source)
    try:
        return prepare_views(image, record.box, image_size)
    except DataError as error:
        raise DataError(f"{record.source}: {error}") from error


def prepare_views(image: Image.Image, box: Box, image_size: int) -> Views:
    """The deterministic part of both views.

    Args:
        image: RGB picture.
        box: Box of its object, of positive area inside it, in pixels.
        image_size: Side s of the object view to be cropped; the background view is of side s - 2.

    Raises:
        DataError: If the picture is too long and narrow to be resized.
    """
    whole = Box(0, 0, image.width, image.height)
    square = object_square(box, image.width, image.height)
    return Views(
        *_resize(image, box, square, _short_side(image_size)),
        *_resize(image, box, whole, _short_side(image_size - 2)),
    )


def object_square(box: Box, width: int, height: int) -> Box:
    """The surroundings of an object: half-side 0.75·max(w, h) in whole pixels, clipped.

    Args:
        box: Box of the object, inside the picture, in pixels.
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.
    """
    half = max(1, int(HALF_SIDE_SHARE * max(box.width, box.height)))
    centre_x, centre_y = (int(value) for value in box.centre)
    return Box(centre_x - half, centre_y - half, 2 * half, 2 * half).clip(width, height)


def resize_object(image: Image.Image, box: Box, image_size: int) -> Image.Image:
    """Any picture of the same size, such as a mask, cut and resized as the object view is.

    Args:
        image: Picture of any mode.
        box: Box of the object, inside the picture, in pixels.
        image_size: Side of the object view to be cropped.
    """
    square = object_square(box, image.width, image.height)
    size = _resized_size(square, _short_side(image_size))
    return image.resize(size, Image.Resampling.BILINEAR, box=square.corners)


def centre_crop(pixels: Pixels, box: Corners, side: int) -> Crop:
    """The square in the middle of a view, with the box in it.

    Args:
        pixels: A view's pixels, at least ``side`` in both directions.
        box: The box in them.
        side: Of the square, in pixels.
    """
    height, width = pixels.shape[:2]
    left, top = (width - side) // 2, (height - side) // 2
    (carried,) = carry_boxes(
        torch.from_numpy(box)[None], torch.tensor([[left, top]]), side, torch.tensor([False])
    )
    return Crop(pixels[top : top + side, left : left + side], carried.numpy())


def crop_share(box: Box, width: int, height: int) -> tuple[float, float, float, float]:
    """Where a box is in what ``centre_crop`` cuts out of its object view, but for rounding.

    Args:
        box: Box of the object, inside the picture, in pixels.
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.

    Returns:
        x1, y1, x2, y2 in shares of the view's side, clipped to it.
    """
    square = object_square(box, width, height)
    side = min(square.width, square.height) * 64 / 76
    x, y = (middle - side / 2 for middle in square.centre)
    return box.shift(-x, -y).scale(1 / side, 1 / side).clip(1, 1).corners


def crop_keypoints(record: Record, count: int, side: int) -> Float32[np.ndarray, "K 2"]:
    """Keypoints in the square that ``centre_crop`` cuts out of an object view.

    Args:
        record: The picture.
        count: Number of keypoints that the data set names.
        side: Of the square, in pixels.

    Returns:
        x and y in pixels of the square; NaN where one cannot be seen or is outside of it.
    """
    square = object_square(record.box, record.width, record.height)
    width, height = _resized_size(square, _short_side(side))
    found = np.full((count, 2), np.nan, dtype=np.float32)
    for part in record.parts:
        x = (part.x - square.x) * width / square.width - (width - side) // 2
        y = (part.y - square.y) * height / square.height - (height - side) // 2
        if 0 <= x <= side and 0 <= y <= side:
            found[part.part] = x, y
    return found


def _short_side(side: int) -> int:
    return int(side * 76 / 64)


def _resized_size(region: Box, short: int) -> tuple[int, int]:
    smaller = min(region.width, region.height)
    if max(region.width, region.height) > LARGEST_ASPECT * smaller:
        raise DataError(
            f"picture of {region.width:g}x{region.height:g} pixels: "
            f"its sides may differ by a factor of {LARGEST_ASPECT} at most"
        )
    return int(short * region.width / smaller), int(short * region.height / smaller)


def _resize(image: Image.Image, box: Box, region: Box, short: int) -> tuple[Pixels, Corners]:
    width, height = _resized_size(region, short)
    resized = image.resize((width, height), Image.Resampling.BILINEAR, box=region.corners)
    carried = box.shift(-region.x, -region.y).scale(width / region.width, height / region.height)
    return np.asarray(resized), np.array(carried.clip(width, height).corners, dtype=np.float32)
