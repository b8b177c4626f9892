"""Multi-scale structural similarity of pairs of pictures."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn import functional as F

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents from the finest scale to the coarsest, each half the size of the one before."""
WINDOW, DEVIATION = 11, 1.5
"""Side and standard deviation of the Gaussian window, in pixels."""
STEADIERS = (0.01**2, 0.03**2)
"""What keeps the quotients of means and of variances finite, for pixels in [0, 1]."""


def ms_ssim(
    left: Float[Tensor, "N C S S"], right: Float[Tensor, "N C S S"]
) -> Float64[Tensor, "N"]:
    """Similarity of each pair, in [0, 1]; 1 only of a picture with itself.

    There are five scales whatever the size. Where a scale is smaller than the window, the window
    shrinks with it, and scores below zero count as zero: so do TensorFlow's first implementation
    and Progressive GAN's, which GANs were measured with. Libraries that want more than 160 pixels
    agree with it from 176 pixels on.

    Args:
        left: Pixels in [-1, 1]; S is a multiple of 16, and 32 or more.
        right: Their partners.

    Source:
        Wang et al., Multi-scale structural similarity for image quality assessment, 2003.
    """
    left, right = ((images.double() + 1) / 2 for images in (left, right))
    value = torch.ones(len(left), dtype=torch.float64, device=left.device)
    for scale, weight in enumerate(SCALE_WEIGHTS):
        if scale:
            left, right = F.avg_pool2d(left, 2), F.avg_pool2d(right, 2)
        similarity, structure = _compare(left, right)
        score = similarity if scale == len(SCALE_WEIGHTS) - 1 else structure
        value = value * score.clamp(min=0) ** weight
    return value


def _compare(
    left: Float64[Tensor, "N C S S"], right: Float64[Tensor, "N C S S"]
) -> tuple[Float64[Tensor, "N"], Float64[Tensor, "N"]]:
    """Similarity, and its part that does not look at brightness (contrast and structure)."""
    maps = torch.stack([left, right, left * left, right * right, left * right])
    x, y, xx, yy, xy = _blur(maps.flatten(0, 2)[:, None]).unflatten(0, maps.shape[:3])
    small, smaller = STEADIERS
    structure = (2 * (xy - x * y) + smaller) / (xx - x * x + yy - y * y + smaller)
    brightness = (2 * x * y + small) / (x * x + y * y + small)
    return (brightness * structure).flatten(1).mean(dim=1), structure.flatten(1).mean(dim=1)


def _blur(maps: Float64[Tensor, "M 1 S S"]) -> Float64[Tensor, "M 1 T T"]:
    """Local means under the window, where it fits."""
    size = min(WINDOW, maps.shape[-1])
    deviation = DEVIATION * size / WINDOW
    places = torch.arange(size, dtype=maps.dtype, device=maps.device) - (size - 1) / 2
    line = torch.exp(-(places**2) / (2 * deviation**2))
    line = line / line.sum()
    return F.conv2d(F.conv2d(maps, line.view(1, 1, size, 1)), line.view(1, 1, 1, size))
