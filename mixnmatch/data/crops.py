"""Random crops and flips of a whole batch at once, on the CPU or on a GPU.

The views of all pictures lie one after the other in one line of bytes (``prepared``), each colour
apart. A batch of squares is one gather of their rows; the boxes are carried along.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64, UInt8
from torch import Tensor


class Squares(NamedTuple):
    """Squares of one side to be cut out of views."""

    rows: Int64[Tensor, "B 3 S"]
    """Number of the first byte of each row of each colour."""
    flipped: Int64[Tensor, "F"]
    """Numbers of those whose left and right are swapped."""
    box: Float[Tensor, "B 4"]
    """x1, y1, x2, y2 in pixels of the square; all zero where it shows nothing of the object."""


def random_squares(
    starts: Int64[np.ndarray, "B"],
    sizes: Int64[np.ndarray, "B 2"],
    boxes: Float32[np.ndarray, "B 4"],
    side: int,
    chances: Float64[np.ndarray, "B 3"],
) -> Squares:
    """Place squares.

    Args:
        starts: Number of each view's first byte.
        sizes: Height and width of the views in pixels, at least ``side``.
        boxes: x1, y1, x2, y2 in pixels of the views.
        side: Of the squares, in pixels.
        chances: In [0, 1): where between left and right, where between top and bottom, and a flip
            below 0.5.
    """
    height, width = sizes.T
    offset_x = (chances[:, 0] * (width - side + 1)).astype(np.int64)
    offset_y = (chances[:, 1] * (height - side + 1)).astype(np.int64)
    offsets = torch.from_numpy(np.stack([offset_x, offset_y], axis=1))
    flip = torch.from_numpy(chances[:, 2] < 0.5)
    first = starts + offset_y * width + offset_x
    colours = (height * width)[:, None] * np.arange(3)
    rows = first[:, None, None] + colours[:, :, None] + width[:, None, None] * np.arange(side)
    return Squares(
        rows=torch.from_numpy(rows),
        flipped=flip.nonzero().flatten(),
        box=carry_boxes(torch.from_numpy(boxes), offsets, side, flip),
    )


def carry_boxes(
    boxes: Float[Tensor, "B 4"],
    offsets: Int64[Tensor, "B 2"],
    side: int,
    flip: Bool[Tensor, "B"],
) -> Float[Tensor, "B 4"]:
    """Boxes in squares: moved, clipped, mirrored.

    Args:
        boxes: x1, y1, x2, y2 in pixels of the views.
        offsets: x and y of each square's top left corner, in pixels.
        side: Of the squares, in pixels.
        flip: Whether left and right are swapped.

    Returns:
        x1, y1, x2, y2 in pixels of the squares; all zero where nothing of a box is inside.
    """
    x1, y1, x2, y2 = (boxes - offsets.to(boxes).repeat(1, 2)).clamp(0, side).unbind(dim=1)
    x1, x2 = torch.where(flip, side - x2, x1), torch.where(flip, side - x1, x2)
    visible = (x2 > x1) & (y2 > y1)
    return torch.where(visible[:, None], torch.stack([x1, y1, x2, y2], dim=1), 0.0)


def cut_squares(pixels: UInt8[Tensor, "P"], squares: Squares) -> UInt8[Tensor, "B 3 S S"]:
    """Copy squares out of views.

    Args:
        pixels: Bytes of all views.
        squares: Inside their views; on the device of the pixels.
    """
    count, _, side = squares.rows.shape
    # A view of every run of bytes that is as long as a row; no byte of it is copied.
    runs = pixels.unfold(0, side, 1)
    cut = runs.index_select(0, squares.rows.flatten()).view(count, 3, side, side)
    mirrored = cut.index_select(0, squares.flipped).flip(3)
    return cut.index_copy_(0, squares.flipped, mirrored)


def scale_pixels(pixels: UInt8[Tensor, "B 3 S S"]) -> Float[Tensor, "B 3 S S"]:
    """From 0…255 to [-1, 1]."""
    # A tensor on the same device: by a plain number a GPU multiplies with the reciprocal, which
    # differs from the quotient in the last bit.
    half_range = torch.full((), 127.5, device=pixels.device)
    return pixels.float().div_(half_range).sub_(1)
