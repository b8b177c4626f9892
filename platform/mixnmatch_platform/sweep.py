"""What a sweep is: settings searched, settings shared, and the resources that a trial takes."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mixnmatch.checks import require
from mixnmatch.config import LossWeights, RunConfig
from mixnmatch.errors import ConfigError
from mixnmatch.settings import override
from mixnmatch_platform.cluster import group_resources
from mixnmatch_platform.store import home_folder
from mixnmatch_platform.tracking import Tracking

if TYPE_CHECKING:
    from optuna.trial import Trial

DRIVER_CPUS = 0.01
"""Share of a trial that only waits for its workers; Tune refuses none at all."""
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
    choices: Mapping[str, Sequence[bool | int | float | str | None]] = field(default_factory=dict)
    """Values of any other settings to choose from, by dotted key, for instance
    ``{"model.pack_size": (1, 2)}``; all must go together, and with the shared settings."""

    def __post_init__(self) -> None:
        known = LossWeights.__dataclass_fields__
        for name, (low, high) in self.weights.items():
            if name not in known:
                raise ConfigError(f"unknown loss weight {name}: known are {', '.join(known)}")
            if not 0 < low < high:
                raise ConfigError(f"weights.{name} from {low} to {high}: must be 0 < low < high")
        for key, values in self.choices.items():
            if key in self._ranges:
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
    def _ranges(self) -> set[str]:
        weights = {f"weights.{name}" for name in self.weights}
        return {"model.super_categories", "model.fine_categories"} | weights

    @property
    def searched(self) -> set[str]:
        """Settings that the trials differ in, by dotted key."""
        return self._ranges | self.choices.keys()

    def combinations(self) -> Iterator[dict[str, Any]]:
        """All that may be proposed together of the choices; one empty combination without them."""
        for values in itertools.product(*self.choices.values()):
            yield dict(zip(self.choices, values, strict=True))

    def suggest(self, trial: "Trial") -> dict[str, Any]:
        """Let Optuna choose; returns what follows from its choices, for Tune to add to them."""
        supers = trial.suggest_categorical("model.super_categories", list(self.super_categories))
        per_super = trial.suggest_categorical("fine_per_super", list(self.fine_per_super))
        for name, (low, high) in self.weights.items():
            trial.suggest_float(f"weights.{name}", low, high, log=True)
        for key, values in self.choices.items():
            trial.suggest_categorical(key, list(values))
        return {"model.fine_categories": supers * per_super}

    def describe(self) -> list[str]:
        """A line for each thing searched."""
        lines = [
            f"model.super_categories      one of {', '.join(map(str, self.super_categories))}",
            f"model.fine_categories       super × {' or '.join(map(str, self.fine_per_super))}",
        ]
        for name, (low, high) in self.weights.items():
            lines.append(f"{f'weights.{name}':27} {low:g} to {high:g}, log scale")
        for key, values in self.choices.items():
            lines.append(f"{key:27} one of {', '.join(map(repr, values))}")
        return lines


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A sweep, complete: an experiment file builds one and calls ``run_sweep``."""

    name: str
    """MLflow experiment, and folder below ``home``."""
    data: Path | str
    """Data set folder or URL."""
    config: RunConfig
    """What all trials share."""
    space: SearchSpace
    """What they differ in."""
    trials: int
    """Number of trials."""
    metric: str
    """Figure to optimise, of the last evaluation."""
    mode: Literal["min", "max"]
    """Whether less or more of it is better."""
    concurrent: int = 1
    """Trials at the same time."""
    workers: int = 0
    """Data-parallel workers a trial; 0 trains in the trial's own process, without Ray Train."""
    cpus_per_worker: float = 1.0
    """CPUs of a worker."""
    use_gpu: bool = False
    """One GPU a worker."""
    refit_steps: int | None = None
    """Steps of stage 1 that the best trial is trained to in the end, from where it stopped."""
    seed: int = 0
    """Of the proposals; the weights' seed is the configuration's."""
    home: Path = field(default_factory=home_folder)
    """Folder of all runs and of the default MLflow store."""

    def __post_init__(self) -> None:
        require(self.workers >= 0, "workers", self.workers, "at least 0")
        for name in ("trials", "concurrent"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        # Each is built once here, so that none is refused in the middle of the sweep.
        combinations = self.space.combinations()
        longest = max(self.trial_config(chosen).stage1.steps for chosen in combinations)
        require(
            self.refit_steps is None or self.refit_steps > longest,
            "refit_steps",
            self.refit_steps,
            f"more than the trials' {longest}",
        )

    @property
    def folder(self) -> Path:
        """Where the runs of this sweep are."""
        return (self.home / self.name).absolute()

    @property
    def tracking(self) -> Tracking:
        """Where they are recorded."""
        return Tracking.at(self.home.absolute(), self.name)

    @property
    def searched(self) -> set[str]:
        """Settings that the trials differ in."""
        return self.space.searched

    def trial_config(self, suggestion: Mapping[str, Any]) -> RunConfig:
        """The configuration of a trial."""
        searched = self.searched
        known = {key: value for key, value in suggestion.items() if key in searched}
        return override(self.config, known)

    @property
    def trial_resources(self) -> dict[str, float]:
        """What one trial takes of the cluster, its driver included."""
        resources = group_resources(
            max(1, self.workers), use_gpu=self.use_gpu, cpus_per_worker=self.cpus_per_worker
        )
        driver = DRIVER_CPUS if self.workers else 0
        return resources | {"CPU": resources["CPU"] + driver}


def describe(sweep: Sweep) -> str:
    """What a sweep would do, for ``--dry-run``."""
    config, resources = sweep.config, sweep.trial_resources
    taken = ", ".join(f"{amount:g} {name}" for name, amount in resources.items())
    where = "in the trial's process" if not sweep.workers else f"on {sweep.workers} worker(s)"
    lines = [
        f"sweep       {sweep.name}: {sweep.trials} trials, {sweep.concurrent} at a time",
        f"objective   {sweep.mode} {sweep.metric}, proposals by Optuna TPE, seed {sweep.seed}",
        f"data        {sweep.data}",
        f"each trial  stage 1 ({config.stage1.steps} steps) → evaluation → stage 2 "
        f"({config.stage2.steps} steps) → evaluation, {config.model.image_size} px, {where}",
        f"resources   a trial takes {taken}; "
        f"at once {', '.join(f'{sweep.concurrent * a:g} {n}' for n, a in resources.items())}",
    ]
    if sweep.refit_steps:
        lines.append(f"then        the best trial goes on to {sweep.refit_steps} steps of stage 1")
    lines += [
        f"results     {sweep.folder} and MLflow at {sweep.tracking.uri}, experiment {sweep.name}",
        "space",
        *(f"  {line}" for line in sweep.space.describe()),
    ]
    return "\n".join(lines)
