"""What judges the generator: background patches, child image, codes read back, features."""

import math
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mixnmatch.config import ModelConfig
from mixnmatch.networks.layers import code_head, code_trunk, conv4, initialise, leaky

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
        feature = self.trunk(view)
        return PatchScores(real=self.real_head(feature), background=self.background_head(feature))


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
        return self.code_head(self.trunk(foreground))


class ChildDiscriminator(nn.Module):
    """Tell real pictures from painted ones, and read the texture code back.

    Args:
        config: Sizes; used are ``image_size``, ``fine_categories`` and ``discriminator_width``.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.trunk, channels = code_trunk(config.image_size, config.discriminator_width, widest=8)
        self.code_head = code_head(channels, config.fine_categories)
        self.real_head = nn.Sequential(nn.Conv2d(channels, 1, 4, stride=4), nn.Flatten())
        initialise(self)

    def real_logits(self, image: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B 1"]:
        """Positive where the whole picture looks real."""
        return self.real_head(self.trunk(image))

    def code_logits(self, foreground: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B K"]:
        """Logits of the texture code, read on the masked child foreground."""
        return self.code_head(self.trunk(foreground))


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
        return self.real_head(self.trunk(view))
