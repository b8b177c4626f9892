"""What judges the generator: background patches, child image, codes read back, features."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mixnmatch.config import ModelConfig
from mixnmatch.networks.layers import (
    WholeMap,
    code_head,
    code_trunk,
    conv4,
    initialise,
    leaky,
)
from mixnmatch.networks.precision import full_precision

PATCH_MAP = 24
"""Side of the map of patches: the same at every image size."""


class PatchScores(NamedTuple):
    """Logits of each patch of a background view."""

    real: Float[Tensor, "B 1 N N"]
    """Positive where the patch looks real."""
    background: Float[Tensor, "B 1 N N"]
    """Positive where the patch looks like background, not object."""


def patch_geometry(image_size: int) -> tuple[int, int]:
    """Receptive field and stride of the patches, in pixels of the background view.

    Returns:
        (34, 4) at 128 px; smaller pictures have smaller patches, so that the map stays 24×24.
    """
    strided = int(math.log2(image_size // 32))
    stride = 2**strided
    return (3 + 3) * stride + 1 + 3 * (stride - 1), stride


def _patch_trunk(inputs: int, image_size: int, width: int) -> nn.Sequential:
    """Unpadded 4×4 convolutions, the last unstrided, to ``4 * width`` channels of 27×27."""
    layers: list[nn.Module] = []
    channels = inputs
    for i in range(int(math.log2(image_size // 32))):
        following = width * min(2**i, 4)
        layers += [conv4(channels, following, padding=0), leaky()]
        channels = following
    layers += [conv4(channels, 4 * width, stride=1, padding=0), leaky()]
    return nn.Sequential(*layers)


class BackgroundDiscriminator(nn.Module):
    """Judge the patches of a background view: real or painted, background or object.

    Args:
        config: Sizes; used are ``image_size`` and ``discriminator_width``.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.discriminator_width
        self.trunk = _patch_trunk(3, config.image_size, width)
        self.background_head = nn.Conv2d(4 * width, 1, 4)
        self.real_head = nn.Conv2d(4 * width, 1, 4)
        initialise(self)

    def forward(self, view: Float[Tensor, "B 3 T T"]) -> PatchScores:
        """Score every patch of a background view, pixels in [-1, 1]."""
        heads = (self.real_head, self.background_head)
        weight = torch.cat([head.weight for head in heads])
        bias = torch.cat([head.bias for head in heads if head.bias is not None])
        real, background = F.conv2d(self.trunk(view), weight, bias).split(1, dim=1)
        return PatchScores(real=full_precision(real), background=full_precision(background))


class ParentClassifier(nn.Module):
    """Read the shape code back from the masked parent foreground.

    Args:
        config: Sizes; its first width is half of ``discriminator_width``.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.discriminator_width // 2
        self.trunk, channels = code_trunk(config.image_size, width, widest=8)
        self.code_head = code_head(channels, config.super_categories)
        initialise(self)

    def forward(self, foreground: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B K"]:
        """Logits of the shape code."""
        return full_precision(self.code_head(self.trunk(foreground)))


class ChildDiscriminator(nn.Module):
    """Tell real pictures from painted ones, and read the texture code back.

    With packs of more than one picture, real/fake is judged on several pictures laid one upon
    another as channels, which shows a generator that paints always the same (PacGAN, arXiv
    1712.04086). The texture is still read on each picture alone: on a pack of it and its copies.

    Args:
        config: Sizes; used are ``image_size``, ``fine_categories``, ``discriminator_width`` and
            ``pack_size``.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.pack_size = config.pack_size
        self.trunk, channels = code_trunk(
            config.image_size,
            config.discriminator_width,
            widest=8,
            inputs=3 * config.pack_size,
        )
        self.code_head = code_head(channels, config.fine_categories)
        self.real_head = nn.Sequential(WholeMap(channels, 1))
        initialise(self)

    def real_logits(self, image: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "P 1"]:
        """Positive where a whole picture, or a whole pack of them, looks real."""
        packs = image.reshape(-1, 3 * self.pack_size, *image.shape[2:])
        return full_precision(self.real_head(self.trunk(packs)))

    def code_logits(self, foreground: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B K"]:
        """Logits of the texture code, read on the masked child foreground."""
        packs = foreground.repeat(1, self.pack_size, 1, 1)
        return full_precision(self.code_head(self.trunk(packs)))


class FeatureDiscriminator(nn.Module):
    """Tell generated shape features from extracted ones (stage 2).

    Args:
        config: Sizes; used are ``image_size``, ``feature_channels`` and ``extractor_width``.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.view_size = config.background_size
        width = config.extractor_width
        self.trunk = _patch_trunk(config.feature_channels, config.image_size, width)
        self.real_head = nn.Conv2d(4 * width, 1, 4)
        initialise(self)

    def forward(self, feature: Float[Tensor, "B C S S"]) -> Float[Tensor, "B 1 N N"]:
        """Logits of each patch: positive where the feature looks like the generator's own."""
        side = self.view_size
        view = F.interpolate(feature, (side, side), mode="bilinear", align_corners=True)
        return full_precision(self.real_head(self.trunk(view)))
