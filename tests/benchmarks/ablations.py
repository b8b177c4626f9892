"""Our step with one of its optimisations switched back to the plain way, for ``step.py``.

Each entry of ``ABLATIONS`` takes the stage and gives a context in which its step is plain in one
point, with the same results. To add one, put a function's or a method's plain form in its place
with ``replaced``; where more has to change, write a context manager as ``weight_by_weight`` is one.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, NamedTuple
from unittest import mock

import torch
from plain import free_patches
from torch import Tensor, nn
from torch.nn import functional as F

from mixnmatch.codes import Codes
from mixnmatch.draws import Draws
from mixnmatch.networks import BackgroundDiscriminator, PairDiscriminators, PatchScores
from mixnmatch.networks.generator import _Canvas
from mixnmatch.networks.layers import CodeConv3, UpConv3, WholeMap
from mixnmatch.networks.normalisation import BatchNorm
from mixnmatch.training import stage1, stage2
from mixnmatch.training.optim import Averaged
from mixnmatch.training.state import TrainingStage

Pairs = tuple[Tensor, Codes]


class Ablation(NamedTuple):
    """One optimisation, undone."""

    stages: tuple[int, ...]
    """Where it makes a difference."""
    undo: Callable[[TrainingStage], AbstractContextManager[Any]]
    """The context in which the stage's step does without it."""


def replaced(
    *places: tuple[Any, str], by: Any
) -> Callable[[TrainingStage], AbstractContextManager[Any]]:
    """Put something else in the place of these attributes."""

    def undo(stage: TrainingStage) -> AbstractContextManager[Any]:
        stack = ExitStack()
        for owner, name in places:
            stack.enter_context(mock.patch.object(owner, name, by))
        return stack

    return undo


def enlarge_first(self: UpConv3, x: Tensor) -> Tensor:
    """``UpConv3.forward``: nearest ×2, then the convolution of the large picture."""
    return F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), self.weight, padding=1)


def planes_beside(self: CodeConv3, feature: Tensor, code: Tensor) -> Tensor:
    """``CodeConv3.forward``: the code as constant planes beside the feature."""
    planes = code[:, :, None, None].expand(-1, -1, *feature.shape[2:])
    both = [planes, feature] if self.code_first else [feature, planes]
    return F.conv2d(torch.cat(both, dim=1), self.weight, padding=1)


def convolve_map(self: WholeMap, x: Tensor) -> Tensor:
    """``WholeMap.forward`` as the convolution that it is named after."""
    return F.conv2d(x, self.weight, self.bias, stride=4).flatten(1)


def head_by_head(self: BackgroundDiscriminator, view: Tensor) -> PatchScores:
    """``BackgroundDiscriminator.forward``: a convolution for each head."""
    feature = self.trunk(view)
    return PatchScores(real=self.real_head(feature), background=self.background_head(feature))


def image_and_mask(self: _Canvas, feature: Tensor) -> tuple[Tensor, Tensor]:
    """``_Canvas.forward``: a convolution for each."""
    return self.image(feature), self.mask(feature)


@contextmanager
def one_head_at_a_time(stage: TrainingStage) -> Iterator[None]:
    """Image and mask, and both patch heads, by convolutions of their own."""
    with (
        mock.patch.object(_Canvas, "forward", image_and_mask),
        mock.patch.object(BackgroundDiscriminator, "forward", head_by_head),
    ):
        yield


def penalty_by_pair(critics: PairDiscriminators, real: Pairs, fake: Pairs, draws: Draws) -> Tensor:
    """``gradient_penalty``: gradients asked for once a pair."""

    def mix(left: Tensor, right: Tensor) -> Tensor:
        weight = draws.uniform(len(left), *[1] * (left.dim() - 1), dtype=left.dtype)
        return torch.lerp(left, right, weight).detach()

    between = mix(real[0], fake[0])
    codes = [
        mix(left, right).requires_grad_() for left, right in zip(real[1], fake[1], strict=True)
    ]
    penalty = torch.zeros((), device=between.device)
    for name, code in zip(Codes._fields, codes, strict=True):
        image = between.clone().requires_grad_()
        score = getattr(critics, name)(image, code, draws).sum()
        for gradient in torch.autograd.grad(score, [image, code], create_graph=True):
            penalty = penalty + ((gradient.flatten(1).norm(dim=1) - 1) ** 2).mean()
    return penalty


@torch.no_grad()
def average_by_weight(self: Averaged[Any], live: torch.nn.Module) -> None:
    """``Averaged.update`` in a loop."""
    for mine, theirs in zip(self.network.parameters(), live.parameters(), strict=True):
        mine.mul_(self.decay).add_(theirs, alpha=1 - self.decay)
    for kept, seen in zip(self.network.buffers(), live.buffers(), strict=True):
        kept.copy_(seen)


@contextmanager
def weight_by_weight(stage: TrainingStage) -> Iterator[None]:
    """Adam and the average in loops over the weights."""
    groups = [group for o in stage.optimisers.values() for group in o.param_groups]
    before = [(group["foreach"], group["fused"]) for group in groups]
    for group in groups:
        group["foreach"] = group["fused"] = False
    try:
        with mock.patch.object(Averaged, "update", average_by_weight):
            yield
    finally:
        for group, (foreach, fused) in zip(groups, before, strict=True):
            group["foreach"], group["fused"] = foreach, fused


ABLATIONS: dict[str, Ablation] = {
    "code planes concatenated": Ablation(
        (1, 2), replaced((CodeConv3, "forward"), by=planes_beside)
    ),
    "up-blocks enlarge before they convolve": Ablation(
        (1, 2), replaced((UpConv3, "forward"), by=enlarge_first)
    ),
    "torch's batch norm": Ablation(
        (1, 2), replaced((BatchNorm, "forward"), by=nn.modules.batchnorm._BatchNorm.forward)
    ),
    "heads of 4×4 maps as convolutions": Ablation(
        (1,), replaced((WholeMap, "forward"), by=convolve_map)
    ),
    "a convolution for each head": Ablation((1, 2), one_head_at_a_time),
    "penalty: one gradient call a pair": Ablation(
        (1,), replaced((stage1, "gradient_penalty"), by=penalty_by_pair)
    ),
    "weight gradients of networks that do not learn": Ablation(
        (1, 2), replaced((stage1, "frozen"), (stage2, "frozen"), by=lambda *_: nullcontext())
    ),
    "background mask box by box": Ablation(
        (1,),
        replaced((stage1, "background_patches"), by=lambda *args: free_patches(*args).bool()),
    ),
    "Adam and average weight by weight": Ablation((1, 2), weight_by_weight),
}
