"""A real MLflow server that is killed while a run records to it, and a run killed meanwhile."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cost import Tell, cost_of
from mlflow import MlflowClient
from mlflow_server import Server, wait_for

from mixnmatch.config import RunConfig
from mixnmatch.data.store import Dataset
from mixnmatch.settings import override, to_dict
from mixnmatch_platform.delivery import Delivery, deliver
from mixnmatch_platform.outbox import Outbox
from mixnmatch_platform.reap import reap

pytestmark = pytest.mark.integration

STEPS, STEPS_A_SECOND = 120, 15
"""Of the runs: at least, and for each second that the server is away."""
TRAIN = """
import json, sys
from pathlib import Path
import torch
from mixnmatch.config import RunConfig
from mixnmatch.settings import from_dict
from mixnmatch.training.run import Worker
from mixnmatch_platform.job import execute, start_job
from mixnmatch_platform.tracking import Tracking

config, data, home = sys.argv[1:]
torch.set_num_threads(1)
job = start_job(
    Tracking.at(Path(home), "faults"),
    name="run",
    config=from_dict(RunConfig, json.loads(config)),
    data=data,
    out=Path(home) / "faults" / "run",
    stages=(1,),
    patience_seconds=120,
)
execute(job, worker=Worker())
"""
Points = dict[str, dict[int, set[float | None]]]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    folder = tmp_path / "server"
    folder.mkdir()
    server = Server(folder)
    server.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    yield server
    server.stop()


@pytest.fixture
def away(request: pytest.FixtureRequest) -> float:
    """Seconds."""
    return float(request.config.getoption("--away", default=3))


@pytest.fixture
def total(away: float) -> int:
    """Steps of the runs."""
    return max(STEPS, int(STEPS_A_SECOND * away))


@pytest.fixture
def start(
    total: int, home: Path, server: Server, tiny: RunConfig, tiny_dataset: Dataset, tmp_path: Path
) -> Iterator[Callable[[], "subprocess.Popen[bytes]"]]:
    config = override(
        tiny,
        {
            "stage1.steps": total,
            "log_every_steps": 1,
            "checkpoint_every_steps": 10,
            "sample_every_steps": 20,
        },
    )
    arguments = [json.dumps(to_dict(config)), str(tiny_dataset.path), str(home)]
    started: list[subprocess.Popen[bytes]] = []

    def run() -> "subprocess.Popen[bytes]":
        with (tmp_path / "train.log").open("ab") as log:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-c", TRAIN, *arguments],
                    stdout=log,
                    stderr=log,
                    env={**os.environ, "MLFLOW_TRACKING_URI": server.uri},
                )
            )
        return started[-1]

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()


def recorded(out: Path) -> Points:
    """What ``metrics.jsonl`` has: by name and step, the values of all attempts."""
    points: Points = defaultdict(lambda: defaultdict(set))
    file = out / "metrics.jsonl"
    for line in file.read_text().splitlines() if file.is_file() else []:
        try:
            record = json.loads(line)
        except ValueError:  # half a line, being written or left by a killed process
            continue
        for name, value in record["values"].items():
            points[name][record["step"]].add(value)
    return points


def step_of(out: Path) -> int:
    return max(recorded(out)["stage1/images"], default=0)


def check_history(client: MlflowClient, out: Path, total: int) -> None:
    """MLflow has what the run's folder has: every point once, in order, with its value."""
    run_id = Outbox(out).run_id
    assert run_id is not None
    expected = recorded(out)
    assert sorted(expected["stage1/images"]) == list(range(1, total + 1))
    names = set(client.get_run(run_id).data.metrics)
    own = {name for name in names if name.startswith(("system/", "cost/"))}
    assert names - own == set(expected)
    assert own
    for name in names:
        history = client.get_metric_history(run_id, name)
        steps = [point.step for point in history]
        stamps = [point.timestamp for point in history]
        assert steps == sorted(set(steps)), f"{name} is neither twice nor out of order"
        assert stamps == sorted(stamps), name
        if name in expected:
            assert steps == sorted(expected[name]), name
            for point in history:
                assert point.value in expected[name][point.step], (name, point.step)
    pictures = [item.path for item in client.list_artifacts(run_id, "images")]
    shown = sorted(int(path.split("+")[2]) for path in pictures if path.endswith(".png"))
    assert shown == list(range(0, total + 1, 20))


