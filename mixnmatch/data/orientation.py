"""Annotations of a picture that EXIF turns upright, in the pixels that are stored.

Some tools annotate the picture as viewers show it. Where an annotation says of which size its
picture is, and EXIF asks for a quarter turn, that tells which of the two it speaks of. Of square
pictures, of half turns and of mirrored ones it does not: those are taken as stored.
"""

from PIL import Image

from mixnmatch.data.layouts.listing import Annotation
from mixnmatch.data.pictures import Decoded
from mixnmatch.data.records import Box, Part
from mixnmatch.errors import DataError

_QUARTER_TURNS = (
    Image.Transpose.ROTATE_90,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSPOSE,
    Image.Transpose.TRANSVERSE,
)


def annotated_turn(
    size: tuple[int, int] | None, decoded: Decoded, name: str
) -> Image.Transpose | None:
    """The quarter turn that the annotated picture has had, if any.

    Args:
        size: Width and height that the annotation speaks of, in pixels, where it says.
        decoded: The stored picture.
        name: Its name, for messages.

    Raises:
        DataError: If the annotation speaks of a picture of another size.
    """
    width, height = decoded.image.size
    if size is None or size == (width, height):
        return None
    if decoded.turn in _QUARTER_TURNS and size == (height, width):
        return decoded.turn
    raise DataError(f"{name}: is of {width}x{height} pixels, its annotation of {size[0]}x{size[1]}")


def stored_box(item: Annotation, size: tuple[int, int], turn: Image.Transpose | None) -> Box:
    """The box of an object in stored pixels.

    Args:
        item: The object.
        size: Width and height of the stored picture, in pixels.
        turn: The quarter turn that the annotated picture has had.
    """
    width, height = size if turn is None else size[::-1]
    box = item.box.scale(width, height) if item.unit == "shares" else item.box
    return box if turn is None else turned_back(box, width, height, turn)


def stored_part(
    part: Part, item: Annotation, size: tuple[int, int], turn: Image.Transpose | None
) -> Part:
    """A keypoint of an object in stored pixels; the other arguments are those of ``stored_box``."""
    point = stored_box(item._replace(box=Box(part.x, part.y, 0, 0)), size, turn)
    return part._replace(x=point.x, y=point.y)


def turned_back(box: Box, width: int, height: int, turn: Image.Transpose) -> Box:
    """A box of an upright picture in the stored one.

    Args:
        box: In pixels of the upright picture.
        width: Of the upright picture, in pixels.
        height: Of the upright picture, in pixels.
        turn: The quarter turn that makes the stored picture upright.
    """
    x1, y1, x2, y2 = box.corners
    if turn == Image.Transpose.ROTATE_90:  # counter-clockwise: stored (x, y) → (y, w - x)
        return Box.from_corners(height - y2, x1, height - y1, x2)
    if turn == Image.Transpose.ROTATE_270:
        return Box.from_corners(y1, width - x2, y2, width - x1)
    if turn == Image.Transpose.TRANSPOSE:
        return Box.from_corners(y1, x1, y2, x2)
    return Box.from_corners(height - y2, width - x2, height - y1, width - x1)
