"""Random crops and flips one picture at a time: what those of whole batches are held against."""

import numpy as np

from mixnmatch.data.views import Corners, Crop, Pixels


def plain_crop(
    pixels: Pixels, box: Corners, side: int, offset_x: int, offset_y: int, *, flip: bool
) -> Crop:
    """Cut a square out of a view at an offset in pixels, carry the box along, and mirror both."""
    crop = pixels[offset_y : offset_y + side, offset_x : offset_x + side]
    x1, y1, x2, y2 = np.clip(box - np.array([offset_x, offset_y] * 2, dtype=np.float32), 0, side)
    if flip:
        crop = crop[:, ::-1]
        x1, x2 = side - x2, side - x1
    visible = x2 > x1 and y2 > y1
    return Crop(crop, np.array((x1, y1, x2, y2) if visible else (0, 0, 0, 0), dtype=np.float32))
