"""A node that is lost with the worker on it: its raylet is killed."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from cost import Tell
from mlflow import MlflowClient
from watched import EVERY, STEPS, assert_complete, wait_for_step, workers_below

from mixnmatch.commands.options import write_config
from mixnmatch.config import RunConfig
from mixnmatch.data.store import Dataset
from mixnmatch.settings import override
from mixnmatch_platform.job import Job
from mixnmatch_platform.tracking import Tracking

pytestmark = pytest.mark.integration


@pytest.fixture
def address() -> Iterator[str]:
    """A cluster of three nodes on this machine: a head without CPUs, and two with one each."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "include_dashboard": False, "dashboard_host": "127.0.0.1"},
    )
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        yield cluster.address
    finally:
        cluster.shutdown()


def test_a_run_goes_on_on_another_node(
    address: str, home: Path, tiny_dataset: Dataset, tiny: RunConfig, tmp_path: Path, tell: Tell
) -> None:
    changes = {
        "stage1.steps": STEPS,
        "log_every_steps": 1,
        "checkpoint_every_steps": EVERY,
        "sample_every_steps": STEPS,
    }
    write_config(override(tiny, changes), tmp_path / "settings.json")
    out = home / "faults" / "run"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mixnmatch_platform.cli", "train", str(tiny_dataset.path)),
            *("--name", "run", "--experiment", "faults", "--stage", "1", "--workers", "1"),
            *("--config", str(tmp_path / "settings.json")),
        ],
        env={**os.environ, "RAY_ADDRESS": address},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for_step(out, 2 * EVERY + 5)
        (worker,) = workers_below(psutil.Process())
        raylet = worker.parent()
        assert raylet is not None
        assert raylet.name() == "raylet"
        raylet.kill()
        said, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert said.startswith(f"trained {out / 'bundle'}: ")
    tracking = Tracking.at(home, "faults")
    client = MlflowClient(tracking.uri)
    (run,) = client.search_runs([client.get_experiment_by_name("faults").experiment_id])
    cost = assert_complete(
        Job(
            config=RunConfig(),
            data="",
            out=out,
            stages=(1,),
            tracking=tracking,
            run_id=run.info.run_id,
        ),
        going_back=1,
    )
    tell("node lost: its raylet killed", cost)
