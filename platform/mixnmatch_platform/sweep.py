"""What a sweep is: settings searched, settings shared, and the resources that a trial takes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

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


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """What a sweep varies. Fine categories are a multiple of the super ones by construction."""

    super_categories: tuple[int, ...]
    """Numbers of shape codes to choose from."""
    fine_per_super: tuple[int, ...]
    """Numbers of texture codes for each shape to choose from."""
    weights: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Ranges of loss weights, searched on a logarithmic scale."""

    def __post_init__(self) -> None:
        known = LossWeights.__dataclass_fields__
        for name, (low, high) in self.weights.items():
            if name not in known:
                raise ConfigError(f"unknown loss weight {name}: known are {', '.join(known)}")
            if not 0 < low < high:
                raise ConfigError(f"weights.{name} from {low} to {high}: must be 0 < low < high")

    def suggest(self, trial: "Trial") -> dict[str, Any]:
        """Let Optuna choose; returns what follows from its choices, for Tune to add to them."""
        supers = trial.suggest_categorical("model.super_categories", list(self.super_categories))
        per_super = trial.suggest_categorical("fine_per_super", list(self.fine_per_super))
        for name, (low, high) in self.weights.items():
            trial.suggest_float(f"weights.{name}", low, high, log=True)
        return {"model.fine_categories": supers * per_super}

    def describe(self) -> list[str]:
        """A line for each thing searched."""
        lines = [
            f"model.super_categories      one of {', '.join(map(str, self.super_categories))}",
            f"model.fine_categories       super × {' or '.join(map(str, self.fine_per_super))}",
        ]
        for name, (low, high) in self.weights.items():
            lines.append(f"{f'weights.{name}':27} {low:g} to {high:g}, log scale")
        return lines


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A sweep, complete: an experiment file builds one and calls ``run_sweep``."""

    name: str
    """MLflow experiment, and folder below ``home``."""
    data: Path
    """Data set folder."""
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
        if self.workers < 0:
            raise ConfigError(f"workers is {self.workers}: it must be at least 0")
        for name in ("trials", "concurrent"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if self.refit_steps is not None and self.refit_steps <= self.config.stage1.steps:
            raise ConfigError(
                f"refit_steps is {self.refit_steps}: it must be more than the trials' "
                f"{self.config.stage1.steps}"
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
        weights = {f"weights.{name}" for name in self.space.weights}
        return {"model.super_categories", "model.fine_categories"} | weights

    def trial_config(self, suggestion: Mapping[str, Any]) -> RunConfig:
        """The configuration of a trial."""
        known = {key: value for key, value in suggestion.items() if "." in key}
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
