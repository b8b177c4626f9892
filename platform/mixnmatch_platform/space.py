"""What a sweep searches: settings to vary, figures to optimise, and when to stop a trial early."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mixnmatch.checks import require
from mixnmatch.config import LossWeights
from mixnmatch.errors import ConfigError
from mixnmatch_platform.directions import BETTER, Mode, known_mode

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import BaseTrial

__all__ = ["Constraint", "Halving", "Objective", "SearchSpace"]

SUPERS, FINE, PER_SUPER = "model.super_categories", "model.fine_categories", "fine_per_super"
MOST_COMBINATIONS = 10_000
"""Of the choices of a space: each is checked before anything starts."""


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """What a sweep varies. Fine categories are a multiple of the super ones by construction."""

    super_categories: tuple[int, ...]
    """Numbers of shape codes to choose from."""
    fine_per_super: tuple[int, ...]
    """Numbers of texture codes for each shape to choose from."""
    weights: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Ranges of loss weights, searched on a logarithmic scale."""
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Ranges of other settings by dotted key, likewise, for instance
    ``{"stage1.lr": (1e-4, 1e-3)}``."""
    choices: Mapping[str, Sequence[bool | int | float | str | None]] = field(default_factory=dict)
    """Values of any other settings to choose from, by dotted key, for instance
    ``{"model.pack_size": (1, 2)}``; all must go together, and with the shared settings."""

    def __post_init__(self) -> None:
        known = LossWeights.__dataclass_fields__
        for name in self.weights:
            if name not in known:
                raise ConfigError(f"unknown loss weight {name}: known are {', '.join(known)}")
        for key in self.ranges:
            if key in {SUPERS, FINE} or key.removeprefix("weights.") in self.weights:
                raise ConfigError(f"{key} is searched already: it cannot be among the ranges")
        for key, (low, high) in self.logarithmic.items():
            if not 0 < low < high:
                raise ConfigError(f"{key} from {low} to {high}: must be 0 < low < high")
        for key, values in self.choices.items():
            if key in self._ranged:
                raise ConfigError(f"{key} is searched already: it cannot be among the choices")
            require(
                isinstance(values, list | tuple) and len(values) > 0,
                f"choices of {key}",
                values,
                "a tuple of at least one value",
            )
        combinations = math.prod(map(len, self.choices.values()))
        require(
            combinations <= MOST_COMBINATIONS,
            "number of combinations of choices",
            combinations,
            f"at most {MOST_COMBINATIONS}",
        )

    @property
    def logarithmic(self) -> dict[str, tuple[float, float]]:
        """Ranges of weights and of other settings, by dotted key."""
        return {f"weights.{name}": range_ for name, range_ in self.weights.items()} | {
            **self.ranges
        }

    @property
    def _ranged(self) -> set[str]:
        return {SUPERS, FINE} | self.logarithmic.keys()

    @property
    def searched(self) -> set[str]:
        """Settings that the trials differ in, by dotted key."""
        return self._ranged | self.choices.keys()

    @property
    def size(self) -> int | None:
        """Number of different proposals, None where there are ranges."""
        if self.logarithmic:
            return None
        return math.prod(map(len, self._choices.values()))

    @property
    def _choices(self) -> dict[str, Sequence[Any]]:
        return {SUPERS: self.super_categories, PER_SUPER: self.fine_per_super, **self.choices}

    def all_params(self) -> Iterator[dict[str, Any]]:
        """All parameters that may be proposed where there are only choices."""
        for values in itertools.product(*self._choices.values()):
            yield dict(zip(self._choices, values, strict=True))

    def combinations(self) -> Iterator[dict[str, Any]]:
        """All that may be proposed together of the choices, at both ends of the ranges."""
        ends = [{key: range_[end] for key, range_ in self.logarithmic.items()} for end in (0, 1)]
        for values in itertools.product(*self.choices.values()):
            for end in ends:
                yield end | dict(zip(self.choices, values, strict=True))

    def distributions(self) -> dict[str, "BaseDistribution"]:
        """Of each parameter, as Optuna has them."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        found: dict[str, BaseDistribution] = {
            SUPERS: CategoricalDistribution(self.super_categories),
            PER_SUPER: CategoricalDistribution(self.fine_per_super),
        }
        for key, (low, high) in self.logarithmic.items():
            found[key] = FloatDistribution(low, high, log=True)
        for key, values in self.choices.items():
            found[key] = CategoricalDistribution(tuple(values))
        return found

    def suggest(self, trial: "BaseTrial") -> dict[str, Any]:
        """Let Optuna choose; returns what follows from its choices, to be added to them."""
        supers = trial.suggest_categorical(SUPERS, list(self.super_categories))
        per_super = trial.suggest_categorical(PER_SUPER, list(self.fine_per_super))
        for key, (low, high) in self.logarithmic.items():
            trial.suggest_float(key, low, high, log=True)
        for key, values in self.choices.items():
            trial.suggest_categorical(key, list(values))
        return {FINE: supers * per_super}

    def params_of(self, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        """What would have been chosen for these flat settings, None where the space lacks them."""
        supers, fine = settings.get(SUPERS), settings.get(FINE)
        if not supers or not fine or fine % supers:
            return None
        params = {**settings, PER_SUPER: fine // supers}
        found = {name: params.get(name) for name in self.distributions()}
        for name, distribution in self.distributions().items():
            try:
                inside = distribution._contains(distribution.to_internal_repr(found[name]))
            except (TypeError, ValueError):
                return None
            if not inside:
                return None
        return found

    def describe(self) -> list[str]:
        """A line for each thing searched."""
        lines = [
            f"model.super_categories      one of {', '.join(map(str, self.super_categories))}",
            f"model.fine_categories       super × {' or '.join(map(str, self.fine_per_super))}",
        ]
        for key, (low, high) in self.logarithmic.items():
            lines.append(f"{key:27} {low:g} to {high:g}, log scale")
        for key, values in self.choices.items():
            lines.append(f"{key:27} one of {', '.join(map(repr, values))}")
        return lines


@dataclass(frozen=True)
class Objective:
    """A figure to optimise, of a trial's last evaluation."""

    metric: str
    """Its name."""
    mode: Mode
    """Whether less or more of it is better."""

    def __post_init__(self) -> None:
        if known_mode(self.metric) not in (None, self.mode):
            raise ConfigError(
                f"objective {self}: {BETTER[known_mode(self.metric) or self.mode]} of "
                f"{self.metric} is better"
            )

    def __str__(self) -> str:
        return f"{self.mode} {self.metric}"


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """Bounds on a figure of a trial's last evaluation.

    Optuna cannot stop trials early in a study of several objectives; a bound tells its sampler
    instead where not to look, and keeps trials that break it out of the Pareto front.
    """

    metric: str
    """Its name."""
    low: float = -math.inf
    """At least this."""
    high: float = math.inf
    """At most this."""

    def violation(self, figures: Mapping[str, float]) -> float:
        """By how much a trial breaks it; 0 or less where it does not, 1e9 without the figure."""
        value = figures.get(self.metric, math.nan)
        bounds = [b for b in (self.low - value, value - self.high) if not math.isinf(b)]
        return max(bounds) if bounds and math.isfinite(value) else 1e9

    def __str__(self) -> str:
        ends = [f"at least {self.low:g}"] if math.isfinite(self.low) else []
        ends += [f"at most {self.high:g}"] if math.isfinite(self.high) else []
        return f"{self.metric} {' and '.join(ends)}"

    def __post_init__(self) -> None:
        if not self.low < self.high or (math.isinf(self.low) and math.isinf(self.high)):
            raise ConfigError(
                f"constraint on {self.metric} from {self.low} to {self.high}: give a low, a high, "
                "or both, the first less than the second"
            )


@dataclass(frozen=True, kw_only=True)
class Halving:
    """Asynchronous successive halving (ASHA, arXiv 1810.05934) of the trials within stage 1.

    Rungs are at ``first_images``, ``factor`` times as many, and so on; of the trials that have come
    to a rung, the best one in ``factor`` goes on. Stage 2 is for those that are left.
    """

    first_images: int
    """Training pictures seen at the first rung; there must be an evaluation at each rung."""
    factor: int = 3
    """Of halving."""
    metric: str | None = None
    """Figure that the rungs compare, as an evaluation of ``evaluation.every_samples`` names it, of
    which more or less is better as of the objective; the objective's by default."""

    def __post_init__(self) -> None:
        require(self.first_images >= 1, "halving.first_images", self.first_images, "at least 1")
        require(self.factor >= 2, "halving.factor", self.factor, "at least 2")

    def rungs(self, images: int) -> list[int]:
        """Pictures seen at each rung of a stage of so many."""
        rungs = [self.first_images]
        while rungs[-1] * self.factor <= images:
            rungs.append(rungs[-1] * self.factor)
        return [rung for rung in rungs if rung <= images]
