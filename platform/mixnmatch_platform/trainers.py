"""Training on Ray Train: the same run as everywhere, on one or several workers."""

import functools
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mixnmatch.device import choose_device
from mixnmatch.errors import MixNMatchError, RunError, Stopped
from mixnmatch.training.checkpoints import KeptStates
from mixnmatch.training.run import Worker
from mixnmatch_platform.attempts import count_attempt, forget_attempts
from mixnmatch_platform.job import Job, execute, figures, settle
from mixnmatch_platform.placing import SPARED_CPUS
from mixnmatch_platform.states import job_states
from mixnmatch_platform.stopping import PreemptedError, Stopping, stop_reason
from mixnmatch_platform.tracking import REASON_TAG

if TYPE_CHECKING:
    from ray.train.torch import TorchTrainer

__all__ = ["fit", "run_job", "stage_trainer"]


def run_job(
    job: Job,
    *,
    workers: int = 0,
    gpus_per_worker: float = 0.0,
    cpus_per_worker: float = 1.0,
    supervisor_folders: Sequence[Path] = (),
    checkpoints: str | None = None,
) -> dict[str, float]:
    """Train a job: in this process, or on a worker group.

    A group that dies is started again where the last checkpoint is, any number of times as long as
    it gets on.

    Args:
        job: The run.
        workers: Data-parallel Ray workers; 0 trains in this process.
        gpus_per_worker: GPUs of each, 1 or a fraction.
        cpus_per_worker: CPUs of each.
        supervisor_folders: Where a stop may be asked for, beside the run's own folder.
        checkpoints: URL below which the states are kept; where they are already without it.

    Returns:
        The last evaluation's figures.

    Raises:
        MixNMatchError: What stopped the workers, where it is an error of ours.
        Stopped: If the run was asked to end.
        RunError: If the workers died again and again.
    """
    states = job_states(job.out, job.config, checkpoints)
    folders = [job.out, *supervisor_folders]
    if not workers:
        return execute(
            job,
            worker=Worker(device=choose_device("cuda" if gpus_per_worker else "cpu")),
            checkpoints=states,
            supervisor=Stopping(folders),
        )
    try:
        reason = ""
        while True:
            count_attempt(job.out, states.latest(), reason)
            trainer = stage_trainer(
                job,
                states,
                workers=workers,
                gpus_per_worker=gpus_per_worker,
                cpus_per_worker=cpus_per_worker,
                stop_folders=folders,
            )
            try:
                metrics = fit(trainer, job)
            except (PreemptedError, WorkersDiedError) as error:
                reason = str(error)
                if isinstance(error, NotPlacedError):
                    forget_attempts(job.out)
                if (asked := stop_reason(folders)) is not None:
                    raise Stopped(
                        f"{asked}: its workers are gone ({reason}); run the same again to go on "
                        "from the last checkpoint"
                    ) from error
            else:
                forget_attempts(job.out)
                return metrics
    except BaseException as error:
        _settle(job, error)
        raise


class WorkersDiedError(RunError):
    """A worker group ended without an error of ours: it may be tried again."""


class NotPlacedError(WorkersDiedError):
    """A worker group has waited in vain for nodes to run on; that is no death."""


def stage_trainer(
    job: Job,
    states: KeptStates,
    *,
    workers: int = 1,
    gpus_per_worker: float = 0.0,
    cpus_per_worker: float = 1.0,
    stop_folders: Sequence[Path] = (),
) -> "TorchTrainer":
    """The trainer of a job for one attempt: stage 1, stage 2, or both in one worker group.

    Args:
        job: The run.
        states: Of the run.
        workers: Data-parallel workers; each takes batches of the configured size.
        gpus_per_worker: GPUs of each: with one NCCL connects them, with fractions, or without any,
            Gloo.
        cpus_per_worker: CPUs of each.
        stop_folders: Where a stop may be asked for.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    from mixnmatch_platform.process_group import NoticingConfig
    from mixnmatch_platform.worker_group import WorkerTask, train_on_worker

    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    task = WorkerTask(
        job=job,
        states=states,
        threads=max(1, int(cpus_per_worker)),
        stop_folders=stop_folders,
        reports=in_trial(),
    )
    storage = job.out / "ray"
    return TorchTrainer(
        # Not in the loop's config: the group's controller unpickles that, with all of our packages.
        functools.partial(train_on_worker, task),
        torch_config=NoticingConfig(backend="nccl" if gpus_per_worker == 1 else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=workers,
            use_gpu=gpus_per_worker > 0,
            resources_per_worker={"CPU": cpus_per_worker - SPARED_CPUS}
            | ({"GPU": gpus_per_worker} if gpus_per_worker else {}),
        ),
        run_config=RunConfig(
            # Ray takes a name used before for that run, finished or not.
            name=f"attempt-{len(list(storage.glob('attempt-*'))) + 1}",
            storage_path=str(storage),
            # Ray cannot tell errors that will come again, nor runs that get on: ``run_job`` can.
            # Nodes that are drained before their workers have noticed are its own affair.
            failure_config=FailureConfig(max_failures=0, controller_failure_limit=0),
            callbacks=[TuneReportCallback()] if in_trial() else [],
        ),
    )


def in_trial() -> bool:
    """Whether this process is a trial of Tune's."""
    from ray.tune.trainable.trainable_fn_utils import _in_tune_session

    return bool(_in_tune_session())


def fit(trainer: "TorchTrainer", job: Job) -> dict[str, float]:
    """Run a trainer to its end.

    Returns:
        The last evaluation's figures.

    Raises:
        MixNMatchError: What ended the workers, where it is an error of ours.
        WorkersDiedError: If they failed otherwise, or there was no room for them for long.
    """
    from ray.train import TrainingFailedError

    try:
        ended = trainer.fit().return_value
    except TrainingFailedError as error:
        raise _cause(error) from error
    if ended is not None:
        raise ended
    return figures(job.out)


def _settle(job: Job, error: BaseException) -> None:
    """End the MLflow run of workers that could not do so themselves."""
    asked = isinstance(error, Stopped | KeyboardInterrupt | SystemExit)
    reason = str(error) or type(error).__name__
    with suppress(RunError, OSError):  # the first error is the one to tell
        settle(job.out, job.tracking, "KILLED" if asked else "FAILED", {REASON_TAG: reason})


def _cause(error: BaseException) -> MixNMatchError:
    """Our own error among those of the workers, else a line that says what they said."""
    from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError

    controller_failure = getattr(error, "controller_failure", None)
    if isinstance(controller_failure, WorkerGroupStartupTimeoutError):
        return NotPlacedError(f"no room for the workers: {_said(controller_failure)}")
    failures = getattr(error, "worker_failures", {}) or {}
    for failure in failures.values():
        inner: BaseException | None = failure
        while inner is not None:
            if isinstance(inner, MixNMatchError):
                return inner
            # Ray wraps what a worker raised in an exception that carries its traceback as text.
            inner = getattr(inner, "_base_exc", None) or inner.__cause__
    first = next(iter(failures.values()), error)
    return WorkersDiedError(f"training failed on its workers: {_said(first)}")


def _said(failure: BaseException) -> str:
    """The line of a worker's failure that tells the most; Ray's own begin with addresses."""
    failure = getattr(failure, "health_check_failure", failure)
    lines = [line.strip() for line in str(failure).splitlines() if line.strip()]
    telling = [line for line in lines if "exit detail" in line or "died" in line]
    return (telling or lines or [repr(failure)])[-1]
