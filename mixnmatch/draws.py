"""Random numbers of a step that do not depend on how its batch is divided."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


class Draws:
    """Random numbers for one of equal parts of a batch: drawn for the whole, and one part taken.

    Workers whose generators are in the same state, and micro-batches that begin from it in turn,
    so see the numbers that one worker would see with the whole batch at once.

    Args:
        generator: Source of randomness; the numbers live on its device.
        part: Number of this part, from 0.
        parts: Number of parts.
    """

    def __init__(self, generator: torch.Generator, part: int = 0, parts: int = 1) -> None:
        self.generator = generator
        self.part = part
        self.parts = parts

    def normal(self, *shape: int, dtype: torch.dtype | None = None) -> Float[Tensor, "B *rest"]:
        """Standard normal numbers for this part, of ``shape``."""
        whole = torch.randn(self._whole(shape), **self._kind(dtype))
        return whole.chunk(self.parts)[self.part]

    def uniform(self, *shape: int, dtype: torch.dtype | None = None) -> Float[Tensor, "B *rest"]:
        """Numbers in [0, 1) for this part, of ``shape``."""
        whole = torch.rand(self._whole(shape), **self._kind(dtype))
        return whole.chunk(self.parts)[self.part]

    def _whole(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (self.parts * shape[0], *shape[1:])

    def _kind(self, dtype: torch.dtype | None) -> dict[str, Any]:
        return {"generator": self.generator, "device": self.generator.device, "dtype": dtype}
