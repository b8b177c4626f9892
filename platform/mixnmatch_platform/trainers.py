"""Training on Ray Train: the same run as everywhere, on one or several workers."""

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixnmatch.device import choose_device
from mixnmatch.errors import MixNMatchError, RunError
from mixnmatch.training.checkpoints import FILE_NAME, State, load_state, save_state, state_name
from mixnmatch.training.run import Worker
from mixnmatch_platform.cluster import SPARED_CPUS
from mixnmatch_platform.job import Job, JobCheckpoints, execute, figures

if TYPE_CHECKING:
    from ray.train.torch import TorchTrainer

MAX_FAILURES = 3
"""Times that a worker group may die before the run fails."""


class RayCheckpoints:
    """States kept by Ray Train, which hands the latest one to a restarted worker group.

    Args:
        out: Folder of the run, where an earlier attempt may have left states.
    """

    def __init__(self, out: Path) -> None:
        self._earlier = JobCheckpoints(out)

    def load(self) -> State | None:
        """The latest state."""
        import ray.train

        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            return self._earlier.load()
        with checkpoint.as_directory() as folder:
            return load_state(Path(folder) / FILE_NAME)

    def save(self, state: State | None, metrics: dict[str, float]) -> None:
        """Report figures, with a checkpoint from worker 0."""
        import ray.train

        if state is None:
            ray.train.report(metrics)
            return
        with tempfile.TemporaryDirectory() as folder:
            save_state(state, Path(folder) / FILE_NAME)
            ray.train.report(
                metrics,
                checkpoint=ray.train.Checkpoint.from_directory(folder),
                checkpoint_dir_name=state_name(state),
            )


def stage_trainer(
    job: Job,
    *,
    workers: int = 1,
    use_gpu: bool = False,
    cpus_per_worker: float = 1.0,
    max_failures: int = MAX_FAILURES,
) -> "TorchTrainer":
    """The trainer of a job: stage 1, stage 2, or both in one worker group.

    Args:
        job: The run.
        workers: Data-parallel workers; each takes batches of the configured size.
        use_gpu: One GPU a worker with NCCL; Gloo on CPUs without it.
        cpus_per_worker: CPUs of each.
        max_failures: Times that the group may die before the run fails.
    """
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    storage = job.out / "ray"
    return TorchTrainer(
        _worker_loop,
        train_loop_config={"job": job, "threads": max(1, int(cpus_per_worker))},
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=workers,
            use_gpu=use_gpu,
            resources_per_worker={"CPU": cpus_per_worker - SPARED_CPUS}
            | ({"GPU": 1} if use_gpu else {}),
        ),
        run_config=RunConfig(
            # Ray takes a name used before for that run, finished or not: what it left is found
            # by ``JobCheckpoints`` instead, whichever way it was trained.
            name=f"attempt-{len(list(storage.glob('attempt-*'))) + 1}",
            storage_path=str(storage),
            failure_config=FailureConfig(max_failures=max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
        ),
    )


def run_job(
    job: Job,
    *,
    workers: int = 0,
    use_gpu: bool = False,
    cpus_per_worker: float = 1.0,
) -> dict[str, float]:
    """Train a job: in this process, or on a worker group.

    Args:
        job: The run.
        workers: Data-parallel Ray workers; 0 trains in this process.
        use_gpu: One GPU a worker.
        cpus_per_worker: CPUs of each.

    Returns:
        The last evaluation's figures.
    """
    if workers:
        trainer = stage_trainer(
            job, workers=workers, use_gpu=use_gpu, cpus_per_worker=cpus_per_worker
        )
        return fit(trainer, job)
    device = choose_device("cuda" if use_gpu else "cpu")
    return execute(job, worker=Worker(device=device))


def fit(trainer: "TorchTrainer", job: Job) -> dict[str, float]:
    """Run a trainer to its end.

    Returns:
        The last evaluation's figures.

    Raises:
        MixNMatchError: What stopped the workers, where it is an error of ours.
        RunError: If they failed otherwise, more often than allowed.
    """
    from ray.train import TrainingFailedError

    try:
        trainer.fit()
    except TrainingFailedError as error:
        raise _cause(error) from error
    return figures(job.out)


def _worker_loop(config: dict[str, Any]) -> None:
    import ray.train
    import ray.train.torch
    import torch

    device = ray.train.torch.get_device()
    if device.type == "cpu":
        torch.set_num_threads(config["threads"])
    context = ray.train.get_context()
    worker = Worker(
        device=device, rank=context.get_world_rank(), world_size=context.get_world_size()
    )
    execute(config["job"], worker=worker, checkpoints=RayCheckpoints(config["job"].out))


def _cause(error: BaseException) -> MixNMatchError:
    """Our own error among those of the workers, else a line that says what they said."""
    failures = getattr(error, "worker_failures", {}) or {}
    for failure in failures.values():
        inner: BaseException | None = failure
        while inner is not None:
            if isinstance(inner, MixNMatchError):
                return inner
            # Ray wraps what a worker raised in an exception that carries its traceback as text.
            inner = getattr(inner, "_base_exc", None) or inner.__cause__
    first = next(iter(failures.values()), error)
    lines = [line for line in str(first).splitlines() if line.strip()]
    return RunError(f"training failed on its workers: {lines[-1] if lines else repr(first)}")
