"""Pictures and boxes as they come from outside: decoded and checked, with errors that name them."""

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageCms, JpegImagePlugin, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from mixnmatch.data.records import Box
from mixnmatch.errors import DataError

REDUCED_JPEG_PIXELS = 400_000_000
"""Most pixels of a JPEG that is decoded at a part of its size; others end at Pillow's limit."""
LARGEST_ASPECT = 50
"""By what factor a picture's sides may differ: the views of training resize its short side."""
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Of files, by Pillow's names. Others are unusual, and some run programs, as EPS does."""
_SPARE = 8
"""Pixels that a reduced side keeps for each one asked for, so that resizing it loses nothing."""

# What Pillow's decoders raise for malformed bytes.
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    ArithmeticError,
    RuntimeError,  # of AVIF
    struct.error,
    zlib.error,
)
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_picture(data: bytes, source: str) -> Image.Image:
    """Decode a picture to RGB.

    Pictures of other modes are converted as ``to_rgb`` says; of an animation the first frame is
    taken. EXIF orientation is not applied, because boxes are in stored pixels.

    Args:
        data: An encoded picture of one of ``FORMATS``.
        source: Its name, for messages.

    Raises:
        DataError: If it is corrupt, truncated, no picture, or larger than Pillow's limit.
    """
    return decode_whole(data, source).image


class Decoded(NamedTuple):
    """A picture as it is stored."""

    image: Image.Image
    """RGB, not turned."""
    mode: str
    """Pillow's name of what is stored, such as L for grey."""
    turn: Image.Transpose | None
    """What its EXIF orientation asks for."""


def decode_whole(data: bytes, source: str) -> Decoded:
    """Decode a picture to RGB, and say what it was; otherwise as ``decode_picture``."""
    with picture_errors(source, len(data)), Image.open(io.BytesIO(data), formats=FORMATS) as image:
        check_pixels(image.size, source)
        image.load()
        return Decoded(to_rgb(image), image.mode, _turn(image))


def read_upright(path: Path, side: int) -> Image.Image:
    """Read a picture file to RGB, as its EXIF orientation says, for a caller that makes it small.

    Where the short side is much longer than ``side``, pixels are averaged on the way, so that a
    large picture needs little memory; a JPEG is not even decoded whole. A damaged EXIF block
    turns nothing. The rest is as in ``decode_picture``.

    Args:
        path: A picture of one of ``FORMATS``.
        side: Pixels that the short side must keep, if the picture has them.

    Raises:
        DataError: If it is missing, corrupt, truncated, no picture, or too large: above Pillow's
            limit, or for a JPEG that can be reduced above ``REDUCED_JPEG_PIXELS``.
    """
    try:
        file = path.open("rb")
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    with file, picture_errors(str(path), size):
        return _upright(file, str(path), side)


def decode_upright(data: bytes, source: str, side: int, most: int | None = None) -> Image.Image:
    """Decode a picture to RGB as ``read_upright`` reads a file.

    Args:
        data: An encoded picture of one of ``FORMATS``.
        source: Its name, for messages.
        side: Pixels that the short side must keep, if the picture has them.
        most: Pixels accepted, if fewer than ``read_upright`` accepts.

    Raises:
        DataError: As ``read_upright``.
    """
    with picture_errors(source, len(data)):
        return _upright(io.BytesIO(data), source, side, most)


def check_pixels(size: tuple[int, int], source: str, most: int | None = None) -> None:
    """Refuse a picture by its size, before its pixels are decoded.

    Args:
        size: Width and height, in pixels.
        source: Its name, for messages.
        most: Pixels accepted; Pillow's limit by default.

    Raises:
        DataError: If there are more.
    """
    most = Image.MAX_IMAGE_PIXELS if most is None else most
    width, height = size
    if most is not None and width * height > most:
        raise DataError(
            f"{source}: {width}x{height} pixels: at most {most} are accepted, make it smaller"
        )


