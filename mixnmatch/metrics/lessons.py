"""What the localiser learns from: pictures changed at random, and how far it is from the truth."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from mixnmatch.data.batches import EvaluationSet

SPREAD = 1.0
"""Standard deviation in cells of the heat maps that are taught."""


class Maps(NamedTuple):
    """What the network says of pictures."""

    heat: Float[Tensor, "B K C C"]
    """Logits of where each keypoint is."""
    visible: Float[Tensor, "B K"]
    """Logits of whether it can be seen."""
    mask: Float[Tensor, "B 1 C C"]
    """Logits of the object's mask; of no meaning where the network was taught none."""


class Lesson(NamedTuple):
    """Pictures with what is to be found in them."""

    images: Float[Tensor, "B 3 S S"]
    """Pixels, in [-1, 1] but for other colours and noise."""
    keypoints: Float[Tensor, "B K 2"]
    """Places, from -1 at the left and upper edge to 1; NaN where not visible."""
    masks: Float[Tensor, "B 1 S S"] | None
    """Opacity in [0, 1]."""


def lesson_of(pictures: EvaluationSet, rows: Int64[Tensor, "B"]) -> Lesson:
    """Some of the pictures."""
    images = pictures.images[rows]
    if pictures.keypoints is None:
        points = torch.zeros(len(rows), 0, 2)
    else:
        points = 2 * pictures.keypoints[rows] / images.shape[-1] - 1
    return Lesson(images, points, None if pictures.masks is None else pictures.masks[rows])


def jittered(lesson: Lesson, mirror: Sequence[int], random: torch.Generator) -> Lesson:
    """Pictures turned, scaled, moved, mirrored, in other colours and with noise.

    Args:
        lesson: Pictures with pixels in [-1, 1].
        mirror: See ``mirrored_parts``.
        random: Of all that.
    """
    count = len(lesson.images)

    def uniform(*shape: int) -> Tensor:
        return 2 * torch.rand(count, *shape, generator=random) - 1

    angle, scale = 0.3 * uniform(), torch.exp(0.25 * uniform())
    flip = uniform() < 0
    sign = torch.where(flip, -1.0, 1.0)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    turn = torch.stack([cos * sign, -sin, sin * sign, cos], dim=1).view(count, 2, 2)
    shift = 0.2 * uniform(2)
    # From places in the new picture to places in the old one.
    grid = F.affine_grid(
        torch.cat([turn, shift[:, :, None]], dim=2), list(lesson.images.shape), align_corners=False
    )
    sample = partial(F.grid_sample, grid=grid, padding_mode="reflection", align_corners=False)
    images = sample(lesson.images)
    colours = torch.eye(3) + 0.2 * torch.randn(count, 3, 3, generator=random)
    images = torch.einsum("bij,bjhw->bihw", colours, images) + 0.2 * uniform(3)[..., None, None]
    noise = 0.1 * torch.rand(count, 1, 1, 1, generator=random)
    images = images + noise * torch.randn(images.shape, generator=random)
    points = (lesson.keypoints - shift[:, None]) @ torch.linalg.inv(turn).transpose(1, 2)
    points = torch.where(flip[:, None, None], points[:, mirror], points)
    points = points.masked_fill((points.abs() > 1).any(dim=2, keepdim=True), torch.nan)
    return Lesson(images, points, None if lesson.masks is None else sample(lesson.masks))


def localiser_loss(maps: Maps, lesson: Lesson) -> Float[Tensor, ""]:
    """Cross-entropy of heat maps with Gaussians, of visibility, and of the mask, where taught."""
    loss, cells = torch.zeros(()), maps.mask.shape[-1]
    if maps.visible.shape[1]:
        visible = ~lesson.keypoints.isnan().any(dim=2)
        places = (lesson.keypoints.nan_to_num() + 1) / 2 * cells - 0.5
        distances = places[..., None] - torch.arange(cells)
        x, y = (-((distances / SPREAD) ** 2) / 2).softmax(dim=3).unbind(dim=2)
        wanted = (y[..., None] * x[..., None, :]).flatten(2)
        entropy = -(wanted * maps.heat.flatten(2).log_softmax(dim=2)).sum(dim=2)
        loss = (entropy * visible).sum() / visible.sum().clamp(min=1)
        loss = loss + F.binary_cross_entropy_with_logits(maps.visible, visible.float())
    if lesson.masks is not None:
        opacity = resized(lesson.masks, cells)
        loss = loss + 3 * F.binary_cross_entropy_with_logits(maps.mask, opacity)
    return loss


def mirrored_parts(names: Sequence[str]) -> list[int]:
    """For each keypoint the one that it is in a mirrored picture: left and right change places."""
    swapped = [
        "right".join(part.replace("right", "left") for part in name.split("left")) for name in names
    ]
    index = {name: number for number, name in enumerate(names)}
    return [index.get(other, number) for number, other in enumerate(swapped)]


def resized(images: Float[Tensor, "B C _ _"], side: int) -> Float[Tensor, "B C S S"]:
    """Pictures or maps of another side, smoothed where it is smaller."""
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, (side, side), mode="bilinear", antialias=True)
