"""The three-stage generator: background, parent (shape) and child (texture), composed by masks.

Source: FineGAN, arXiv 1811.11155; feature mode from MixNMatch, arXiv 1911.11758.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mixnmatch.codes import Codes
from mixnmatch.config import ModelConfig
from mixnmatch.networks.layers import (
    GLU,
    JointBlock,
    Residual,
    conv3,
    initialise,
    same_block,
    up_block,
)
from mixnmatch.networks.normalisation import BatchNorm
from mixnmatch.networks.precision import full_precision


class Layers(NamedTuple):
    """Everything the generator paints, from back to front. Pixels in [-1, 1], masks in [0, 1]."""

    background: Float[Tensor, "B 3 S S"]
    parent_foreground: Float[Tensor, "B 3 S S"]
    parent_mask: Float[Tensor, "B 1 S S"]
    parent_image: Float[Tensor, "B 3 S S"]
    child_foreground: Float[Tensor, "B 3 S S"]
    child_mask: Float[Tensor, "B 1 S S"]
    child_image: Float[Tensor, "B 3 S S"]
    shape_feature: Float[Tensor, "B C S S"]


def composite(
    foreground: Float[Tensor, "B 3 H W"],
    mask: Float[Tensor, "B 1 H W"],
    background: Float[Tensor, "B 3 H W"],
) -> Float[Tensor, "B 3 H W"]:
    """Paste a foreground over a background through a soft mask.

    Args:
        foreground: Object image, pixels in [-1, 1].
        mask: Opacity in [0, 1]; 1 shows only the foreground.
        background: Image behind it, pixels in [-1, 1].

    Returns:
        ``mask * foreground + (1 - mask) * background``, pixels in [-1, 1].
    """
    return torch.lerp(background, foreground, mask)


def background_view(background: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B 3 T T"]:
    """The background image as its discriminator sees it: two pixels smaller, corners aligned."""
    side = background.shape[-1] - 2
    return F.interpolate(background, (side, side), mode="bilinear", align_corners=True)


class _Painter(nn.Sequential):
    """Codes to a picture-sized feature: linear to 4×4, then up-blocks."""

    def __init__(self, inputs: int, first: int, widths: list[int]) -> None:
        ups = [up_block(i, o) for i, o in zip([first, *widths], widths, strict=False)]
        super().__init__(
            nn.Linear(inputs, 2 * 16 * first, bias=False),
            BatchNorm(2 * 16 * first),
            GLU(),
            nn.Unflatten(1, (first, 4, 4)),
            *ups,
        )


def _widths(image_size: int, first: int, last: int, last_blocks: int) -> list[int]:
    """Channels of the up-blocks: halving down to an eighth of ``first``, ending at ``last``."""
    blocks = int(math.log2(image_size // 4))
    tail = max(1, last_blocks + blocks - 5)
    return [first // 2 ** min(i + 1, 3) for i in range(blocks - tail)] + [last] * tail


class _Canvas(nn.Module):
    """A stage's heads: an image and its mask."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.image = nn.Sequential(conv3(channels, 3), nn.Tanh())
        self.mask = nn.Sequential(conv3(channels, 1), nn.Sigmoid())

    def forward(
        self, feature: Float[Tensor, "B C S S"]
    ) -> tuple[Float[Tensor, "B 3 S S"], Float[Tensor, "B 1 S S"]]:
        """Pixels in [-1, 1] and opacity in [0, 1], by one convolution."""
        weight = torch.cat([*self.image.parameters(), *self.mask.parameters()])
        both = full_precision(F.conv2d(feature, weight, padding=1))
        return torch.tanh(both[:, :3]), torch.sigmoid(both[:, 3:])


class Generator(nn.Module):
    """Paint a picture from four codes, or from three codes and a shape feature.

    Args:
        config: Sizes; used are ``image_size``, the category counts, ``noise_dim`` and
            ``generator_width``.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        first = 8 * config.generator_width
        # The published weights want the code behind the parent's feature, but before the child's.
        shape, texture = first // 32, config.generator_width // 4
        size, fine, supers = config.image_size, config.fine_categories, config.super_categories

        self.background_stage = _Painter(
            config.noise_dim + fine, first, _widths(size, first, first // 16, last_blocks=1)
        )
        self.background_image = nn.Sequential(conv3(first // 16, 3), nn.Tanh())

        self.parent_stage = _Painter(
            config.noise_dim + supers, first, _widths(size, first, shape, last_blocks=2)
        )
        self.parent_joint = JointBlock(shape, supers, shape, code_first=False)
        self.parent_residual = nn.Sequential(*[Residual(shape) for _ in range(3)])
        self.parent_canvas = _Canvas(shape)

        self.child_joint = JointBlock(texture, fine, 2 * texture, code_first=True)
        self.child_residual = nn.Sequential(*[Residual(2 * texture) for _ in range(2)])
        self.child_same = same_block(2 * texture, texture)
        self.child_canvas = _Canvas(texture)
        initialise(self)

    def forward(self, codes: Codes, background_z: Float[Tensor, "B Z"] | None = None) -> Layers:
        """Code mode: paint from codes alone.

        Args:
            codes: Pose, background, shape and texture codes; soft codes are allowed.
            background_z: Noise of the background stage, where it is not the pose code itself.
        """
        background = self.paint_background(
            codes.z if background_z is None else background_z, codes.b
        )
        return self.paint_object(self.shape_feature(codes.z, codes.p), codes.c, background)

    def paint_background(
        self, z: Float[Tensor, "B Z"], b: Float[Tensor, "B F"]
    ) -> Float[Tensor, "B 3 S S"]:
        """The background stage: a picture with no object, pixels in [-1, 1]."""
        hidden = self.background_stage(torch.cat([z, b], dim=1))
        return torch.tanh(full_precision(self.background_image[0](hidden)))

    def shape_feature(
        self, z: Float[Tensor, "B Z"], p: Float[Tensor, "B K"]
    ) -> Float[Tensor, "B C S S"]:
        """The parent stage up to the feature that carries shape and pose."""
        hidden = self.parent_stage(torch.cat([z, p], dim=1))
        return self.parent_residual(self.parent_joint(hidden, p))

    def paint_object(
        self,
        shape_feature: Float[Tensor, "B C S S"],
        c: Float[Tensor, "B F"],
        background: Float[Tensor, "B 3 S S"],
    ) -> Layers:
        """Feature mode: paint an object of a given shape feature over a background.

        Args:
            shape_feature: From ``shape_feature`` or from the shape extractor.
            c: Texture code.
            background: Picture behind the object, pixels in [-1, 1].
        """
        parent_foreground, parent_mask = self.parent_canvas(shape_feature)
        parent_image = composite(parent_foreground, parent_mask, background)
        hidden = self.child_residual(self.child_joint(shape_feature, c))
        child_foreground, child_mask = self.child_canvas(self.child_same(hidden))
        return Layers(
            background=background,
            parent_foreground=parent_foreground,
            parent_mask=parent_mask,
            parent_image=parent_image,
            child_foreground=child_foreground,
            child_mask=child_mask,
            child_image=composite(child_foreground, child_mask, parent_image),
            shape_feature=shape_feature,
        )
