"""DiffAugment: small changes that real and painted pictures go through before they are judged.

With few real pictures a discriminator learns them by heart; changes that gradients pass through
make it look at more than it has, without teaching the generator to paint them.
Source: arXiv 2006.10738.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mixnmatch.draws import Draws

Images = Float[Tensor, "B 3 S S"]
SHIFT_SHARE = 1 / 8
"""Largest shift, in sides of the picture."""
HOLE_SHARE = 1 / 2
"""Side of the hole, in sides of the picture."""


def augment(images: Images, policies: tuple[str, ...], draws: Draws) -> Images:
    """Change each picture by chance.

    Args:
        images: Pixels in [-1, 1]; what comes out may leave the range.
        policies: Any of ``color``, ``translation`` and ``cutout``, in the order of their use.
        draws: Source of chance.
    """
    for policy in policies:
        images = _POLICIES[policy](images, draws)
    return images


def _color(images: Images, draws: Draws) -> Images:
    """Brightness, then saturation, then contrast."""
    brightness, saturation, contrast = draws.uniform(len(images), 3, 1, 1, 1).unbind(dim=1)
    images = images + (brightness - 0.5)
    grey = images.mean(dim=1, keepdim=True)
    images = torch.lerp(grey, images, 2 * saturation)
    middle = images.mean(dim=(1, 2, 3), keepdim=True)
    return torch.lerp(middle, images, contrast + 0.5)


def _translation(images: Images, draws: Draws) -> Images:
    """Shift by whole pixels; what comes in from outside is grey (0)."""
    side = images.shape[-1]
    most = int(side * SHIFT_SHARE + 0.5)
    chances = draws.uniform(len(images), 2)
    shift_x, shift_y = ((chances * (2 * most + 1)).long()).clamp(max=2 * most).unbind(dim=1)
    padded = F.pad(images, (most, most, most, most))
    span = torch.arange(side, device=images.device)
    rows = (span + shift_y[:, None])[:, None, :, None]
    columns = (span + shift_x[:, None])[:, None, None, :]
    sample = torch.arange(len(images), device=images.device)[:, None, None, None]
    channel = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
    return padded[sample, channel, rows, columns]


def _cutout(images: Images, draws: Draws) -> Images:
    """Set a square to grey (0), a part of which may be outside."""
    side = images.shape[-1]
    hole = int(side * HOLE_SHARE + 0.5)
    centre = (draws.uniform(len(images), 2) * (side + 1 - hole % 2)).floor()
    span = torch.arange(side, device=images.device)
    start = centre - hole // 2
    inside = (span >= start[..., None]) & (span < start[..., None] + hole)  # B 2 S
    kept = ~(inside[:, 1, :, None] & inside[:, 0, None, :])
    return images * kept[:, None]


_POLICIES = {"color": _color, "translation": _translation, "cutout": _cutout}
