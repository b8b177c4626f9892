"""What keeps a decoded picture or a box out of a data set, and what is only remarked of it."""

from mixnmatch.data.pictures import LARGEST_ASPECT, Decoded, check_box
from mixnmatch.data.records import Box
from mixnmatch.errors import DataError

_CUT = 0.01  # pixels: less is rounding
_THINNEST = 1e-4  # pixels: less may be nothing in 32 bits


def check_sides(decoded: Decoded, name: str) -> None:
    """Refuse here what training could not resize.

    Raises:
        DataError: If the picture is too long and narrow.
    """
    width, height = decoded.image.size
    if max(width, height) > LARGEST_ASPECT * min(width, height):
        raise DataError(
            f"{name}: {width}x{height} pixels: its sides may differ by a factor of "
            f"{LARGEST_ASPECT} at most"
        )


def check_inside(box: Box, decoded: Decoded, name: str) -> Box:
    """The part of a box inside the picture, of a size that survives rounding to 32 bits.

    Raises:
        DataError: If there is none.
    """
    inside = check_box(box, *decoded.image.size, name)
    if min(inside.width, inside.height) < _THINNEST:
        raise DataError(
            f"{name}: of its box ({box.x:g}, {box.y:g}, {box.width:g}, {box.height:g}) only "
            f"{inside.width:g}x{inside.height:g} pixels are inside the picture"
        )
    return inside


def remarks_of(decoded: Decoded) -> list[str]:
    """What of a picture is not as the others are, for its row."""
    remarks = []
    if decoded.mode in ("L", "LA", "1") or decoded.mode.startswith("I"):
        remarks.append(f"greyscale (mode {decoded.mode})")
    elif decoded.mode not in ("RGB", "P"):
        remarks.append(f"converted from mode {decoded.mode}")
    if decoded.turn is not None:
        remarks.append("EXIF orientation is not applied: boxes and views are of stored pixels")
    return remarks


def is_cut(box: Box, inside: Box) -> bool:
    """Whether a box is more than rounding larger than its part inside the picture."""
    pairs = zip(box.corners, inside.corners, strict=True)
    return any(abs(was - now) > _CUT for was, now in pairs)
