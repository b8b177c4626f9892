"""A promoted version stands alone: with MLflow's tools, in processes that know nothing of us."""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from mlflow import MlflowClient
from PIL import Image, ImageChops

from mixnmatch.data.store import Dataset
from mixnmatch.errors import InputError, ModelError, RunError
from mixnmatch.files import checksum
from mixnmatch.mixer import Mixer
from mixnmatch_platform import cli
from mixnmatch_platform.promotion.gates import Verdict
from mixnmatch_platform.promotion.release import smoke_test
from mixnmatch_platform.promotion.request import Promotion
from mixnmatch_platform.promotion.transfer import import_model
from mixnmatch_platform.protocols import PROTOCOL_TAG
from mixnmatch_platform.registry import fetch_model, fetch_release
from mixnmatch_platform.services import free_port
from mixnmatch_platform.store import home_folder, tracking_uri
from mixnmatch_platform.tracking import Tracking

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("no_smoke")]

ACCURACY = "disentanglement_accuracy"
ROOT = Path(__file__).parents[3]
LOAD = """
import importlib.util, sys
from pathlib import Path
assert not any(Path(path or ".").resolve() == Path({root!r}) for path in sys.path)
import mlflow
model = mlflow.pyfunc.load_model({release!r})
import mixnmatch
assert Path(mixnmatch.__file__).is_relative_to({release!r}), mixnmatch.__file__
example = model.input_example
out = model.predict(example.drop(columns="pose"), params={{"mode": "feature"}})
sys.stdout.buffer.write(out["picture"][0])
"""


@pytest.fixture
def release(
    run_promote: Callable[..., Promotion], train: Callable[..., str], tiny_dataset: Dataset
) -> Path:
    train("best", {ACCURACY: 0.5}, data=tiny_dataset.path, fingerprint="other")
    run_promote(licence="CC BY 4.0", data=tiny_dataset.path)
    return fetch_release("models:/demo@champion")


