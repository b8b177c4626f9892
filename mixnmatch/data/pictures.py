"""Pictures and boxes as they come from outside: decoded and checked, with errors that name them."""

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mixnmatch.data.records import Box
from mixnmatch.errors import DataError

# What Pillow's decoders raise for malformed bytes.
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    ArithmeticError,
    struct.error,
    zlib.error,
)


def decode_picture(data: bytes, source: str) -> Image.Image:
    """Decode a picture to RGB.

    Greyscale, palette, 16-bit and CMYK pictures are converted; transparent parts become white; of
    an animation the first frame is taken. EXIF orientation is not applied, because boxes are in
    stored pixels.

    Args:
        data: An encoded picture of any format that Pillow reads.
        source: Its name, for messages.

    Raises:
        DataError: If it is corrupt, truncated, no picture, or larger than Pillow's limit.
    """
    return _decode(data, source, upright=False)


def decode_upright(data: bytes, source: str) -> Image.Image:
    """Decode a picture to RGB and turn it as its EXIF orientation says; for pictures without boxes.

    A damaged EXIF block turns nothing. The rest is as in ``decode_picture``.

    Args:
        data: An encoded picture of any format that Pillow reads.
        source: Its name, for messages.

    Raises:
        DataError: If it is corrupt, truncated, no picture, or larger than Pillow's limit.
    """
    return _decode(data, source, upright=True)


def _decode(data: bytes, source: str, *, upright: bool) -> Image.Image:
    try:
        with Image.open(io.BytesIO(data)) as image:
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and image.width * image.height > limit:
                raise DataError(
                    f"{source}: {image.width}x{image.height} pixels: at most {limit} are accepted"
                )
            image.load()
            return _to_rgb(_turned(image) if upright else image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{source}: too large a picture ({error})") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{source}: not a picture that can be read ({len(data)} bytes)") from error
    except _DECODE_ERRORS as error:
        raise DataError(f"{source}: corrupt or truncated picture ({error})") from error


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


def _turned(image: Image.Image) -> Image.Image:
    try:
        image.getexif()  # from here on the image knows it
        # Else Pillow would write the block again, which damage anywhere in it stops.
        for key in ("exif", "Raw profile type exif"):
            image.info.pop(key, None)
        return ImageOps.exif_transpose(image)
    except _DECODE_ERRORS:
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # Pillow would cut 16-bit greys off at 255
        return Image.fromarray((np.asarray(image, dtype=np.uint32) >> 8).astype(np.uint8)).convert(
            "RGB"
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")
