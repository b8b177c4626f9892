"""How large a checkpoint is, before there is one."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mixnmatch.config import ModelConfig, RunConfig
from mixnmatch.networks import (
    BackgroundDiscriminator,
    ChildDiscriminator,
    Encoders,
    Generator,
    PairDiscriminators,
    ParentClassifier,
)

__all__ = ["kept_line", "state_bytes"]

ADAM_COPIES = 2
"""Of each weight: the means of its gradient and of its square."""


def state_bytes(model: ModelConfig) -> int:
    """Bytes of a state of stage 1, the larger one, to some per cent.

    Networks without memory are built for it, so that it takes no time at any size.
    """
    with torch.device("meta"):
        generator = Generator(model)
        trained: list[nn.Module] = [
            generator,
            Encoders(model),
            BackgroundDiscriminator(model),
            ParentClassifier(model),
            ChildDiscriminator(model),
            PairDiscriminators(model),
        ]
    weights = sum(_bytes(module.parameters()) for module in trained)
    statistics = sum(_bytes(module.buffers()) for module in trained)
    return (1 + ADAM_COPIES) * weights + statistics + _bytes(generator.state_dict().values())


def kept_line(config: RunConfig) -> str:
    """What the checkpoints of a run take on their disk, in words."""
    size, kept = state_bytes(config.model), config.checkpoint_keep
    best = config.checkpoint_best is not None
    total = (kept + 1 + best) * size  # a new one is written before the oldest goes
    return (
        f"checkpoints of {_shown(size)} each, the last {kept}"
        f"{' and the best one' if best else ''} kept: at most {_shown(total)} at a time"
    )


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def _shown(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(size / 1e6, 0.1):.1f} MB"
