"""Running a sweep: Optuna proposes settings, Ray Tune runs each trial, which is a whole run.

A sweep that ended early, in whatever way, goes on when it is run again: see docs/adr/0019.
"""

import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, redirect_stdout
from dataclasses import replace
from typing import Any

from mixnmatch.data.store import Dataset, open_dataset
from mixnmatch.errors import MixNMatchError, Stopped
from mixnmatch.files import absolute
from mixnmatch.metrics.evaluate import teach_oracles
from mixnmatch.settings import override
from mixnmatch.training.run import check
from mixnmatch.training.signals import listening
from mixnmatch_platform.attempts import forget_attempts
from mixnmatch_platform.budget import Budget, session
from mixnmatch_platform.cluster import connect
from mixnmatch_platform.ending import ending, settle
from mixnmatch_platform.environment import environment_tags
from mixnmatch_platform.identity import check_metrics, check_same
from mixnmatch_platform.job import Job, start_job
from mixnmatch_platform.locks import hold, is_held
from mixnmatch_platform.notes import NOTE_TAG, refit_note, sweep_note
from mixnmatch_platform.outbox import Outbox
from mixnmatch_platform.periodic import every
from mixnmatch_platform.placing import check_placeable
from mixnmatch_platform.recording import OutboxRecorder
from mixnmatch_platform.results import SweepResult, TrialResult, best_words, counted, sweep_result
from mixnmatch_platform.stopping import EARLY, clear_stop, request_stop, stop_reason
from mixnmatch_platform.study import Study, trial_name
from mixnmatch_platform.sweep import DRIVER_CPUS, Sweep, describe
from mixnmatch_platform.tracking import DATA_TAG, REASON_TAG
from mixnmatch_platform.trainers import run_job
from mixnmatch_platform.views import saved_view

__all__ = ["open_study", "run_sweep"]

PATIENCE_SECONDS = 3600.0
"""How long a new trial waits for an MLflow store that is away."""
SETTLE_EVERY_SECONDS = 5.0


def run_sweep(
    sweep: Sweep, warm_start: str | None = None, budget: Budget | None = None
) -> SweepResult:
    """Run a sweep to its end, or go on with it.

    Args:
        sweep: The sweep.
        warm_start: MLflow experiment whose finished runs the sampler is told of.
        budget: What it may take, in all sessions together.

    Raises:
        InputError: For anything wrong with data, figures, tracking store or resources, before a
            trial starts; if the sweep of this name was another one, or its budget is spent.
        RunError: If no trial finished, or another process runs this sweep.
        Stopped: If it was asked to end early; its trials have saved what they had.
    """
    # Trials run in folders of their own, and on machines without this one's environment.
    sweep = replace(sweep, data=absolute(sweep.data), home=sweep.home.absolute())
    dataset = open_dataset(sweep.data)
    check(sweep.config, dataset, world_size=max(1, sweep.workers))
    check_metrics(sweep, dataset)
    sweep.tracking.check()
    # Once, here: trials on this machine find them in the cache.
    teach_oracles(dataset, sweep.config.model.image_size, sweep.config.evaluation)
    cluster = connect(home=sweep.home)
    check_placeable(sweep.worker, max(1, sweep.workers), grows=cluster.grows)
    # Listening after Ray, which has handlers of its own; what it says on stdout is no result.
    with (
        _listening(),
        session(sweep.folder, budget),
        hold(sweep.folder),
        redirect_stdout(sys.stderr),
    ):
        check_same(sweep, dataset)
        study = open_study(sweep)
        if warm_start is not None:
            _warm(sweep, study, dataset, warm_start)
        environment = environment_tags()
        parent = _parent(sweep, dataset, environment)
        ended_before = Outbox(sweep.folder).last_status() not in (None, "RUNNING")
        with closing(sweep.tracking.recorder(parent, sweep.folder)) as recorder:
            recorder.status("RUNNING")
            if ended_before:
                recorder.tags({REASON_TAG: ""})
            with ending(recorder, {}):
                start = functools.partial(
                    start_job,
                    sweep.tracking,
                    data=sweep.data,
                    stages=(1, 2),
                    parent_run_id=parent,
                    environment=environment,
                    patience_seconds=PATIENCE_SECONDS,
                )
                return _run(sweep, study, start, recorder, alone=cluster.started)


def open_study(sweep: Sweep) -> Study:
    """The study of a sweep, as far as it has come."""
    return Study(
        sweep.folder,
        space=sweep.space,
        objectives=sweep.objectives,
        trials=sweep.trials,
        seed=sweep.seed,
        halving=sweep.halving,
        constraints=sweep.constraints,
    )


def _run(
    sweep: Sweep,
    study: Study,
    start: Callable[..., Job],
    recorder: OutboxRecorder,
    *,
    alone: bool,
) -> SweepResult:
    import ray

    for folder in sweep.folder.glob("trial-*"):  # they are taken up by hand
        forget_attempts(folder)
        clear_stop(folder)
    try:
        with every(SETTLE_EVERY_SECONDS, lambda: _settle(sweep, study), "settling"):
            _tune(sweep, study, start)
    finally:
        _settle(sweep, study)
    if (reason := stop_reason([sweep.folder])) is not None:
        raise Stopped(
            f"{reason}: sweep {sweep.name} stopped with {counted(study)}, saved; "
            "run the same again to go on"
        )
    result = sweep_result(sweep, study)
    print(best_words(sweep, result), file=sys.stderr)
    final = dict(zip(sweep.objectives, result.best[0].values, strict=True))
    if sweep.refit_steps is not None:
        if alone and not sweep.workers:
            # The trials' idle workers hold memory and CPUs that this process needs.
            ray.shutdown()
        value = _refit(sweep, sweep.refit_steps, result.best[0], start)
        result, final = replace(result, refit_value=value), {sweep.objectives[0]: value}
    figures = {objective.metric: value for objective, value in final.items()}
    # A sweep that was given more trials has other figures: each end is a step.
    recorder.metrics(figures, recorder.next_step(next(iter(figures))))
    recorder.tags({"mixnmatch.best": ", ".join(trial.name for trial in result.best)})
    return result


