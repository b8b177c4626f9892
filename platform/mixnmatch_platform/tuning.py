"""Running a sweep: Ray Tune proposes settings with Optuna, each trial is a whole run."""

import contextlib
import functools
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mixnmatch.data.store import Dataset, open_dataset
from mixnmatch.errors import InputError, RunError
from mixnmatch.files import absolute
from mixnmatch.metrics.evaluate import metric_names, teach_oracles
from mixnmatch.settings import override
from mixnmatch.training.run import check
from mixnmatch_platform import cluster
from mixnmatch_platform.job import RUN_ID_FILE, Job, finishing, start_job
from mixnmatch_platform.sweep import DRIVER_CPUS, Sweep, describe
from mixnmatch_platform.tracking import DATA_TAG, Tracking, environment_tags
from mixnmatch_platform.trainers import run_job

if TYPE_CHECKING:
    from ray.tune import ResultGrid

TRIAL_FAILURES = 2
"""Times that a trial may die and go on from its last checkpoint."""


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """What a sweep ended with."""

    best_name: str
    """Run of the best trial."""
    best_value: float
    """Its figure."""
    best_settings: dict[str, Any]
    """What was proposed for it."""
    finished: int
    """Trials that finished."""
    failed: int
    """Trials that did not."""
    refit_value: float | None = None
    """The figure after the long training."""


def run_sweep(sweep: Sweep) -> SweepResult:
    """Run a sweep to its end.

    Raises:
        InputError: For anything wrong with data, metric, tracking store or resources, before a
            trial starts.
        RunError: If no trial finished.
    """
    import ray
    from ray import tune

    from mixnmatch_platform.progress import SweepProgress

    # Trials run in folders of their own, and on machines without this one's environment.
    sweep = replace(sweep, data=absolute(sweep.data), home=sweep.home.absolute())
    tracking, environment = sweep.tracking, environment_tags()
    dataset = open_dataset(sweep.data)
    check(sweep.config, dataset, world_size=max(1, sweep.workers))
    _check_metric(sweep, dataset)
    tracking.check()
    # Once, here: trials on this machine find them in the cache.
    teach_oracles(dataset, sweep.config.model.image_size, sweep.config.evaluation)
    started = cluster.connect()
    cluster.check_placeable(sweep.trial_resources, fixed=started)
    parent = tracking.start_run(
        sweep.name,
        params={"trials": sweep.trials, "metric": sweep.metric, "mode": sweep.mode},
        tags={
            **environment,
            "mixnmatch.kind": "sweep",
            DATA_TAG: dataset.info.fingerprint,
            "mlflow.note.content": f"```\n{describe(sweep)}\n```",
        },
    )
    start = functools.partial(
        start_job,
        tracking,
        data=sweep.data,
        stages=(1, 2),
        parent_run_id=parent,
        environment=environment,
    )
    with finishing(tracking, parent):
        trainable = functools.partial(_trial, sweep=sweep, start=start)
        resources = {"CPU": DRIVER_CPUS} if sweep.workers else sweep.trial_resources
        tuner = tune.Tuner(
            tune.with_resources(trainable, resources),
            tune_config=tune.TuneConfig(
                metric=sweep.metric,
                mode=sweep.mode,
                search_alg=_search(sweep),
                num_samples=sweep.trials,
                max_concurrent_trials=sweep.concurrent,
                trial_name_creator=_trial_name,
                trial_dirname_creator=_trial_name,
            ),
            run_config=tune.RunConfig(
                name=f"tune-{parent[:8]}",
                storage_path=str(sweep.folder),
                failure_config=tune.FailureConfig(max_failures=TRIAL_FAILURES),
                verbose=0,
                callbacks=[SweepProgress(sweep.trials, sweep.metric)],
            ),
        )
        with contextlib.redirect_stdout(sys.stderr):  # where Tune prints a table of its own
            grid = tuner.fit()
        result = _summary(sweep, tracking, grid)
        print(
            f"best of {result.finished} trials: {result.best_name}, "
            f"{sweep.metric} {result.best_value:.3f}",
            file=sys.stderr,
        )
        if sweep.refit_steps is not None:
            if started and not sweep.workers:
                # The trials' idle workers hold memory and CPUs that this process needs.
                ray.shutdown()
            value = _refit(sweep, sweep.refit_steps, result, start)
            result = replace(result, refit_value=value)
        final = result.best_value if result.refit_value is None else result.refit_value
        tracking.recorder(parent).metrics({sweep.metric: final}, 0)
        tracking.set_tags(parent, {"mixnmatch.best": result.best_name})
    return result


