"""``ray job submit`` from a fresh clone, to a cluster whose Python has only the dependencies."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mixnmatch_platform.services import RAY_SETTINGS, free_port

ROOT = Path(__file__).parents[2]
START_SECONDS, JOB_SECONDS = 120, 300
FILE = "experiments/sweep_demo.py"
Submit = Callable[..., subprocess.CompletedProcess[str]]
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("git") is None, reason="clones with git"),
]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a user's working folder holds: the committed files, a data set and a run."""
    there = tmp_path_factory.mktemp("clone") / "mixnmatch"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", ROOT, there], check=True)
    # Changes that are not committed yet are what is tested.
    changed = subprocess.run(
        ["git", "ls-files", "--modified", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, changed):
        if (ROOT / name).exists():
            (there / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, there / name)
    for folder in ("data", "runs", ".venv"):
        (there / folder).mkdir()
        (there / folder / "large").write_bytes(os.urandom(2**20))
    return there


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that finds the dependencies of this one, and neither of our packages."""
    folder = tmp_path_factory.mktemp("dependencies")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    made = folder / "bin" / "python"
    where = subprocess.run(
        [made, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    # A folder named in a .pth file is searched, but its own .pth files are not read: so the
    # editable installation of our packages is not found.
    (Path(where) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    absent = [made, "-c", "import torch, ray, mlflow; import mixnmatch"]
    failed = subprocess.run(absent, cwd=folder, capture_output=True, text=True)
    assert "No module named 'mixnmatch'" in failed.stderr
    return made


@pytest.fixture(scope="module")
def submit(clone: Path, python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Submit]:
    """``ray job COMMAND`` against a cluster that is there for this module alone."""
    port, dashboard = free_port(), free_port()
    environment = {
        **os.environ,
        **RAY_SETTINGS,
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "RAY_JOB_STOP_WAIT_TIME_S": "120",
    }
    environment.pop("PYTHONPATH", None)
    environment.pop("RAY_ADDRESS", None)
    ray = [python, "-m", "ray.scripts.scripts"]
    log = (tmp_path_factory.mktemp("ray") / "head.log").open("w+")
    head = subprocess.Popen(
        [
            *ray, "start", "--head", "--block", f"--port={port}", "--node-ip-address=127.0.0.1",
            "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", "--num-cpus=2",
            # Another cluster on this machine has Ray's own choice.
            f"--dashboard-agent-listen-port={free_port()}",
            "--disable-usage-stats",
        ],
        env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=python.parent,
        start_new_session=True,
    )  # fmt: skip

    def job(command: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*ray, "job", command, f"--address=http://127.0.0.1:{dashboard}", *map(str, arguments)],
            env=environment, cwd=clone, capture_output=True, text=True, timeout=JOB_SECONDS,
        )  # fmt: skip

    try:
        end = time.monotonic() + START_SECONDS
        # The agent that starts jobs answers later than the dashboard that lists them.
        while job("submit", "--", "true").returncode:
            assert head.poll() is None, Path(log.name).read_text()
            assert time.monotonic() < end, "the cluster does not answer"
            time.sleep(1)
        yield job
    finally:
        head.terminate()
        head.wait(timeout=60)
        log.close()


@pytest.fixture
def sweep(drawn_data: Path, home: Path) -> Callable[..., list[str]]:
    """Arguments of ``ray job submit`` for the demo's sweep with one small trial."""

    def arguments(*entry: str, stage1_steps: int = 4) -> list[str]:
        variables = json.dumps({"env_vars": {"MIXNMATCH_HOME": str(home)}})
        changes = {
            "stage1.steps": stage1_steps,
            "stage1.batch_size": 4,
            "stage2.steps": 2,
            "stage2.batch_size": 4,
            "evaluation.samples": 24,
            "evaluation.classifier_steps": 5,
            "checkpoint_every_steps": 5,
            "log_every_steps": 1,
        }
        return [
            *("--working-dir", ".", "--runtime-env-json", variables, "--", *entry),
            *("--data", str(drawn_data), "--trials", "1", "--refit-steps", "0"),
            *(f"--set={key}={value}" for key, value in changes.items()),
        ]

    return arguments


def statuses(home: Path) -> list[str]:
    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("demo")
    return [run.info.status for run in client.search_runs([experiment.experiment_id])]


def test_only_the_code_travels(submit: Submit) -> None:
    done = submit(
        "submit",
        "--working-dir",
        ".",
        "--",
        "find",
        ".",
        "-size",
        "+900k",
        "-o",
        "-name",
        "sweep_cub.py",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"^\./.*$", done.stdout, re.M) == ["./experiments/sweep_cub.py"]


@pytest.mark.parametrize("entry", [("python", FILE), (FILE,)], ids=["python", "bare"])
def test_both_forms_run_a_sweep(
    entry: tuple[str, ...], submit: Submit, sweep: Callable[..., list[str]], home: Path
) -> None:
    done = submit("submit", *sweep(*entry))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sweep demo: 1 trials finished, 0 failed" in done.stdout
    assert statuses(home) == ["FINISHED", "FINISHED"]


def test_a_stopped_job_ends_saved(
    submit: Submit, sweep: Callable[..., list[str]], home: Path
) -> None:
    steps = 100_000
    done = submit(
        "submit",
        "--submission-id",
        "stopped",
        "--no-wait",
        *sweep("python", FILE, stage1_steps=steps),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    checkpoints = home / "demo" / "trial-0000" / "checkpoints"
    end = time.monotonic() + JOB_SECONDS
    while not list(checkpoints.glob("*.pt")):
        assert time.monotonic() < end, submit("logs", "stopped").stdout
        time.sleep(0.5)
    assert "was stopped" in submit("stop", "stopped").stdout
    assert "was stopped" in submit("status", "stopped").stdout
    assert set(statuses(home)) == {"KILLED"}
    # The last step that was recorded is one that was saved.
    records = (home / "demo" / "trial-0000" / "metrics.jsonl").read_text().splitlines()
    last = json.loads(records[-1])["step"]
    assert sorted(path.name for path in checkpoints.iterdir())[-1] == f"stage1-step{last:08d}.pt"
