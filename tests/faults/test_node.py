"""Data-parallel training on several nodes, of which one is lost with the worker on it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from cost import Tell, records
from mlflow import MlflowClient
from watched import EVERY, LOSS, assert_complete, job_of, wait_for_step, workers_below

from mixnmatch.commands.options import write_config
from mixnmatch.config import RunConfig
from mixnmatch.data.store import Dataset
from mixnmatch_platform.trainers import run_job

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture
def address() -> Iterator[str]:
    """A cluster of four nodes on this machine: a head without CPUs, and three with one each."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0,
            "include_dashboard": False,
            "dashboard_host": "127.0.0.1",
            # Half a minute otherwise until a node that is silent is taken for lost.
            "_system_config": {"health_check_period_ms": 500, "health_check_timeout_ms": 2000},
        },
    )
    try:
        for _ in range(3):
            cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        yield cluster.address
    finally:
        cluster.shutdown()


def losses(out: Path) -> dict[int, float]:
    """By step, of the last time that it was done."""
    return {r["step"]: r["values"][LOSS] for r in records(out) if LOSS in r["values"]}


@pytest.mark.usefixtures("ray_cluster")
def test_two_workers_on_two_nodes_go_on_with_a_third(
    address: str, home: Path, tiny_dataset: Dataset, tiny: RunConfig, tmp_path: Path, tell: Tell
) -> None:
    whole = job_of(home, tiny_dataset.path, tiny)
    write_config(whole.config, tmp_path / "settings.json")
    out = home / "nodes" / "run"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mixnmatch_platform.cli", "train", str(tiny_dataset.path)),
            *("--name", "run", "--experiment", "nodes", "--stage", "1", "--workers", "2"),
            *("--config", str(tmp_path / "settings.json")),
        ],
        env={**os.environ, "RAY_ADDRESS": address},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for_step(out, 2 * EVERY + 5)
        raylets = {worker.parent() for worker in workers_below(psutil.Process())}
        assert len(raylets) == 2
        assert {raylet.name() for raylet in raylets if raylet is not None} == {"raylet"}
        lost = raylets.pop()
        assert lost is not None
        lost.kill()
        # Its worker looks whether it is there: it would be, for this process's parent, as a zombie.
        lost.wait(timeout=30)
        said, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert said.startswith(f"trained {out / 'bundle'}: ")
    client = MlflowClient(whole.tracking.uri)
    (run,) = client.search_runs([client.get_experiment_by_name("nodes").experiment_id])
    tracking = replace(whole.tracking, experiment="nodes")
    job = replace(whole, out=out, tracking=tracking, run_id=run.info.run_id)
    tell("one of two nodes lost: its raylet killed", assert_complete(job, going_back=1))

    # Both nodes lost nothing of what one machine would have learnt, to the last digit.
    run_job(whole, workers=2, cpus_per_worker=0.9)
    assert losses(out) == losses(whole.out)
