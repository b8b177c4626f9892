"""``platform serve`` as users run it, on a cluster that is there."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from mixnmatch.data.store import Dataset
from mixnmatch_platform.cli import main
from mixnmatch_platform.services import RAY_SETTINGS, free_port

pytestmark = pytest.mark.integration
SECRET = "known to few"


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


@pytest.fixture
def command(
    ray_cluster: None, home: Path, tiny_bundle: Path, tiny_dataset: Dataset, tmp_path: Path
) -> Iterator[Command]:
    import ray

    (tmp_path / "token").write_text(f"{SECRET}\n")
    options = ["--gallery", tiny_dataset.path, "--port", free_port(), "--cpus-per-replica", 0.5]
    options += ["--token-file", tmp_path / "token"]
    # As in a job of `ray job submit`.
    address = {"RAY_ADDRESS": ray.get_runtime_context().gcs_address, **RAY_SETTINGS}
    command = Command([str(word) for word in (tiny_bundle, *options)], address)
    yield command
    command.process.kill()
    command.process.communicate()


def test_it_says_where_and_ends_well(command: Command) -> None:
    line = command.line()
    assert line.startswith("serving "), command.process.communicate()[1][-2000:]
    url = next(word for word in line.split() if word.startswith("http://127.0.0.1:"))
    assert requests.get(f"{url}/healthz").json()["status"] == "ok"
    assert requests.get(f"{url}/about").status_code == 401
    headers = {"Authorization": f"Bearer {SECRET}"}
    about = requests.get(f"{url}/about", headers=headers).json()
    assert about["gallery"]
    body = dict.fromkeys(("background", "shape", "texture"), f"gallery:{about['gallery'][0]}")
    for _ in range(3):
        assert requests.post(f"{url}/mix", json=body, headers=headers).status_code == 200
    time.sleep(2)  # for a replica's report
    command.process.send_signal(signal.SIGTERM)
    said, complaints = command.process.communicate(timeout=60)
    assert command.process.returncode == 0, complaints
    (summary,) = said.splitlines()
    assert "painted 3 pictures" in summary
    assert "(1 refused, 0 failed)" in summary
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{url}/healthz")


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
