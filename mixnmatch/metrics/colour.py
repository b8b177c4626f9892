"""Colours around points of pictures, and how far they are from each other."""

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional as F

PATCH_SHARE = 1 / 8
"""Side of a patch, of the picture's."""
BINS = 8
"""Of each colour."""


def patch_histograms(
    images: Float[Tensor, "B 3 S S"], points: Float[Tensor, "B K 2"]
) -> Float32[np.ndarray, "B K H"]:
    """Colour histograms of square patches around points.

    Each value counts for the two bins next to it, by its distance from their middles, so that a
    histogram moves by little where a colour does.

    Args:
        images: Pixels in [-1, 1].
        points: x and y in pixels. A patch that leaves the picture sees its edge go on.

    Returns:
        Red, green and blue, each in ``BINS`` bins, one after the other, of sum 1; NaN around a
        point that is NaN.
    """
    side = images.shape[-1]
    reach = max(2, round(side * PATCH_SHARE))
    offsets = torch.arange(reach) - (reach - 1) / 2
    window = torch.stack(torch.meshgrid(offsets, offsets, indexing="xy"), dim=-1).view(-1, 2)
    places = 2 * (points.nan_to_num()[:, :, None] + window) / side - 1
    patches = F.grid_sample(images, places, padding_mode="border", align_corners=False)
    level = ((patches + 1) / 2 * BINS - 0.5).clamp(0, BINS - 1)
    near = (1 - (level[..., None] - torch.arange(BINS)).abs()).clamp(min=0)
    histograms = near.mean(dim=3).transpose(1, 2).flatten(2) / 3
    unknown = points.isnan().any(dim=2, keepdim=True)
    return histograms.masked_fill(unknown, torch.nan).numpy()


def chi_squared(
    first: Float[np.ndarray, "*N H"], second: Float[np.ndarray, "*N H"]
) -> Float[np.ndarray, "*N"]:
    """The χ² distance ½Σ(a−b)²/(a+b) of histograms of sum 1, in [0, 1]; NaN where one is."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    total = a + b
    return 0.5 * ((a - b) ** 2 / np.where(total == 0, 1.0, total)).sum(axis=-1)
