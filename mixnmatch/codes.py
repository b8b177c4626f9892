"""The four codes of a picture: pose z, background b, shape p, texture c."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from mixnmatch.config import ModelConfig


class Codes(NamedTuple):
    """One picture's factors; b, p and c lie on a simplex (one-hot, or soft where encoded)."""

    z: Float[Tensor, "B Z"]
    """Pose and other continuous variation, N(0, I) when sampled."""
    b: Float[Tensor, "B F"]
    """Background."""
    p: Float[Tensor, "B K"]
    """Shape: super category."""
    c: Float[Tensor, "B F"]
    """Texture: fine category."""

    def detach(self) -> "Codes":
        """The same codes, cut from the graph that made them."""
        return Codes(*(code.detach() for code in self))

    def part(self, index: int, parts: int) -> "Codes":
        """One of equal parts of the codes."""
        return Codes(*(code.chunk(parts)[index] for code in self))

    def to(self, device: torch.device) -> "Codes":
        """The same codes on another device."""
        return Codes(*(code.to(device) for code in self))


def parent_of(fine: Int[Tensor, "B"], config: ModelConfig) -> Int[Tensor, "B"]:
    """Super category of each fine category: k belongs to floor(k / (F / S))."""
    return fine // (config.fine_categories // config.super_categories)


def sample_tied(config: ModelConfig, count: int, generator: torch.Generator) -> Codes:
    """Codes for the generator's own losses: texture uniform, its parent shape, its background.

    Args:
        config: Category counts and noise dimensions.
        count: Number of codes.
        generator: Source of randomness; the codes live on its device.
    """
    c = _uniform(config.fine_categories, count, generator)
    return _one_hot(config, _noise(config, count, generator), b=c, p=parent_of(c, config), c=c)


def sample_free(config: ModelConfig, count: int, generator: torch.Generator) -> Codes:
    """Codes for training the encoders and for mixing: all four independent.

    Args:
        config: Category counts and noise dimensions.
        count: Number of codes.
        generator: Source of randomness; the codes live on its device.
    """
    return _one_hot(
        config,
        _noise(config, count, generator),
        b=_uniform(config.fine_categories, count, generator),
        p=_uniform(config.super_categories, count, generator),
        c=_uniform(config.fine_categories, count, generator),
    )


def _noise(config: ModelConfig, count: int, generator: torch.Generator) -> Float[Tensor, "B Z"]:
    return torch.randn(count, config.noise_dim, generator=generator, device=generator.device)


def _uniform(categories: int, count: int, generator: torch.Generator) -> Int[Tensor, "B"]:
    return torch.randint(categories, (count,), generator=generator, device=generator.device)


def _one_hot(
    config: ModelConfig,
    z: Float[Tensor, "B Z"],
    *,
    b: Int[Tensor, "B"],
    p: Int[Tensor, "B"],
    c: Int[Tensor, "B"],
) -> Codes:
    return Codes(
        z=z,
        b=F.one_hot(b, config.fine_categories).to(z.dtype),
        p=F.one_hot(p, config.super_categories).to(z.dtype),
        c=F.one_hot(c, config.fine_categories).to(z.dtype),
    )
