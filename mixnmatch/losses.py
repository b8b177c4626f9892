"""Loss terms of both stages, each a mean over what it judges."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from mixnmatch.codes import Codes
from mixnmatch.draws import Draws
from mixnmatch.networks.discriminators import PATCH_MAP, patch_geometry
from mixnmatch.networks.encoders import PairDiscriminators


def real_loss(logits: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """Binary cross-entropy against *real*."""
    return F.softplus(-logits).mean()


def fake_loss(logits: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """Binary cross-entropy against *fake*."""
    return F.softplus(logits).mean()


def background_patches(boxes: Float[Tensor, "B 4"], image_size: int) -> Bool[Tensor, "B 1 N N"]:
    """Which patches of a background view see nothing of the object.

    Args:
        boxes: x1, y1, x2, y2 in pixels of the background view; an empty box hides nothing.
        image_size: Side of the pictures, two pixels more than the view's.

    Returns:
        True where the patch's receptive field does not meet the box.
    """
    field, stride = patch_geometry(image_size)
    start = torch.arange(PATCH_MAP, device=boxes.device) * stride
    x1, y1, x2, y2 = (edge[:, None] for edge in boxes.unbind(dim=1))
    meets_x = (start < x2) & (start + field > x1) & (x2 > x1)
    meets_y = (start < y2) & (start + field > y1) & (y2 > y1)
    return ~(meets_y[:, None, :, None] & meets_x[:, None, None, :])


def real_patch_loss(
    logits: Float[Tensor, "B 1 N N"],
    free: Bool[Tensor, "B 1 N N"],
    free_share: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    """Binary cross-entropy against *real* over the patches free of the object.

    Args:
        logits: Of every patch of real background views.
        free: Patches that count; with none at all in the batch the loss is 0.
        free_share: Share of patches that count in the whole batch, of which this is a part.
    """
    share = free.to(logits.dtype).mean() if free_share is None else free_share
    return (F.softplus(-logits) * free).mean() / share.clamp(min=1 / free[0].numel() / 2**20)


def patch_class_loss(
    logits: Float[Tensor, "B 1 N N"], free: Bool[Tensor, "B 1 N N"]
) -> Float[Tensor, ""]:
    """Binary cross-entropy of the patch class: background where free of the object."""
    return F.binary_cross_entropy_with_logits(logits, free.to(logits.dtype))


def code_loss(logits: Float[Tensor, "B K"], code: Float[Tensor, "B K"]) -> Float[Tensor, ""]:
    """Cross-entropy of a predicted code against a one-hot (or soft) one."""
    return F.cross_entropy(logits, code)


def _mix(
    real: Float[Tensor, "B *rest"], fake: Float[Tensor, "B *rest"], draws: Draws
) -> Float[Tensor, "B *rest"]:
    weight = draws.uniform(len(real), *[1] * (real.dim() - 1), dtype=real.dtype)
    return torch.lerp(real, fake, weight).requires_grad_()


def gradient_penalty(
    critics: PairDiscriminators,
    real: tuple[Float[Tensor, "B 3 S S"], Codes],
    fake: tuple[Float[Tensor, "B 3 S S"], Codes],
    draws: Draws,
) -> Float[Tensor, ""]:
    """WGAN-GP penalty of the four pair discriminators, on mixes of real and generated pairs.

    Args:
        critics: The pair discriminators.
        real: Real pictures and their encoded codes.
        fake: Generated pictures and the codes they were made from.
        draws: Source of the per-sample mixing weights, independent for the picture and each code,
            and of the critics' noise.

    Returns:
        ``Σ_k (‖∇_image‖ - 1)² + (‖∇_code‖ - 1)²``, a mean over the batch.

    Source:
        arXiv 1704.00028.
    """
    mixed_image = _mix(real[0], fake[0], draws).detach()
    # One leaf for each critic: a single backward call then gives each its own image gradient.
    images = [mixed_image.clone().requires_grad_() for _ in Codes._fields]
    codes = Codes(*(_mix(r, f, draws) for r, f in zip(real[1], fake[1], strict=True)))
    scores = critics(images, codes, draws)
    gradients = torch.autograd.grad(scores.sum(), [*images, *codes], create_graph=True)
    norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients])
    return ((norms - 1) ** 2).sum(dim=0).mean()


def r1_penalty(
    critic: Callable[[Tensor], Tensor], real: Float[Tensor, "B 3 S S"]
) -> Float[Tensor, ""]:
    """Half the squared norm of a critic's gradient at real pictures, a mean over what it judges.

    Args:
        critic: Pictures to logits, one for each picture or each pack of them.
        real: Real pictures, pixels in [-1, 1].

    Source:
        arXiv 1801.04406.
    """
    real = real.detach().requires_grad_()
    logits = critic(real)
    (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    return gradient.square().sum() / (2 * len(logits))
