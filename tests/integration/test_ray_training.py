"""Training on Ray workers: both stages, two ranks, and a worker that is killed."""

import itertools
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow import MlflowClient

from mixnmatch.bundle import load_bundle
from mixnmatch.config import RunConfig
from mixnmatch.errors import InputError
from mixnmatch.settings import override
from mixnmatch_platform.cluster import check_placeable, group_resources
from mixnmatch_platform.job import Job, JobCheckpoints, finishing, start_job
from mixnmatch_platform.tracking import Tracking
from mixnmatch_platform.trainers import (
    fit,
    run_job,
    stage_trainer,
)

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("ray_cluster")]


def _job(home: Path, data: Path, config: RunConfig, stages: tuple[int, ...]) -> Job:
    return start_job(
        Tracking.at(home, "rays"),
        name="run",
        config=config,
        data=data,
        out=home / "rays" / "run",
        stages=stages,
    )


def _steps(out: Path, prefix: str = "stage1/") -> list[int]:
    """Steps of the training records, in the order in which they were written."""
    whole, _, _ = (out / "metrics.jsonl").read_text().rpartition("\n")  # the last may be half
    lines = whole.splitlines()
    records = [json.loads(line) for line in lines]
    return [r["step"] for r in records if any(name.startswith(prefix) for name in r["values"])]


def test_two_workers_train_both_stages_in_one_group(
    home: Path, drawn_data: Path, tiny_config: RunConfig
) -> None:
    job = _job(home, drawn_data, tiny_config, (1, 2))
    with finishing(job.tracking, job.run_id):
        metrics = run_job(job, workers=2, cpus_per_worker=0.9)
    assert load_bundle(job.out / "bundle").stages == (1, 2)
    assert metrics["feature_disentanglement_accuracy"] >= 0
    run = MlflowClient(job.tracking.uri).get_run(job.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["mixnmatch.stages"] == "1+2"
    assert run.data.metrics["stage1/images"] == 6 * 4 * 2  # steps × batch × workers
    assert _steps(job.out) == [1, 2, 3, 4, 5, 6]


def test_a_killed_worker_goes_on_from_its_last_checkpoint(
    home: Path, drawn_data: Path, tiny_config: RunConfig
) -> None:
    steps, every = 120, 10
    config = override(tiny_config, {"stage1.steps": steps, "checkpoint_every_steps": every})
    job = _job(home, drawn_data, config, (1,))
    failures: list[BaseException] = []

    def train() -> None:
        try:
            run_job(job, workers=1)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=train)
    thread.start()
    killed_at = _kill_worker_after(job.out, step=2 * every + 5)
    thread.join(timeout=300)
    assert not thread.is_alive()
    assert not failures

    written = _steps(job.out)
    back = [b - a for a, b in itertools.pairwise(written) if b <= a]
    assert len(back) == 1, "the worker was killed once, so the steps go back once"
    assert -every < back[0] <= 0
    assert killed_at <= steps
    assert written[-1] == steps
    assert sorted(set(written)) == list(range(1, steps + 1))


def _kill_worker_after(out: Path, step: int) -> int:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if (out / "metrics.jsonl").is_file() and (done := _steps(out)) and done[-1] >= step:
            os.kill(_worker_process(), signal.SIGKILL)
            return done[-1]
        time.sleep(0.02)
    raise AssertionError("the worker did not get to the step in time")


def _worker_process() -> int:
    """The one training worker that this process's cluster runs."""
    found: list[Any] = [
        process.pid
        for process in psutil.Process().children(recursive=True)
        if any("RayTrainWorker" in part for part in process.cmdline())
    ]
    assert len(found) == 1, found
    return int(found[0])


def test_a_run_goes_on_in_this_process_where_workers_left_it(
    home: Path, drawn_data: Path, tiny_config: RunConfig
) -> None:
    first = _job(home, drawn_data, tiny_config, (1,))
    with finishing(first.tracking, first.run_id):
        run_job(first, workers=1)
    state = JobCheckpoints(first.out).load()
    assert state is not None
    assert (state["stage"], state["steps_done"]) == (1, 6)

    both = _job(home, drawn_data, tiny_config, (1, 2))
    assert both.run_id == first.run_id
    with finishing(both.tracking, both.run_id):
        run_job(both)
    assert _steps(both.out) == [1, 2, 3, 4, 5, 6], "no step of stage 1 is done again"
    assert _steps(both.out, "stage2/") == [7, 8, 9, 10]


def test_a_group_that_cannot_be_placed_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    many = group_resources(99, use_gpu=False, cpus_per_worker=1.0)
    with pytest.raises(InputError, match="99 CPU needed at once, the cluster has 2"):
        check_placeable(many, fixed=True)
    with pytest.raises(InputError, match="1 GPU needed at once, the cluster has 0"):
        check_placeable(group_resources(1, use_gpu=True, cpus_per_worker=1.0), fixed=True)
    check_placeable(many, fixed=False)
    assert "waiting for them" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"CPUs per worker are 0: must be more than 0\.1"):
        group_resources(1, use_gpu=False, cpus_per_worker=0)


def test_an_error_of_ours_in_a_worker_comes_back_as_itself(
    home: Path, drawn_data: Path, tiny_config: RunConfig
) -> None:
    job = _job(home, drawn_data, tiny_config, (2,))  # there is no stage 1 to begin with
    with pytest.raises(InputError, match="stage 2 needs the model of stage 1"):
        fit(stage_trainer(job, max_failures=0), job)
