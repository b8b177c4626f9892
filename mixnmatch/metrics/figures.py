"""Figures: measured values with what is needed to trust them, and their names."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

FULL_SAMPLES = 30_000
"""Generated pictures of the published protocol; figures of other counts have the count in their
names."""
RESAMPLINGS = 1000
"""Of the bootstrap."""
CONFIDENCE = 0.95
"""Of every interval."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A measured value."""

    value: float
    """What was measured."""
    low: float | None = None
    """Lower end of its 95 % interval, where one is known."""
    high: float | None = None
    """Upper end."""
    chance: float | None = None
    """What a model that knows nothing would get, where that is known."""
    count: int | None = None
    """Number of pictures, mixes or pairs that it was measured on."""
    better: str | None = None
    """``higher`` or ``lower``; none where it is neither."""

    @property
    def reach(self) -> float | None:
        """Half of the interval, where one is known."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


Figures = dict[str, Figure]
"""By name."""


def flat(figures: Figures) -> dict[str, float]:
    """Plain numbers for records: each value by its name, its chance and interval by prefixes.

    For ``accuracy/shape`` these are ``chance/accuracy/shape``, ``low/accuracy/shape`` and
    ``high/accuracy/shape``.
    """
    numbers = {name: figure.value for name, figure in figures.items()}
    for part in ("chance", "low", "high"):
        for name, figure in figures.items():
            value = getattr(figure, part)
            if value is not None:
                numbers[f"{part}/{name}"] = value
    return numbers


def recorded(numbers: Mapping[str, float], name: str) -> Figure | None:
    """A figure from the numbers that ``flat`` made of it; None where they have no such one."""
    value = numbers.get(name)
    if value is None:
        return None
    low, high, chance = (numbers.get(f"{part}/{name}") for part in ("low", "high", "chance"))
    return Figure(value=value, low=low, high=high, chance=chance)


def noise_between(first: Figure, second: Figure) -> float | None:
    """How far apart two equal models would be in 19 of 20 cases, at most; None if unknown.

    It is that of the measurement, from the intervals of both: the luck of a training comes on top.
    """
    if first.reach is None or second.reach is None:
        return None
    return math.hypot(first.reach, second.reach)


def sized(name: str, samples: int) -> str:
    """The name of a figure whose value depends on how many pictures it is measured on.

    The bare name is kept for the published 30,000: ``fid``; else ``fid_5k``, ``fid_512``.
    """
    if samples == FULL_SAMPLES:
        return name
    return f"{name}_{samples // 1000}k" if samples % 1000 == 0 else f"{name}_{samples}"


def share(
    right: Bool[np.ndarray, "N"], *, chance: float | None = None, better: str = "higher"
) -> Figure:
    """How often something holds, with Wilson's 95 % interval.

    Args:
        right: Whether it does, in each of N independent cases, N at least 1.
        chance: How often it would by chance.
        better: ``higher`` or ``lower``.
    """
    count, value = len(right), float(np.mean(right))
    z = 1.959964
    centre = (value + z**2 / (2 * count)) / (1 + z**2 / count)
    reach = z * np.sqrt(value * (1 - value) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    return Figure(
        value=value,
        low=float(max(0.0, centre - reach)),
        high=float(min(1.0, centre + reach)),
        chance=chance,
        count=count,
        better=better,
    )


def mean(
    values: Float[np.ndarray, "N ..."], *, chance: float | None = None, better: str | None = None
) -> Figure:
    """A mean over cases, with its bootstrap interval.

    Args:
        values: Of N independent cases, N at least 1; further axes are averaged too, and values that
            are not numbers are left out.
        chance: The mean by chance.
        better: ``higher`` or ``lower``.

    Returns:
        NaN where no value is a number.
    """
    rows = values.reshape(len(values), -1).astype(np.float64)
    known = np.isfinite(rows)
    sums, counts = np.where(known, rows, 0).sum(axis=1), known.sum(axis=1)
    if not counts.sum():
        return Figure(value=float("nan"), chance=chance, count=0, better=better)

    def mean_of(index: np.ndarray) -> float:
        return float(sums[index].sum() / max(1, counts[index].sum()))

    low, high = bootstrap(mean_of, len(rows))
    return Figure(
        value=float(sums.sum() / counts.sum()),
        low=low,
        high=high,
        chance=chance,
        count=int((counts > 0).sum()),
        better=better,
    )


def bootstrap(
    statistic: Callable[[np.ndarray], float], count: int, *, resamplings: int = RESAMPLINGS
) -> tuple[float, float]:
    """The 95 % percentile interval of a statistic, from cases drawn again with replacement.

    Args:
        statistic: Of the cases with these indices.
        count: Number of cases.
        resamplings: How often they are drawn.
    """
    random = np.random.default_rng(0)
    values = np.array([statistic(random.integers(count, size=count)) for _ in range(resamplings)])
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)