def test_a_fresh_process_without_the_repository_mixes(release: Path, tmp_path: Path) -> None:
    # Without the site's .pth files, one of which puts this repository on the path.
    packages = Path(pytest.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(packages)}
    code = LOAD.format(root=str(ROOT), release=str(release))
    done = subprocess.run(
        [sys.executable, "-S", "-P", "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    example = json.loads((release / "input_example.json").read_text())
    files = {}
    for name, data in zip(example["columns"], example["data"][0], strict=True):
        (tmp_path / f"{name}.png").write_bytes(base64.b64decode(data))
        files[name] = tmp_path / f"{name}.png"
    mixer = Mixer.from_pretrained("models:/demo@champion")
    expected = mixer.mix(**{**files, "pose": None}, mode="feature")
    painted = Image.open(BytesIO(done.stdout))
    assert ImageChops.difference(painted, expected).getbbox() is None


@pytest.fixture
def scoring(release: Path, tmp_path: Path) -> Iterator[str]:
    """Address of `mlflow models serve` on the champion."""
    port = free_port()
    serve = f"models serve --model-uri models:/demo@champion --env-manager local --port {port}"
    mlflow = Path(sys.executable).with_name("mlflow")
    home = release.parents[4]
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db",
        "PATH": f"{mlflow.parent}:{os.environ['PATH']}",  # it calls uvicorn by name
    }
    with (tmp_path / "serve.log").open("wb") as log:
        server = subprocess.Popen(
            [str(mlflow), *serve.split(), "--host", "127.0.0.1"],
            cwd=tmp_path,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def test_mlflow_serves_the_champion(release: Path, scoring: str) -> None:
    body = json.loads((release / "serving_input_example.json").read_text())
    request = urllib.request.Request(
        f"{scoring}/invocations",
        json.dumps({**body, "params": {"mode": "code"}}).encode(),
        {"Content-Type": "application/json"},
    )
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                [prediction] = json.loads(answer.read())["predictions"]
            break
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < deadline
            time.sleep(0.5)
    picture = Image.open(BytesIO(base64.b64decode(prediction["picture"])))
    assert picture.size == (32, 32)


def test_nothing_is_pickled_and_no_machine_is_named(release: Path) -> None:
    files = [file for file in release.rglob("*") if file.is_file()]
    assert not [file for file in files if file.suffix in (".pkl", ".pickle", ".pt", ".pth")]
    text = (release / "MLmodel").read_text()
    assert str(ROOT) not in text
    assert "loader_module: mixnmatch_platform.scoring" in text


def test_the_card_says_what_is_known(release: Path) -> None:
    card = (release / "README.md").read_text()
    for line in (
        "# demo",
        "| pictures | 32×32 px |",
        "| licence | CC BY 4.0 |",
        "| fingerprint | f00d |",
        f"| {ACCURACY} | 0.5 | 0.4 to",
        "generated: samples | 512",
        "In feature mode the pose is that of the shape picture.",
        checksum(fetch_model("models:/demo@champion") / "model.safetensors"),
    ):
        assert line in card
    with Image.open(release / "sheet.png") as sheet:
        assert sheet.width > 8 * 32


def test_the_smoke_test_mixes_in_a_fresh_process(release: Path) -> None:
    assert smoke_test(release) == Verdict(
        gate="smoke test",
        passed=True,
        said="a fresh process has mixed four pictures in code and feature mode, "
        "{'code': [32, 32], 'feature': [32, 32]}",
    )
    (release / "code" / "mixnmatch" / "mixer.py").write_text("raise ValueError('broken')")
    verdict = smoke_test(release)
    assert not verdict.passed
    assert verdict.said == "a fresh process failed: ValueError: broken"


def test_export_and_import(
    release: Path,
    tracking: Tracking,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out" / "demo-v1"
    assert cli.main(["export", "models:/demo@champion", str(out)]) == 0
    assert (out / "SHA256SUMS").is_file()
    with pytest.raises(InputError, match="exists: export to a new folder"):
        raise_for(["export", "models:/demo@champion", str(out)])

    monkeypatch.setenv("MIXNMATCH_HOME", str(tmp_path / "other-lab"))
    capsys.readouterr()
    assert cli.main(["import", str(out), "--json"]) == 0
    imported = json.loads(capsys.readouterr().out)
    promote = f"promote --run {imported['run_id']} --metric {ACCURACY} --model theirs"
    assert cli.main(promote.split()) == 0
    assert "promoted theirs v1 (run demo-v1" in capsys.readouterr().out
    ours, theirs = (
        fetch_model("models:/demo@champion", tracking.uri),
        fetch_model("models:/theirs@champion"),
    )
    assert checksum(ours / "model.safetensors") == checksum(theirs / "model.safetensors")
    assert (fetch_release("models:/theirs@champion") / "evaluation-protocol.json").is_file()

    assert cli.main(["champion", "theirs"]) == 0
    assert "untrained" not in capsys.readouterr().out
    run = MlflowClient(tracking_uri(home_folder())).get_run(imported["run_id"])
    assert run.data.tags[PROTOCOL_TAG].startswith("512 samples ")

    (out / "README.md").write_text("no card")
    with pytest.raises(ModelError, match=r"README.md is damaged"):
        raise_for(["import", str(out)])
    (out / "README.md").unlink()
    with pytest.raises(ModelError, match=r"incomplete: README.md of SHA256SUMS is missing"):
        raise_for(["import", str(out)])
    with pytest.raises(ModelError, match="no such folder"):
        raise_for(["import", str(tmp_path / "none")])


def test_an_import_takes_nothing_from_outside_and_fails_whole(
    bundle: Path, tracking: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "key"
    secret.write_text("secret")
    folder = Path(shutil.copytree(bundle, tmp_path / "theirs"))
    (folder / "README.md").symlink_to(secret)
    with pytest.raises(ModelError, match=r"README.md lies outside of .*theirs: copy it there"):
        import_model(folder, tracking)
    (folder / "README.md").unlink()
    (folder / "extra").symlink_to(secret)

    client, log = MlflowClient(tracking.uri), MlflowClient.log_artifact
    for failing, message in (
        ("bundle.json", "theirs could not be imported: the bucket is away"),
        ("config.json", "MLflow run theirs could not be started: the bucket is away"),
    ):

        def away(self: MlflowClient, run: str, path: str, *to: str, name: str = failing) -> None:
            if Path(path).name == name:
                raise ConnectionError("the bucket is away")
            log(self, run, path, *to)

        with monkeypatch.context() as patch:
            patch.setattr(MlflowClient, "log_artifact", away)
            with pytest.raises(RunError, match=message):
                import_model(folder, tracking)
    failed = client.search_runs(["1"])
    assert [run.info.status for run in failed] == ["FAILED"] * 2
    imported = import_model(folder, tracking)
    there = client.list_artifacts(imported.run_id, "bundle")
    assert [file.path for file in there] == ["bundle/bundle.json", "bundle/model.safetensors"]


def raise_for(arguments: list[str]) -> None:
    """Run a command's function, so that its error can be looked at."""
    args = cli.build_parser().parse_args(arguments)
    args.run(args)
