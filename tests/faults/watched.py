"""A small run in a thread, whose workers the fault tests find, hit and count the losses of."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from cost import Cost, cost_of, lost_steps, steps
from mlflow import MlflowClient

from mixnmatch.config import RunConfig
from mixnmatch.settings import override
from mixnmatch_platform.job import Job, start_job
from mixnmatch_platform.tracking import Tracking
from mixnmatch_platform.trainers import run_job

STEPS, EVERY = 60, 10
"""Of the runs, and between two of their checkpoints."""
PATIENCE_SECONDS = 180
LOSS = "stage1/generator/pair"


def job_of(home: Path, data: Path, tiny: RunConfig, **changes: object) -> Job:
    """A run of stage 1 with every step recorded."""
    settings = {
        "stage1.steps": STEPS,
        "log_every_steps": 1,
        "checkpoint_every_steps": EVERY,
        "sample_every_steps": STEPS,
    }
    return start_job(
        Tracking.at(home, "faults"),
        name="run",
        config=override(tiny, settings | changes),
        data=data,
        out=home / "faults" / "run",
        stages=(1,),
    )


@contextmanager
def in_thread(job: Job, workers: int = 1) -> Iterator[list[BaseException]]:
    """The run on Ray workers beside the block, to its end; what it raised is in the list."""
    failures: list[BaseException] = []

    def train() -> None:
        try:
            run_job(job, workers=workers, cpus_per_worker=0.9)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=train)
    thread.start()
    try:
        yield failures
    finally:
        thread.join(timeout=2 * PATIENCE_SECONDS)
        assert not thread.is_alive()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Look until something is so."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.02)


def wait_for_step(out: Path, step: int) -> None:
    """Look until a step is recorded."""
    wait_for(lambda: (done := steps(out)) != [] and done[-1] >= step, f"step {step}")


def workers_below(root: psutil.Process) -> list[psutil.Process]:
    """The training workers among the processes that a process has started."""
    found = []
    for process in root.children(recursive=True):
        try:
            if any("RayTrainWorker" in part for part in process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def the_worker() -> psutil.Process:
    """The one training worker of this process's cluster."""
    (worker,) = workers_below(psutil.Process())
    return worker


def assert_complete(job: Job, going_back: int, attempts: int = 2) -> Cost:
    """Every step is there; those done again are fewer than an interval; MLflow has each once.

    Args:
        job: The run, which has finished.
        going_back: How often it may have lost steps.
        attempts: Worker groups that it took, so that the fault was one; 0 in a process of its own.
    """
    assert len(list((job.out / "ray").glob("attempt-*"))) == attempts
    back = lost_steps(job.out)
    assert len(back) <= going_back, back
    assert all(lost <= EVERY for lost in back), back
    written = steps(job.out)
    assert sorted(set(written)) == list(range(1, STEPS + 1))
    assert written[-1] == STEPS
    client = MlflowClient(job.tracking.uri)
    history = client.get_metric_history(job.run_id, LOSS)
    assert [metric.step for metric in history] == list(range(1, STEPS + 1))
    assert client.get_run(job.run_id).data.metrics["cost/device_seconds"] > 0
    cost = cost_of(job.out, job.tracking.uri)
    assert (cost.lost, cost.doubled) == (0, 0)
    assert cost.figures > STEPS
    assert (cost.runs, cost.status) == (1, "FINISHED")
    return cost