def _tune(sweep: Sweep, study: Study, start: Callable[..., Job]) -> None:
    """Run trials until the study has all, or a stop is asked for."""
    from ray import tune

    from mixnmatch_platform.progress import SweepProgress
    from mixnmatch_platform.search import NUMBER, StudyScheduler, StudySearch
    from mixnmatch_platform.trial import trainable

    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # ``session`` is there for it
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # ``SweepProgress`` is there for it

    def name(trial: Any) -> str:
        return trial_name(trial.config[NUMBER])

    def stop(number: int) -> None:
        request_stop(sweep.folder / trial_name(number), EARLY)

    sessions = sweep.folder / "tune"
    tuner = tune.Tuner(
        tune.with_resources(
            trainable(sweep, start),
            {"CPU": DRIVER_CPUS} if sweep.workers else sweep.trial_resources,
        ),
        tune_config=tune.TuneConfig(
            search_alg=StudySearch(study, lambda: stop_reason([sweep.folder]) is not None),
            scheduler=StudyScheduler(study, sweep.rung_metric, stop) if sweep.halving else None,
            num_samples=-1,  # the study knows when there are enough
            max_concurrent_trials=sweep.concurrent,
            reuse_actors=True,  # a process that has imported everything takes the next trial
            trial_name_creator=name,
            trial_dirname_creator=name,
        ),
        run_config=tune.RunConfig(
            name=f"session-{len(list(sessions.glob('session-*'))) + 1}",
            storage_path=str(sessions),
            # A trial that gets on may die any number of times: it counts them itself.
            failure_config=tune.FailureConfig(max_failures=-1),
            verbose=0,
            callbacks=[SweepProgress(sweep.trials, sweep.objectives, study.counts())],
        ),
    )
    tuner.fit()


def _warm(sweep: Sweep, study: Study, dataset: Dataset, experiment: str) -> None:
    metrics = [objective.metric for objective in sweep.objectives]
    runs = sweep.tracking.finished_runs(experiment, dataset.info.fingerprint)
    added = sum(study.add(run.settings, run.metrics, run.run_id) for run in runs)
    print(
        f"warm start: {added} of {len(runs)} finished runs of {experiment} with this data have "
        f"{' and '.join(metrics)} and lie in the space",
        file=sys.stderr,
    )


def _settle(sweep: Sweep, study: Study) -> None:
    """End the MLflow runs of trials that are settled, and were killed before they could."""
    for name, status, reason in study.endings():
        out = sweep.folder / name
        if Outbox(out).run_id is None or is_held(out):
            continue
        if Outbox(out).last_status() in (None, "RUNNING", "KILLED"):
            try:
                settle(out, sweep.tracking, status, {REASON_TAG: reason})
            except (MixNMatchError, OSError) as error:  # of one trial, and there is a next time
                print(f"{out}: {error}", file=sys.stderr, flush=True)


def _parent(sweep: Sweep, dataset: Dataset, environment: Mapping[str, str]) -> str:
    """The MLflow run of the sweep: the one that it had, or a new one."""
    known = sweep.tracking.resume_run(sweep.folder)
    if known is not None:
        return known
    run_id = sweep.tracking.start_run(
        sweep.name,
        params={
            "trials": sweep.trials,
            "objectives": ", ".join(map(str, sweep.objectives)),
            "seed": sweep.seed,
            "constraints": "; ".join(map(str, sweep.constraints)),
        },
        tags={
            **environment,
            "mixnmatch.kind": "sweep",
            DATA_TAG: dataset.info.fingerprint,
            NOTE_TAG: sweep_note(sweep.name, describe(sweep)),
        },
        folder=sweep.folder,
    )
    steps = sweep.config.stage1.steps + sweep.config.stage2.steps
    searched = sorted(sweep.space.searched)
    view = saved_view(sweep.name, sweep.objectives, searched, last_step=steps)
    sweep.tracking.tag_experiment(view)
    return run_id


def _refit(sweep: Sweep, steps: int, best: TrialResult, start: Callable[..., Job]) -> float:
    """Train the best trial on to more steps, with what all trials together had."""
    print(f"training {best.name} on to {steps} steps of stage 1", file=sys.stderr)
    name = f"refit-of-{best.name}"
    job = start(
        name=name,
        config=override(sweep.trial_config(best.settings), {"stage1.steps": steps}),
        out=sweep.folder / name,
        tags={
            "mixnmatch.kind": "refit",
            "mixnmatch.continues": best.name,
            NOTE_TAG: refit_note(sweep.name, name, best.name, best.settings, steps),
        },
        begin_from=sweep.folder / best.name / "stage1.pt",
    )
    metrics = run_job(
        job,
        workers=sweep.workers,
        gpus_per_worker=sweep.gpus_per_worker,
        cpus_per_worker=sweep.cpus_per_worker,
        supervisor_folders=[sweep.folder],
        checkpoints=sweep.checkpoints,
    )
    return metrics[sweep.objectives[0].metric]


@contextmanager
def _listening() -> Iterator[None]:
    """``listening``, in the main thread, which alone hears signals."""
    if threading.current_thread() is threading.main_thread():
        with listening():
            yield
    else:
        yield
