"""``platform serve`` as users run it, on a cluster that is there."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from mixnmatch.data.store import Dataset
from mixnmatch_platform.cli import main
from mixnmatch_platform.services import RAY_SETTINGS, free_port

pytestmark = pytest.mark.integration
SECRET = "known-to-few"


class Command:
    """A process of ``platform serve``."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mixnmatch_platform.cli", "serve", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )

    def line(self) -> str:
        """The next one on standard output."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()


Start = Callable[..., Command]


@pytest.fixture
def start(
    ray_cluster: None, home: Path, tiny_bundle: Path, tiny_dataset: Dataset
) -> Iterator[Start]:
    """Starts the command with more options."""
    import ray

    with contextlib.ExitStack() as stack:

        def start(*more: object) -> Command:
            options = ["--gallery", tiny_dataset.path, "--port", free_port(), *more]
            # As in a job of `ray job submit`.
            address = {"RAY_ADDRESS": ray.get_runtime_context().gcs_address, **RAY_SETTINGS}
            command = Command([str(word) for word in (tiny_bundle, *options)], address)
            stack.callback(command.process.communicate)
            stack.callback(command.process.kill)
            return command

        yield start


def url_of(command: Command) -> str:
    line = command.line()
    assert line.startswith("serving "), command.process.communicate()[1][-2000:]
    return next(word for word in line.split() if word.startswith("http://127.0.0.1:"))


def ours(complaints: str) -> list[str]:
    """Lines on standard error without those of Ray on how it connects."""
    return [line for line in complaints.splitlines() if "\tINFO " not in line]


def test_it_says_where_and_ends_well(start: Start, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{SECRET}\n")
    command = start("--cpus-per-replica", 0.5, "--token-file", tmp_path / "token")
    url = url_of(command)
    assert requests.get(f"{url}/healthz").json()["status"] == "ok"
    assert requests.get(f"{url}/about").status_code == 401
    headers = {"Authorization": f"Bearer {SECRET}"}
    about = requests.get(f"{url}/about", headers=headers).json()
    assert about["gallery"]
    body = dict.fromkeys(("background", "shape", "texture"), f"gallery:{about['gallery'][0]}")
    for _ in range(3):
        assert requests.post(f"{url}/mix", json=body, headers=headers).status_code == 200
    command.process.send_signal(signal.SIGTERM)
    said, complaints = command.process.communicate(timeout=60)
    assert (command.process.returncode, ours(complaints)) == (0, [])
    (summary,) = said.splitlines()
    assert "painted 3 pictures" in summary
    assert "(1 refused, 0 failed)" in summary
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{url}/healthz")


def test_what_has_begun_when_it_is_told_to_end_is_answered(start: Start) -> None:
    # Two at once, so that the others wait in the proxy.
    command = start("--cpus-per-replica", 0.5, "--batch-size", 1)
    url = url_of(command)
    codes = {"background_code": 0, "shape_code": 0, "texture_code": 0, "pose_seed": 0}
    body = codes | {"factor": "pose", "count": 40}
    statuses: list[int] = []

    def ask() -> None:
        statuses.append(requests.post(f"{url}/vary", json=body, timeout=100).status_code)

    clients = [threading.Thread(target=ask) for _ in range(12)]
    for client in clients:
        client.start()
    while not statuses:
        time.sleep(0.01)
    command.process.send_signal(signal.SIGINT)
    answered = len(statuses)
    for client in clients:
        client.join()
    said, complaints = command.process.communicate(timeout=60)
    assert answered < 6, "none of them has waited"
    assert statuses == [200] * 12
    assert "(0 refused, 0 failed), painted 480 pictures" in said
    assert ours(complaints) == ["answering what has begun; Ctrl-C again ends at once"]
    assert command.process.returncode == 0


def test_one_that_finds_no_room_says_so_and_can_be_ended(start: Start) -> None:
    import ray
    from ray import serve

    others = ray.util.placement_group([{"CPU": 1.5}])
    ray.get(others.ready())
    try:
        command = start("--timeout", 600)
        assert command.process.stderr is not None
        while not ours(line := command.process.stderr.readline()):
            assert command.process.poll() is None
        assert line.startswith("1 of 1 replicas still wait for room: each takes 1 CPU, the cluster")
        assert "0.5 CPU free" in line
        began = time.monotonic()
        command.process.send_signal(signal.SIGTERM)
        said, complaints = command.process.communicate(timeout=60)
        assert time.monotonic() - began < 20
    finally:
        ray.util.remove_placement_group(others)
    assert command.process.returncode == 143
    assert said == ""
    assert ours(complaints) == ["platform: error: stopped before the service was up"]
    assert serve.status().applications == {}


def test_a_plan_is_only_said(
    home: Path, tiny_bundle: Path, tiny_dataset: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["serve", tiny_bundle, "--gallery", tiny_dataset.path, "--port", free_port()]
    more = ["--dry-run", "--replicas", "2-3", "--host", "0.0.0.0"]
    assert main([str(word) for word in (*words, *more)]) == 0
    captured = capsys.readouterr()
    assert "2 to 3, each 1 CPU" in captured.out
    assert str(tiny_dataset.path) in captured.out
    assert captured.err == "warning: 0.0.0.0 lets anybody in from other machines\n"
    assert not home.exists(), "looking leaves nothing behind"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["none"], "none: no such model folder"),
        (["models:/birds@champion"], "no MLflow store"),
        (["models:/birds"], "write models:/NAME@ALIAS or models:/NAME/VERSION"),
        (["BUNDLE", "--replicas", "0"], "--replicas is '0'"),
        (["BUNDLE", "--port", "0"], "--port is 0"),
        (["BUNDLE", "--queue", "0"], "--queue is 0: it must be from 1 to 100000"),
        (["BUNDLE", "--gallery", "none"], "none: no such data set folder"),
        (["BUNDLE", "--token-file", "none"], "none: No such file"),
        (["BUNDLE", "--gpus-per-replica", "2"], "GPUs per worker are 2"),
    ],
)
def test_what_cannot_be_served_is_one_line(
    home: Path,
    tiny_bundle: Path,
    arguments: list[str],
    line: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [str(tiny_bundle) if word == "BUNDLE" else word for word in arguments]
    assert main(["serve", *words, "--dry-run"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert line in captured.err
    assert len(captured.err.splitlines()) == 1
