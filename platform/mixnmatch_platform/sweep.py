"""What a sweep is: settings searched, settings shared, and the resources that a trial takes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mixnmatch.checks import require
from mixnmatch.config import RunConfig
from mixnmatch.errors import ConfigError
from mixnmatch.settings import flatten, override
from mixnmatch_platform.directions import BETTER, known_mode
from mixnmatch_platform.placing import Bundle, worker_bundle
from mixnmatch_platform.space import Constraint, Halving, Objective, SearchSpace
from mixnmatch_platform.store import home_folder
from mixnmatch_platform.tracking import Tracking

__all__ = ["Constraint", "Halving", "Objective", "SearchSpace", "Sweep", "describe"]

IDENTITY = "sweep.json"
"""File in the folder of a sweep: what its trials' figures depend on."""
DRIVER_CPUS = 0.01
"""Share of a trial that only waits for its workers; Tune refuses none at all."""


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
    objectives: tuple[Objective, ...]
    """Figures to optimise; with several there is a Pareto front instead of a best trial."""
    halving: Halving | None = None
    """When to stop a trial early, with one objective."""
    constraints: tuple[Constraint, ...] = ()
    """What a trial that counts must satisfy."""
    concurrent: int = 1
    """Trials at the same time."""
    workers: int = 0
    """Data-parallel workers a trial; 0 trains in the trial's own process, without Ray Train."""
    cpus_per_worker: float = 1.0
    """CPUs of a worker."""
    gpus_per_worker: float = 0.0
    """GPUs of a worker: 1, a fraction for small models that share one, or 0 to train on CPUs."""
    checkpoints: str | None = None
    """URL below which the states of all runs are kept; without it in their folders."""
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
        require(bool(self.objectives), "objectives", self.objectives, "at least one")
        if len(self.objectives) > 1:
            self._check_several()
        dict(self.worker)  # which is checked as it is made
        size = self.space.size
        require(
            size is None or self.trials <= size,
            "trials",
            self.trials,
            f"at most the {size} combinations that the space has",
        )
        # Each is built once here, so that none is refused in the middle of the sweep.
        configs = [self.trial_config(chosen) for chosen in self.space.combinations()]
        if self.halving is not None:
            for config in configs:
                self._check_rungs(self.halving, config)
        longest = max(config.stage1.steps for config in configs)
        require(
            self.refit_steps is None or self.refit_steps > longest,
            "refit_steps",
            self.refit_steps,
            f"more than the trials' {longest}",
        )

    def _check_several(self) -> None:
        if self.halving is not None:
            raise ConfigError(
                "halving with several objectives: Optuna cannot stop trials of such a study early; "
                "keep one objective, or bound a figure with constraints instead"
            )
        if self.refit_steps is not None:
            raise ConfigError(
                "refit_steps with several objectives: there is a Pareto front and no best trial; "
                "leave it out, and train the trial of your choice on with platform train"
            )

    def _check_rungs(self, halving: Halving, config: RunConfig) -> None:
        goal = self.objectives[0]
        if known_mode(self.rung_metric) not in (None, goal.mode):
            raise ConfigError(
                f"halving.metric is {self.rung_metric}: it must be a figure of which "
                f"{BETTER[goal.mode]} is better, as of the objective {goal.metric}"
            )
        step = config.stage1.batch_size * max(1, self.workers)
        every = config.evaluation.every_steps * step
        total = config.stage1.steps * step
        if not every or halving.first_images % every:
            raise ConfigError(
                f"halving.first_images is {halving.first_images}: it must be a multiple of the "
                f"{every} pictures between evaluations (evaluation.every_steps × batch × workers)"
            )
        require(
            halving.first_images <= total,
            "halving.first_images",
            halving.first_images,
            f"at most the {total} pictures of stage 1",
        )

    @property
    def folder(self) -> Path:
        """Where the runs of this sweep are."""
        return (self.home / self.name).absolute()

    @property
    def tracking(self) -> Tracking:
        """Where they are recorded."""
        return Tracking.at(self.home.absolute(), self.name)

    def trial_config(self, suggestion: Mapping[str, Any]) -> RunConfig:
        """The configuration of a trial."""
        searched = self.space.searched
        known = {key: value for key, value in suggestion.items() if key in searched}
        return override(self.config, known)

    @property
    def rung_metric(self) -> str:
        """Figure of the evaluations within stage 1 that the rungs of halving compare."""
        own = self.halving.metric if self.halving else None
        return own or self.objectives[0].metric

    @property
    def identity(self) -> dict[str, Any]:
        """All that the figures of its trials and its proposals depend on, flat, as plain JSON."""
        return {
            **flatten(self.config),
            "seed of proposals": self.seed,
            "objectives": ", ".join(map(str, self.objectives)),
            "constraints": ", ".join(map(str, self.constraints)),
            "halving": str(self.halving),
            **{f"space line {n}": line for n, line in enumerate(self.space.describe())},
        }

    @property
    def worker(self) -> Bundle:
        """What one worker takes of one machine."""
        return worker_bundle(
            gpus_per_worker=self.gpus_per_worker, cpus_per_worker=self.cpus_per_worker
        )

    @property
    def trial_resources(self) -> dict[str, float]:
        """What one trial takes of the cluster, its driver included."""
        resources = {kind: amount * max(1, self.workers) for kind, amount in self.worker.items()}
        driver = DRIVER_CPUS if self.workers else 0
        return resources | {"CPU": resources["CPU"] + driver}


def describe(sweep: Sweep) -> str:
    """What a sweep would do, for ``--dry-run``."""
    config, resources = sweep.config, sweep.trial_resources
    taken = ", ".join(f"{amount:g} {name}" for name, amount in resources.items())
    where = "in the trial's process" if not sweep.workers else f"on {sweep.workers} worker(s)"
    lines = [
        f"sweep       {sweep.name}: {sweep.trials} trials, {sweep.concurrent} at a time",
        f"objective   {', '.join(map(str, sweep.objectives))}, proposals by Optuna TPE, "
        f"seed {sweep.seed}",
        f"data        {sweep.data}",
        f"each trial  stage 1 ({config.stage1.steps} steps) → evaluation → stage 2 "
        f"({config.stage2.steps} steps) → evaluation, {config.model.image_size} px, {where}",
        f"resources   a trial takes {taken}; "
        f"at once {', '.join(f'{sweep.concurrent * a:g} {n}' for n, a in resources.items())}",
    ]
    if sweep.halving:
        step = config.stage1.batch_size * max(1, sweep.workers)
        rungs = ", ".join(f"{n:,}" for n in sweep.halving.rungs(config.stage1.steps * step))
        lines.append(
            f"halving     the best one in {sweep.halving.factor} by {sweep.rung_metric} goes on "
            f"after {rungs} pictures"
        )
    if sweep.constraints:
        lines.append(f"bounds      {'; '.join(map(str, sweep.constraints))}")
    if sweep.refit_steps:
        lines.append(f"then        the best trial goes on to {sweep.refit_steps} steps of stage 1")
    lines += [
        f"results     {sweep.folder} and MLflow at {sweep.tracking.uri}, experiment {sweep.name}",
        "space",
        *(f"  {line}" for line in sweep.space.describe()),
    ]
    return "\n".join(lines)
