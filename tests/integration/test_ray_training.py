"""Training on Ray workers: both stages, two ranks, and errors that come back."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mixnmatch.bundle import load_bundle
from mixnmatch.config import RunConfig
from mixnmatch.errors import InputError
from mixnmatch_platform.job import Job, start_job
from mixnmatch_platform.states import job_states
from mixnmatch_platform.tracking import Tracking
from mixnmatch_platform.trainers import run_job

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
    metrics = run_job(job, workers=2, cpus_per_worker=0.9)
    assert load_bundle(job.out / "bundle").stages == (1, 2)
    assert metrics["feature_disentanglement_accuracy"] >= 0
    run = MlflowClient(job.tracking.uri).get_run(job.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["mixnmatch.stages"] == "1+2"
    assert run.data.metrics["stage1/images"] == 6 * 4 * 2  # steps × batch × workers
    assert _steps(job.out) == [1, 2, 3, 4, 5, 6]


def test_a_run_goes_on_in_this_process_where_workers_left_it(
    home: Path, drawn_data: Path, tiny_config: RunConfig
) -> None:
    first = _job(home, drawn_data, tiny_config, (1,))
    run_job(first, workers=1)
    state = job_states(first.out, first.config).load()
    assert state is not None
    assert (state["stage"], state["steps_done"]) == (1, 6)

    both = _job(home, drawn_data, tiny_config, (1, 2))
    assert both.run_id == first.run_id
    run_job(both)
    assert _steps(both.out) == [1, 2, 3, 4, 5, 6], "no step of stage 1 is done again"
    assert _steps(both.out, "stage2/") == [7, 8, 9, 10]


def test_an_error_of_ours_in_a_worker_comes_back_as_itself(
    home: Path, drawn_data: Path, tiny_config: RunConfig
) -> None:
    job = _job(home, drawn_data, tiny_config, (2,))  # there is no stage 1 to begin with
    with pytest.raises(InputError, match="stage 2 needs the model of stage 1"):
        run_job(job, workers=1)
