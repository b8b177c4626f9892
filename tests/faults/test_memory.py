"""A training worker that runs out of memory: the system refuses it any more."""

import resource
from pathlib import Path

import pytest
from cost import Tell
from watched import EVERY, assert_complete, in_thread, job_of, the_worker, wait_for_step

from mixnmatch.config import RunConfig
from mixnmatch.data.store import Dataset

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.usefixtures("ray_cluster"),
]


def test_a_worker_without_memory_goes_on_from_its_last_checkpoint(
    home: Path, tiny_dataset: Dataset, tiny: RunConfig, tell: Tell
) -> None:
    job = job_of(home, tiny_dataset.path, tiny)
    with in_thread(job) as failures:
        wait_for_step(job.out, 2 * EVERY + 5)
        worker = the_worker()
        # What it has it keeps; the next thing that it asks for it does not get.
        worker.rlimit(resource.RLIMIT_DATA, (2**20, 2**20))
        worker.rlimit(resource.RLIMIT_AS, (2**20, 2**20))
        worker.wait(timeout=200)
    assert not failures
    tell("training worker out of memory", assert_complete(job, going_back=1))