def test_a_server_killed_in_mid_run_costs_no_metric(
    away: float,
    total: int,
    server: Server,
    start: Callable[[], "subprocess.Popen[bytes]"],
    home: Path,
    tmp_path: Path,
    tell: Tell,
) -> None:
    out = home / "faults" / "run"
    training = start()
    wait_for(lambda: step_of(out) >= 10 or training.poll() is not None, "ten steps are done")
    server.kill()
    at, killed = step_of(out), time.monotonic()
    # Training goes on, with what it has to tell beside it.
    wait_for(
        lambda: step_of(out) >= at + 30 or training.poll() is not None, "thirty more steps are done"
    )
    time.sleep(max(0, killed + away - time.monotonic()))
    assert training.poll() is None, (tmp_path / "train.log").read_text()
    assert Outbox(out).waiting() > 0
    gone = time.monotonic() - killed
    server.start()
    assert training.wait(timeout=300) == 0, (tmp_path / "train.log").read_text()
    # On a slow machine the server may have been away for longer than the run waits at its end.
    run_id = Outbox(out).run_id
    assert run_id is not None
    assert deliver(Delivery(Outbox(out), server.uri, run_id), 60) is None
    client = MlflowClient(server.uri)
    check_history(client, out, total)
    cost = cost_of(out, server.uri)
    assert (cost.steps_lost, cost.lost, cost.doubled, cost.status) == (0, 0, 0, "FINISHED")
    tell(f"MLflow server killed, away for {gone:.0f} s", cost)
    log = (tmp_path / "train.log").read_text()
    assert log.count("fails: records wait") == 1
    assert "Traceback" not in log


@pytest.mark.slow
def test_a_run_killed_with_records_not_sent_loses_none_and_sends_none_twice(
    total: int,
    server: Server,
    start: Callable[[], "subprocess.Popen[bytes]"],
    home: Path,
    tmp_path: Path,
    tell: Tell,
) -> None:
    out = home / "faults" / "run"
    training = start()
    wait_for(lambda: step_of(out) >= 13 or training.poll() is not None, "13 steps are done")
    server.kill()
    at = step_of(out)
    wait_for(lambda: step_of(out) >= at + 16 or training.poll() is not None, "16 more are done")
    assert training.poll() is None, (tmp_path / "train.log").read_text()
    os.kill(training.pid, signal.SIGKILL)
    training.wait()
    assert Outbox(out).waiting() > 16, "appended and not sent"

    server.start()
    client = MlflowClient(server.uri)
    run_id = Outbox(out).run_id
    assert run_id is not None
    assert client.get_run(run_id).info.status == "RUNNING"
    assert [v.outcome for v in reap(server.uri)] == ["ended"]
    run = client.get_run(run_id)
    assert run.info.status == "KILLED"
    assert f"process {training.pid}" in run.data.tags["mixnmatch.reason"]

    resumed = start()
    assert resumed.wait(timeout=300) == 0, (tmp_path / "train.log").read_text()
    assert Outbox(out).waiting() == 0
    assert Outbox(out).run_id == run_id
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    done = [line["step"] for line in lines if "stage1/images" in line["values"]]
    assert len(done) > total, "some steps were done twice"
    check_history(client, out, total)
    cost = cost_of(out, server.uri)
    assert (cost.lost, cost.doubled, cost.runs, cost.status) == (0, 0, 1, "FINISHED")
    tell("MLflow server killed, then the run, both begun again", cost)
