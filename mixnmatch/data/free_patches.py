"""How much background the background discriminator is shown of a picture."""

from typing import NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

from mixnmatch.data.crops import carry_boxes
from mixnmatch.data.views import Views
from mixnmatch.losses import background_patches


class FreePatches(NamedTuple):
    """What the random crops of a background view leave free of the object."""

    share: float
    """Expected share of the 24x24 patches of a crop, in [0, 1]."""
    barren: float
    """Chance that a crop has no free patch at all, in [0, 1]."""


def free_patches(views: Views, image_size: int) -> FreePatches:
    """Average over all places of the crop of a background view.

    A patch meets the box if it does so across and down, and the crop's places across and down are
    independent of each other: so each direction is averaged alone, and what comes out is exact.
    Flips change nothing, as the patches lie symmetrically.

    Args:
        views: Of a picture, as training sees it.
        image_size: Side of the pictures, two pixels more than the background view's crop.
    """
    height, width = views.background_pixels.shape[:2]
    left, top, right, bottom = views.background_box.tolist()
    across = _meets(left, right, width, image_size)
    down = _meets(top, bottom, height, image_size)
    barren = across.all(dim=1).double().mean() * down.all(dim=1).double().mean()
    share = 1 - across.double().mean() * down.double().mean()
    return FreePatches(float(share), float(barren))


def _meets(start: float, end: float, length: int, image_size: int) -> Bool[Tensor, "O N"]:
    """Of each place of a crop in one direction, which patches meet a box that fills the other."""
    side = image_size - 2
    offsets = torch.zeros(length - side + 1, 2, dtype=torch.int64)
    offsets[:, 0] = torch.arange(len(offsets))
    boxes = torch.tensor([start, 0.0, end, side]).repeat(len(offsets), 1)
    unflipped = torch.zeros(len(offsets), dtype=torch.bool)
    carried = carry_boxes(boxes, offsets, side, unflipped)
    return ~background_patches(carried, image_size)[:, 0, 0]
