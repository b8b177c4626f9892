"""Fifty promotions at once, of five processes, through one MLflow server."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow_server import Server

from mixnmatch_platform.promotion.history import history
from mixnmatch_platform.tracking import Tracking

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ACCURACY = "disentanglement_accuracy"
PROCESSES, THREADS = 5, 10
# The smoke test is left out, because fifty fresh processes need more memory than this may have.
PROMOTE = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from mixnmatch.errors import InputError
from mixnmatch_platform.promotion import promote as promoting
from mixnmatch_platform.promotion.gates import Verdict
from mixnmatch_platform.promotion.request import Request

uri, metric, *runs = sys.argv[1:]
promoting.smoke_test = lambda _: Verdict(gate="smoke test", passed=True, said="left out")

def promote(run):
    try:
        request = Request(name="demo", metric=metric, experiment="exp", run=run)
        return run, promoting.promote(uri, request).outcome
    except InputError as error:
        return run, str(error)

print("ready", flush=True)
sys.stdin.readline()
with ThreadPoolExecutor(len(runs)) as pool:
    print(json.dumps(dict(pool.map(promote, runs))))
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "server"
    folder.mkdir()
    server = Server(folder)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def tracking(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tracking:
    """Takes the place of the one in a file."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    return Tracking.at(tmp_path / "runs", "exp")


def test_of_fifty_promotions_at_once_the_best_one_wins(
    tracking: Tracking, train: Callable[..., str]
) -> None:
    count = PROCESSES * THREADS
    values = {f"run-{n:02}": 0.3 + 0.01 * (17 * n % count) for n in range(count)}
    for name, value in values.items():
        train(name, {ACCURACY: value}, reach=0.001)
    names = list(values)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROMOTE, tracking.uri, ACCURACY, *names[first::PROCESSES]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for first in range(PROCESSES)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    outcomes: dict[str, str] = {}
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        said, _ = process.communicate(timeout=550)
        outcomes |= json.loads(said)
    assert len(outcomes) == count

    entries = history(tracking.uri, "demo")
    promoted = {name for name, outcome in outcomes.items() if outcome == "promoted"}
    assert {entry.run_name for entry in entries} == promoted
    refused = [outcome for name, outcome in outcomes.items() if name not in promoted]
    assert all("gate better than the champion" in said for said in refused), refused
    best = [entry.value for entry in entries]
    assert best == sorted(best)
    assert best[-1] == max(values.values())
    numbers = [entry.version for entry in entries]
    assert [entry.replaced for entry in entries] == [None, *numbers[:-1]]
    assert [entry.version for entry in entries if "champion" in entry.aliases] == [numbers[-1]]
    client = MlflowClient(tracking.uri)
    assert len(client.search_model_versions("name = 'demo'")) == len(entries)
    print(f"{len(promoted)} of {count} were champion for a while, {len(refused)} refused")