@contextmanager
def picture_errors(source: str, size: int) -> Iterator[None]:
    """Turn what Pillow raises for a picture that cannot be used into a ``DataError``.

    Args:
        source: Name of the picture, for messages.
        size: Of its file, in bytes.
    """
    try:
        yield
    except Image.DecompressionBombError as error:
        limit = Image.MAX_IMAGE_PIXELS or 0
        raise DataError(
            f"{source}: more than {2 * limit} pixels: at most {limit} are accepted, make it smaller"
        ) from error
    except Image.DecompressionBombWarning as error:
        raise DataError(f"{source}: too large a picture ({error})") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{source}: not a picture that can be read ({size} bytes)") from error
    except _DECODE_ERRORS as error:
        raise DataError(f"{source}: corrupt or truncated picture ({error})") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """A picture of any mode as RGB.

    Transparent parts become white. Of 16-bit greys the upper eight bits are kept. Floating-point
    greys are taken as 0 to 1 where none is above 1, and as 0 to 255 otherwise.

    Raises:
        ValueError: If Pillow cannot convert the mode.
    """
    if image.mode.startswith("I"):  # Pillow would cut 16-bit greys off at 255
        greys = np.asarray(image).clip(0, 65535).astype(np.uint16) >> 8
        return Image.fromarray(greys.astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        values = np.nan_to_num(np.asarray(image))
        scale = 255 if values.max() <= 1 else 1
        return Image.fromarray((scale * values).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(lab, srgb, "LAB", "RGB")
        converted = ImageCms.applyTransform(image, transform)
        assert converted is not None  # as it is not done in place
        return converted
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def check_box(box: Box, width: int, height: int, source: str) -> Box:
    """Clip a box to its picture; real annotations go past the edge.

    Args:
        box: Box in pixels.
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.
        source: Name of the picture, for messages.

    Raises:
        DataError: If it is not finite, has no area, or lies wholly outside.
    """
    values = "({:g}, {:g}, {:g}, {:g})".format(*box)
    if not box.is_finite or box.width <= 0 or box.height <= 0:
        raise DataError(f"{source}: box {values} has no area: width and height must be above 0")
    inside = box.clip(width, height)
    if not inside.area:
        raise DataError(f"{source}: box {values} lies outside its {width}x{height} picture")
    return inside


def encode_png(image: Image.Image) -> bytes:
    """The picture as PNG bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _upright(
    file: io.BufferedReader | io.BytesIO, source: str, side: int, most: int | None = None
) -> Image.Image:
    # ``Image.open`` would refuse by its whole size a JPEG that is decoded at a part of it.
    jpeg = file.seekable() and file.read(3) == b"\xff\xd8\xff"
    if file.seekable():
        file.seek(0)
    with (
        JpegImagePlugin.JpegImageFile(file) if jpeg else Image.open(file, formats=FORMATS) as image
    ):
        whole = image.size
        if most is not None:
            check_pixels(whole, source, most)
        image.draft(None, (_SPARE * side, _SPARE * side))
        # The decoder holds all of a progressive JPEG, whatever size it gives.
        if image.size != whole and "progressive" not in image.info:
            check_pixels(whole, source, REDUCED_JPEG_PIXELS)
        else:
            check_pixels(whole, source)
        image.load()
        turn = _turn(image)  # only now does Pillow know that of a TIFF
        # Before, for memory; after, for the modes that cannot be averaged before.
        picture = _reduced(to_rgb(_reduced(image, side)), side)
        return picture if turn is None else picture.transpose(turn)


def _reduced(image: Image.Image, side: int) -> Image.Image:
    factor = min(image.size) // (_SPARE * side)
    # Indices of a palette and a transparent colour must not be averaged.
    plain = image.mode in ("L", "LA", "RGB", "RGBA", "CMYK", "I", "F")
    if factor < 2 or not plain or "transparency" in image.info:
        return image
    return image.reduce(factor)


def _turn(image: ImageFile) -> Image.Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except _DECODE_ERRORS:
        return None
