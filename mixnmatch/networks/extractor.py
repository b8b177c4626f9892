"""The shape extractor of feature mode: a U-Net from a picture to a shape feature."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mixnmatch.config import ModelConfig
from mixnmatch.networks.layers import GLU, Residual, initialise, same_block
from mixnmatch.networks.normalisation import BatchNorm
from mixnmatch.networks.precision import full_precision


def _down(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, 2 * outputs, 4, 2, 1), BatchNorm(2 * outputs), GLU())


def _up(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(inputs, 2 * outputs, 4, 2, 1), BatchNorm(2 * outputs), GLU()
    )


class ShapeExtractor(nn.Module):
    """Picture to the shape feature that the parent stage would have made for it.

    Args:
        config: Sizes; used are ``image_size``, ``feature_channels`` and ``extractor_width``.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.extractor_width
        depth = int(math.log2(config.image_size // 2))
        downs = [width * min(2**i, 16) for i in range(depth)]
        self.first = nn.Sequential(same_block(3, width), same_block(width, width))
        self.downs = nn.ModuleList(
            _down(i, o) for i, o in zip([width, *downs], downs, strict=False)
        )
        # Each up-block but the first takes the skip that has its size; its answer has as many
        # channels.
        skips = downs[-2::-1]
        outputs = [downs[-1] // 2, *skips[:-1], config.feature_channels]
        inputs = [downs[-1], *(o + s for o, s in zip(outputs, skips, strict=False))]
        self.ups = nn.ModuleList(_up(i, o) for i, o in zip(inputs, outputs, strict=True))
        self.last = nn.Sequential(*[Residual(config.feature_channels) for _ in range(2)])
        initialise(self)

    def forward(self, image: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B C S S"]:
        """The shape feature of a picture, pixels in [-1, 1]."""
        hidden = self.first(image)
        skips = []
        for down in self.downs:
            hidden = down(hidden)
            skips.append(hidden)
        hidden = self.ups[0](skips.pop())
        for up in self.ups[1:]:
            hidden = up(torch.cat([hidden, skips.pop()], dim=1))
        return full_precision(self.last(hidden))