def _search(sweep: Sweep) -> Any:
    from ray.tune.search.optuna import OptunaSearch

    return OptunaSearch(
        space=sweep.space.suggest, metric=sweep.metric, mode=sweep.mode, seed=sweep.seed
    )


def _trial_name(trial: Any) -> str:
    return f"trial-{trial.trial_id}"


def _check_metric(sweep: Sweep, dataset: Dataset) -> None:
    names = metric_names(dataset, sweep.config.evaluation)
    if sweep.metric not in names:
        needs_weights = sweep.metric.startswith(("fid", "kid", "inception"))
        hint = " (it needs evaluation.inception_weights)" if needs_weights else ""
        raise InputError(
            f"{sweep.metric} is not measured on {sweep.data} with these settings{hint}: "
            f"measured are {', '.join(sorted(name for name in names if '/' not in name))}"
        )


def _trial(settings: dict[str, Any], *, sweep: Sweep, start: Callable[..., Job]) -> None:
    from ray import tune

    name = f"trial-{tune.get_context().get_trial_id()}"
    job = start(
        name=name,
        config=sweep.trial_config(settings),
        out=sweep.folder / name,
        tags={"mixnmatch.kind": "trial"},
    )
    if not sweep.workers:
        torch.set_num_threads(max(1, int(sweep.cpus_per_worker)))
    with finishing(job.tracking, job.run_id):
        metrics = _train(sweep, job)
    tune.report(metrics)


def _train(sweep: Sweep, job: Job) -> dict[str, float]:
    return run_job(
        job,
        workers=sweep.workers,
        use_gpu=sweep.use_gpu,
        cpus_per_worker=sweep.cpus_per_worker,
    )


def _summary(sweep: Sweep, tracking: Tracking, grid: "ResultGrid") -> SweepResult:
    # A trial reports once, when it is through: one with neither figures nor an error was stopped.
    through = [result for result in grid if sweep.metric in (result.metrics or {})]
    stopped = [r for r in grid if r.error is None and r not in through]
    for result in grid:
        if result not in through:
            # A process that was killed could not end its own run.
            run_id = (sweep.folder / Path(result.path).name / RUN_ID_FILE).read_text()
            tracking.finish(run_id, "KILLED" if result in stopped else "FAILED")
    if stopped:
        raise KeyboardInterrupt
    finished = [r for r in through if math.isfinite(r.metrics[sweep.metric])]
    if not finished:
        reasons = [str(error).strip().splitlines()[-1] for error in grid.errors]
        raise RunError(
            f"no trial of sweep {sweep.name} ended with a figure {sweep.metric}"
            + (f": {reasons[0]}" if reasons else "")
        )
    sign = 1 if sweep.mode == "max" else -1
    best = max(finished, key=lambda result: sign * result.metrics[sweep.metric])
    return SweepResult(
        best_name=Path(best.path).name,
        best_value=best.metrics[sweep.metric],
        best_settings=dict(best.config or {}),
        finished=len(finished),
        failed=len(grid) - len(finished),
    )


def _refit(sweep: Sweep, steps: int, result: SweepResult, start: Callable[..., Job]) -> float:
    """Train the best trial on to more steps, with what all trials together had."""
    print(f"training {result.best_name} on to {steps} steps of stage 1", file=sys.stderr)
    job = start(
        name=f"refit-of-{result.best_name}",
        config=override(sweep.trial_config(result.best_settings), {"stage1.steps": steps}),
        out=sweep.folder / f"refit-of-{result.best_name}",
        tags={"mixnmatch.kind": "refit", "mixnmatch.continues": result.best_name},
        begin_from=sweep.folder / result.best_name / "stage1.pt",
    )
    with finishing(job.tracking, job.run_id):
        metrics = _train(sweep, job)
    return metrics[sweep.metric]
