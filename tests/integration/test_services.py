"""``platform up``, ``status``, ``down``, and what trains on them: real Ray, real MLflow server."""

import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from mixnmatch.commands.options import write_config
from mixnmatch.config import RunConfig
from mixnmatch_platform.cli import main
from mixnmatch_platform.services import free_port, services

pytestmark = pytest.mark.integration


def platform(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mixnmatch_platform.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def ports(home: Path) -> Iterator[list[str]]:
    named = ("--ray-port", "--dashboard-port", "--mlflow-port")
    yield [text for name in named for text in (name, str(free_port()))]
    main(["down", "--force"])


def test_a_port_in_use_is_named(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["up", "--ray-port", str(free_port()), "--dashboard-port", str(port)]) == 2
    assert f"port {port} is in use" in capsys.readouterr().err
    assert services(home) == []


def test_up_trains_and_goes_down(
    home: Path,
    ports: list[str],
    drawn_data: Path,
    tiny_config: RunConfig,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["up", "--cpus", "2", *ports]) == 0
    assert main(["status", "--json"]) == 0
    said = capsys.readouterr().out
    status = json.loads(said[said.index("{") :])
    assert [(each["name"], each["answers"]) for each in status["services"]] == [
        ("ray", True),
        ("mlflow", True),
    ]
    assert all("127.0.0.1" in each["url"] for each in status["services"])

    # A second one changes nothing, and a run with workers joins the cluster that is there.
    assert main(["up"]) == 0
    capsys.readouterr()
    write_config(tiny_config, tmp_path / "settings.json")
    train = ["train", drawn_data, "--name", "one", "--config", tmp_path / "settings.json"]
    done = platform(*train, "--workers", 1, "--cpus-per-worker", 0.9, "--home", home)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Started a local Ray instance" not in done.stderr
    mlflow = next(each["url"] for each in status["services"] if each["name"] == "mlflow")
    with urllib.request.urlopen(f"{mlflow}/health") as reply:
        assert reply.status == 200
    assert main(["runs", "train", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["name"], row["status"], row["kind"]) == ("one", "FINISHED", "run")

    trees = [psutil.Process(s.pid) for s in services(home)]
    processes = [p for root in trees for p in (root, *root.children(recursive=True))]
    assert main(["down"]) == 0
    assert services(home) == []
    gone, alive = psutil.wait_procs(processes, timeout=10)
    assert not alive
    assert len(gone) > 5


def test_doctor_names_what_is_wrong(
    home: Path,
    drawn_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    good = ["doctor", "--data", str(drawn_data), "--checkpoints", f"file://{tmp_path}/states"]
    assert main([*good, "--json"]) == 0
    findings = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert {"versions", "gpu", "disk", "port ray", "runs", "tracking", "data", "checkpoints"} <= (
        findings.keys()
    )
    assert findings["data"]["state"] == findings["checkpoints"]["state"] == "ok"
    assert not home.exists(), "looking leaves nothing behind"

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    (tmp_path / "file").write_text("no folder")
    bad = ["doctor", "--data", str(tmp_path / "none"), "--home", str(tmp_path / "file" / "runs")]
    assert main([*bad, "--json"]) == 1
    findings = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    for name in ("data", "tracking", "runs"):
        assert findings[name]["state"] == "bad", name
        assert findings[name]["mend"], name
