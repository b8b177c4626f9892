"""SIGTERM, which clouds send as their notice: what was done is saved, and nothing is done twice."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from cost import Tell, lost_steps, steps
from mlflow import MlflowClient
from watched import (
    EVERY,
    STEPS,
    assert_complete,
    in_thread,
    job_of,
    wait_for_step,
    workers_below,
)

from mixnmatch.commands.options import write_config
from mixnmatch.config import RunConfig
from mixnmatch.data.store import Dataset
from mixnmatch.settings import override
from mixnmatch_platform.job import Job
from mixnmatch_platform.tracking import Tracking

pytestmark = pytest.mark.integration
AT = 2 * EVERY + 5
"""Step at which it comes: between two checkpoints."""


@pytest.mark.usefixtures("ray_cluster")
def test_a_worker_that_gets_notice_loses_no_step(
    home: Path, tiny_dataset: Dataset, tiny: RunConfig, tell: Tell
) -> None:
    job = job_of(home, tiny_dataset.path, tiny)
    with in_thread(job, workers=2) as failures:
        wait_for_step(job.out, AT)
        # The last one: worker 0 must hear of it from the other.
        max(workers_below(psutil.Process()), key=lambda worker: worker.pid).terminate()
    assert not failures
    assert lost_steps(job.out) == []
    tell("SIGTERM to one of two workers", assert_complete(job, going_back=0))


@contextmanager
def command(module: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A command in a process of its own; its output is read at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def error_line(process: subprocess.Popen[str]) -> str:
    """The line that a command ends with."""
    _, errors = process.communicate(timeout=300)
    assert "Traceback" not in errors.split("platform: error:")[-1]
    return errors.strip().splitlines()[-1]


@pytest.fixture
def settings(tiny: RunConfig, tmp_path: Path) -> Path:
    changes: dict[str, Any] = {
        "stage1.steps": STEPS,
        "log_every_steps": 1,
        "checkpoint_every_steps": EVERY,
        "sample_every_steps": STEPS,
    }
    write_config(override(tiny, changes), tmp_path / "settings.json")
    return tmp_path / "settings.json"


@pytest.mark.parametrize(
    "how",
    [
        "here",
        pytest.param("on a worker", marks=pytest.mark.slow),
        pytest.param("stop", marks=pytest.mark.slow),
    ],
)
def test_platform_train_ends_saved_and_goes_on(
    how: str, home: Path, tiny_dataset: Dataset, settings: Path, tell: Tell
) -> None:
    train = [
        "train", tiny_dataset.path, "--name", "run", "--config", settings, "--stage", 1,
        "--experiment", "faults", "--workers", int(how == "on a worker"),
    ]  # fmt: skip
    out = home / "faults" / "run"
    with command("mixnmatch_platform.cli", *train) as process:
        wait_for_step(out, AT)
        if how == "stop":
            with command("mixnmatch_platform.cli", "stop", "run", "--wait", 200) as stopping:
                said, complaint = stopping.communicate(timeout=300)
            assert stopping.returncode == 0, complaint
            assert said == f"{out} has stopped: platform resume run goes on with it\n"
            reason = "platform stop"
        else:
            process.send_signal(signal.SIGTERM)
            reason = "SIGTERM"
        line = error_line(process)
        assert process.returncode == 143, line
    done = steps(out)[-1]
    assert AT <= done < STEPS
    assert line == (
        f"platform: error: {reason}: stopped at step {done} of stage 1, which is saved; "
        "run the same again to go on"
    )
    assert sorted(path.name for path in (out / "checkpoints").iterdir())[-1] == (
        f"stage1-step{done:08d}.pt"
    )
    tracking = Tracking.at(home, "faults")
    client = MlflowClient(tracking.uri)
    (run,) = client.search_runs([client.get_experiment_by_name("faults").experiment_id])
    assert run.info.status == "KILLED"
    assert reason in run.data.tags["mixnmatch.reason"]

    with command("mixnmatch_platform.cli", *train) as process:
        said, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert said.startswith(f"trained {out / 'bundle'}: ")
    job = Job(
        config=RunConfig(), data="", out=out, stages=(1,), tracking=tracking, run_id=run.info.run_id
    )
    attempts = 2 if how == "on a worker" else 0
    word = {"here": "SIGTERM", "stop": "platform stop"}.get(how, "SIGTERM, with a worker")
    tell(f"platform train: {word}", assert_complete(job, going_back=0, attempts=attempts))


def test_mixnmatch_train_ends_saved_and_goes_on(
    tiny_dataset: Dataset, settings: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    train = ["train", tiny_dataset.path, "--out", out, "--config", settings, "--stage", 1]
    with command("mixnmatch.cli", *train) as process:
        wait_for_step(out, AT)
        process.send_signal(signal.SIGTERM)
        line = error_line(process)
        assert process.returncode == 143
    done = steps(out)[-1]
    assert line == (
        f"mixnmatch: error: SIGTERM: stopped at step {done} of stage 1, which is saved; "
        "run the same again to go on"
    )
    with command("mixnmatch.cli", *train, "--json") as process:
        figures, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert json.loads(figures)["disentanglement_accuracy"] >= 0
    assert steps(out) == list(range(1, STEPS + 1))


def test_a_stop_of_what_does_not_run_is_refused(home: Path) -> None:
    (home / "faults" / "run").mkdir(parents=True)
    for name, said in [
        ("run", "no run or sweep run runs: it is not running"),
        ("other", f"no run or sweep other runs: there is none in {home}"),
        ("../run", "'../run' is no name of a run or sweep"),
    ]:
        with command("mixnmatch_platform.cli", "stop", name) as process:
            assert error_line(process) == f"platform: error: {said}"
            assert process.returncode == 2
    assert not list((home / "faults" / "run").iterdir())
