"""A disk that is full when a checkpoint is due: a small one, mounted by the test."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cost import Tell, steps
from mlflow import MlflowClient
from watched import (
    EVERY,
    assert_complete,
    in_thread,
    job_of,
    wait_for_step,
)

from mixnmatch.config import RunConfig
from mixnmatch.data.store import Dataset
from mixnmatch.errors import RunError
from mixnmatch.training.checkpoints import load_state
from mixnmatch_platform.trainers import run_job

pytestmark = pytest.mark.integration
SPARE = 200_000
"""Bytes left on the disk: too few for a checkpoint, enough for the records."""


@pytest.fixture
def small_disk(home: Path) -> Iterator[Path]:
    """The folder ``checkpoints`` of the run on a disk of its own."""
    folder = home / "faults" / "run" / "checkpoints"
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here, so none was full: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Leave no room for another checkpoint."""
    import shutil

    ballast = disk / "ballast"
    ballast.write_bytes(b"\0" * (shutil.disk_usage(disk).free - SPARE))
    return ballast


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_full_disk_is_said_and_the_run_goes_on_when_there_is_room(
    workers: int,
    home: Path,
    small_disk: Path,
    tiny_dataset: Dataset,
    tiny: RunConfig,
    request: pytest.FixtureRequest,
    tell: Tell,
) -> None:
    if workers:
        request.getfixturevalue("ray_cluster")
    job = job_of(home, tiny_dataset.path, tiny)
    with in_thread(job, workers) as failures:
        wait_for_step(job.out, 2 * EVERY + 3)
        ballast = fill(small_disk)
    (failure,) = failures
    assert isinstance(failure, RunError)
    said = re.fullmatch(
        rf"{small_disk}/(stage1-step\d{{8}}\.pt): the disk is full: the checkpoint needs ([\d,]+) "
        r"bytes, ([\d,]+) are free; earlier ones are as they were: make room, and run the same "
        "again",
        str(failure),
    )
    assert said is not None, failure
    needed, free = (int(number.replace(",", "")) for number in said.groups()[1:])
    assert free <= SPARE < needed
    left = sorted(path.name for path in small_disk.iterdir() if path != ballast)
    assert said[1] not in left
    assert [name for name in left if not name.startswith("stage1-step")] == []
    saved = load_state(small_disk / left[-1])["steps_done"]
    done = steps(job.out)[-1]
    assert done - saved <= EVERY
    run = MlflowClient(job.tracking.uri).get_run(job.run_id)
    assert run.info.status == "FAILED"
    assert "the disk is full" in run.data.tags["mixnmatch.reason"]

    ballast.unlink()
    run_job(job_of(home, tiny_dataset.path, tiny), workers=workers, cpus_per_worker=0.9)
    cost = assert_complete(job, going_back=1, attempts=2 * workers)
    tell(f"disk full at a checkpoint ({'on a worker' if workers else 'in process'})", cost)


def test_the_command_says_it_in_one_line(
    home: Path, small_disk: Path, tiny_dataset: Dataset
) -> None:
    fill(small_disk)
    out = small_disk.parent
    sizes = [
        "model.image_size=32", "model.super_categories=2", "model.fine_categories=4",
        "model.generator_width=8", "model.discriminator_width=8", "model.encoder_width=4",
        "stage1.batch_size=4", "stage2.batch_size=4", "stage1.steps=3", "evaluation.samples=8",
        "evaluation.classifier_steps=2", "evaluation.localiser_steps=2",
    ]  # fmt: skip
    options = [option for size in sizes for option in ("--set", size)]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mixnmatch.cli", "train", str(tiny_dataset.path)),
            *("--out", str(out)),
            *options,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.fullmatch(
        rf"mixnmatch: error: {small_disk}/stage1-step00000003\.pt: the disk is full: .*\n",
        done.stderr,
    )
