"""The driver of a sweep is killed; ``platform resume`` ends with what would have been anyway."""

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cost import Tell, cost_of, lost_steps, steps
from mlflow import MlflowClient
from watched import EVERY, LOSS, wait_for

from mixnmatch.commands.options import write_config
from mixnmatch.config import RunConfig
from mixnmatch.data.store import Dataset
from mixnmatch.settings import override
from mixnmatch_platform.cli import main
from mixnmatch_platform.store import tracking_uri

pytestmark = pytest.mark.integration
STEPS, TRIALS = 40, 3
EXPERIMENT = """
import json
from pathlib import Path

from mixnmatch.config import RunConfig
from mixnmatch.settings import from_dict
from mixnmatch_platform.sweep import Objective, SearchSpace, Sweep

SWEEP = Sweep(
    name="killed",
    data=Path({data!r}),
    config=from_dict(RunConfig, json.loads(Path({config!r}).read_text())),
    space=SearchSpace(
        super_categories=(2,), fine_per_super=(1, 2), weights={{"encode_p": (5.0, 20.0)}}
    ),
    trials={trials},
    objectives=(Objective("disentanglement_accuracy", "max"),),
)
"""


@pytest.fixture
def experiment(tiny_dataset: Dataset, tiny: RunConfig, tmp_path: Path) -> Path:
    changes: dict[str, Any] = {
        "stage1.steps": STEPS,
        "log_every_steps": 1,
        "checkpoint_every_steps": EVERY,
        "sample_every_steps": STEPS,
    }
    config, file = tmp_path / "config.json", tmp_path / "killed.py"
    write_config(override(tiny, changes), config)
    text = EXPERIMENT.format(data=str(tiny_dataset.path), config=str(config), trials=TRIALS)
    file.write_text(text)
    return file


def platform(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mixnmatch_platform.cli", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def trials_of(home: Path) -> dict[str, tuple[dict[str, str], float]]:
    """Parameters and final figure of each trial; every run of the sweep has ended well, once."""
    client = MlflowClient(tracking_uri(home))
    experiment = client.get_experiment_by_name("killed")
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    (parent,) = [run for run in runs if run.data.tags["mixnmatch.kind"] == "sweep"]
    trials = [run for run in runs if run is not parent]
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {parent.info.run_id}
    assert sorted(run.info.run_name for run in trials) == [f"trial-{n:04}" for n in range(TRIALS)]
    for run in trials:
        history = client.get_metric_history(run.info.run_id, LOSS)
        assert [metric.step for metric in history] == list(range(1, STEPS + 1))
    keys = ("model.super_categories", "model.fine_categories", "weights.encode_p")
    return {
        run.info.run_name: (
            {key: run.data.params[key] for key in keys},
            run.data.metrics["disentanglement_accuracy"],
        )
        for run in trials
    }


@pytest.mark.usefixtures("ray_cluster")
def test_a_killed_sweep_ends_as_an_undisturbed_one(
    experiment: Path, tmp_path: Path, tell: Tell
) -> None:
    home = tmp_path / "disturbed"
    second = home / "killed" / "trial-0001"
    driver = platform("sweep", experiment, "--home", home)
    try:
        wait_for(lambda: (done := steps(second)) != [] and done[-1] > EVERY + 4, "second trial")
    finally:
        os.kill(driver.pid, signal.SIGKILL)
        driver.communicate(timeout=60)

    resumed = platform("resume", "--home", home, "killed")
    _, said = resumed.communicate(timeout=400)
    assert resumed.returncode == 0, said[-2000:]
    for trial in (home / "killed").glob("trial-*"):
        back = lost_steps(trial)
        assert len(back) <= (trial == second), (trial.name, back)
        assert all(lost <= EVERY for lost in back), back
        assert [n for n, _ in itertools.groupby(sorted(steps(trial)))] == list(range(1, STEPS + 1))
    log = (home / "killed" / "log.txt").read_text()
    assert log.count("trial-0000 starts") == 1
    assert log.count("trial-0001 starts") == 2

    undisturbed = tmp_path / "undisturbed"
    assert main(["sweep", str(experiment), "--home", str(undisturbed)]) == 0
    assert trials_of(home) == trials_of(undisturbed)
    cost = cost_of(home / "killed", tracking_uri(home))
    assert (cost.lost, cost.doubled, cost.runs) == (0, 0, 1 + TRIALS)
    tell("sweep's driver killed (SIGKILL), resumed", cost)
