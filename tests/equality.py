"""Equality of nested states, for tests of resuming."""

from typing import Any

import torch


def same(left: Any, right: Any) -> bool:
    """Whether two nested states are equal, bit for bit."""
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)
