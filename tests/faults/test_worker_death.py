"""A training worker that is killed, and one that dies wherever it is."""

from pathlib import Path

import pytest
from cost import Tell, steps
from mlflow import MlflowClient
from watched import (
    EVERY,
    assert_complete,
    in_thread,
    job_of,
    the_worker,
    wait_for,
    wait_for_step,
)

from mixnmatch.config import RunConfig
from mixnmatch.data.store import Dataset
from mixnmatch.errors import RunError

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("ray_cluster")]


def test_a_killed_worker_goes_on_from_its_last_checkpoint(
    home: Path, tiny_dataset: Dataset, tiny: RunConfig, tell: Tell
) -> None:
    job = job_of(home, tiny_dataset.path, tiny)
    with in_thread(job) as failures:
        wait_for_step(job.out, 2 * EVERY + 5)
        the_worker().kill()
    assert not failures
    tell("training worker killed (SIGKILL)", assert_complete(job, going_back=1))


@pytest.mark.slow
def test_a_run_that_dies_at_one_place_fails_in_the_end(
    home: Path, tiny_dataset: Dataset, tiny: RunConfig
) -> None:
    # No checkpoint in reach: every death is at the same place.
    job = job_of(home, tiny_dataset.path, tiny, checkpoint_every_steps=10**6)
    with in_thread(job) as failures:
        for _ in range(3):
            before = len(steps(job.out))
            wait_for(lambda before=before: len(steps(job.out)) > before + 2, "some steps")
            the_worker().kill()
    (failure,) = failures
    assert isinstance(failure, RunError)
    assert "died 3 times in a row before the first checkpoint" in str(failure)
    assert "\n" not in str(failure)
    run = MlflowClient(job.tracking.uri).get_run(job.run_id)
    assert run.info.status == "FAILED"
    assert "died 3 times in a row" in run.data.tags["mixnmatch.reason"]
