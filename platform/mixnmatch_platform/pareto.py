"""Pareto fronts: what nothing else beats in all figures at once."""

from collections.abc import Sequence

from mixnmatch_platform.directions import Mode

__all__ = ["front"]


def front(values: Sequence[Sequence[float]], modes: Sequence[Mode]) -> list[int]:
    """The places of those that no other one beats.

    One beats another that is worse in one figure and better in none. Equals beat each other not:
    of one figure the front is the best, or all that are equally good.

    Args:
        values: Of each, finite figures in the order of the modes.
        modes: Whether less or more of each figure is better.
    """
    signs = [1 if mode == "min" else -1 for mode in modes]
    costs = [[s * v for s, v in zip(signs, each, strict=True)] for each in values]
    return [n for n, cost in enumerate(costs) if not any(_beats(other, cost) for other in costs)]


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)
