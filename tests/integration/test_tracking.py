import json
import math
import pickle
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from PIL import Image

from mixnmatch.errors import InputError, RunError
from mixnmatch_platform import delivery
from mixnmatch_platform.tracking import MLflowRecorder, Tracking, environment_tags, tracking_uri

pytestmark = pytest.mark.integration

DEAD = "http://127.0.0.1:9"


@pytest.fixture(autouse=True, scope="module")
def no_settings() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("store")
    Tracking.at(home, "exp").check()  # creating the tables takes seconds: once, then copied
    return home / "mlflow.db"


@pytest.fixture
def tracking(tmp_path: Path, empty_store: Path) -> Tracking:
    (tmp_path / "runs").mkdir()
    shutil.copy(empty_store, tmp_path / "runs")
    return Tracking.at(tmp_path / "runs", "exp")


@pytest.fixture
def client(tracking: Tracking) -> MlflowClient:
    return MlflowClient(tracking_uri=tracking.uri)


@pytest.fixture
def run_id(tracking: Tracking) -> str:
    return tracking.start_run("warm-owl", tags={}, params={})


class Outage:
    """Makes the chosen calls of every client fail while it is on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error: Exception | None = None
        self.calls = 0
        for name in ("log_batch", "log_image", "log_artifacts"):
            self._wrap(monkeypatch, name, getattr(MlflowClient, name))

    def _wrap(self, monkeypatch: pytest.MonkeyPatch, name: str, real: Any) -> None:
        def call(*arguments: Any, **named: Any) -> Any:
            self.calls += 1
            if self.error is not None:
                raise self.error
            return real(*arguments, **named)

        monkeypatch.setattr(MlflowClient, name, call)


@pytest.fixture
def outage(monkeypatch: pytest.MonkeyPatch, run_id: str) -> Outage:
    monkeypatch.setattr(delivery, "WAIT_FACTOR", 0.0)
    return Outage(monkeypatch)


def steps(client: MlflowClient, run_id: str, name: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client.get_metric_history(run_id, name)]


def test_default_store_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert tracking_uri(Path("runs")) == f"sqlite:///{tmp_path}/runs/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")
    assert tracking_uri(Path("runs")) == f"sqlite:///{tmp_path}/other.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert Tracking.at(Path("runs"), "e") == Tracking("http://server:5000", "e", None)


def test_a_run_keeps_its_parameters_tags_and_files(
    tracking: Tracking, client: MlflowClient, tmp_path: Path
) -> None:
    params = {f"p{i}": i for i in range(150)} | {"long": "x" * 7000}
    parent = tracking.start_run("sweep", tags=environment_tags(), params={})
    child = tracking.start_run("t1", parent_run_id=parent, tags={"a": "b"}, params=params)

    run = client.get_run(child)
    assert run.info.run_name == "t1"
    assert run.info.status == "RUNNING"
    assert run.data.tags["mlflow.parentRunId"] == parent
    assert run.data.params["p149"] == "149"
    assert run.data.params["long"].endswith("… (cut)")
    config = tmp_path / "runs" / "artifacts" / child / "artifacts" / "config.json"
    assert json.loads(config.read_text())["long"] == "x" * 7000
    assert {"mixnmatch.command", "mixnmatch.torch"} <= set(client.get_run(parent).data.tags)

    tracking.set_tags(child, {"mixnmatch.stages": "1"})
    assert client.get_run(child).data.tags["mixnmatch.stages"] == "1"


def test_runs_are_finished_and_reopened(tracking: Tracking, client: MlflowClient) -> None:
    run_id = tracking.start_run("r", tags={}, params={})
    for status in ("FAILED", "KILLED", "FINISHED"):
        tracking.finish(run_id, status)  # type: ignore[arg-type]
        assert client.get_run(run_id).info.status == status
        tracking.reopen(run_id)
        assert client.get_run(run_id).info.status == "RUNNING"
    with pytest.raises(RunError, match="could not be reopened"):
        tracking.reopen("0" * 32)


def test_a_deleted_experiment_is_named(
    tracking: Tracking, client: MlflowClient, run_id: str
) -> None:
    client.delete_experiment(client.get_experiment_by_name("exp").experiment_id)
    with pytest.raises(InputError, match=r"'exp' .* was deleted"):
        tracking.start_run("r", tags={}, params={})


def test_tracking_travels_to_workers(tracking: Tracking) -> None:
    assert pickle.loads(pickle.dumps(tracking)) == tracking


def test_a_server_that_is_away_is_told_at_once(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(InputError) as caught:
        Tracking(DEAD, "exp").check()
    assert time.monotonic() - began < 5
    assert DEAD in str(caught.value)
    assert "MLFLOW_TRACKING_URI" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["no database, but longer than the header of one" * 3, None])
def test_a_store_that_cannot_be_opened_is_told_at_once(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "mlflow.db"
    file.write_text(content) if content else file.mkdir()
    began = time.monotonic()
    with pytest.raises(InputError, match="cannot be used"):
        Tracking(f"sqlite:///{file}", "exp").check()
    assert time.monotonic() - began < 5


def test_the_recorder_fills_a_run(
    tracking: Tracking, client: MlflowClient, run_id: str, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "weights").write_text("w")
    recorder = tracking.recorder(run_id)
    recorder.metrics({"loss": 1.0, "odd": math.nan}, step=1)
    recorder.metrics({"loss": 0.5}, step=2)
    recorder.picture("child", Image.new("RGB", (8, 8)), step=2)
    recorder.artifact(bundle)
    recorder.artifact(bundle / "weights", "notes")
    recorder.close()

    assert steps(client, run_id, "loss") == [(1, 1.0), (2, 0.5)]
    assert math.isnan(client.get_run(run_id).data.metrics["odd"])
    names = [Path(item.path).name for item in client.list_artifacts(run_id, "images")]
    assert any(name.startswith("child+step+2+") and name.endswith(".png") for name in names)
    assert client.get_run(run_id).data.tags["mlflow.loggedImages"] == "True"
    assert [item.path for item in client.list_artifacts(run_id, "bundle")] == ["bundle/weights"]
    assert [item.path for item in client.list_artifacts(run_id, "notes")] == ["notes/weights"]
    with pytest.raises(RunError, match="does not exist"):
        recorder.artifact(tmp_path / "gone")


def test_an_outage_loses_nothing(
    tracking: Tracking,
    client: MlflowClient,
    run_id: str,
    outage: Outage,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recorder = tracking.recorder(run_id)
    recorder.metrics({"loss": 1.0}, step=1)
    outage.error = ConnectionError("away")
    before = time.time()
    for step in (2, 3):
        recorder.metrics({"loss": float(step)}, step=step)
    recorder.picture("child", Image.new("RGB", (8, 8)), step=3)
    (tmp_path / "bundle").mkdir()
    recorder.artifact(tmp_path / "bundle")
    assert capsys.readouterr().err.count("fails: training goes on") == 1
    with pytest.raises(RunError, match=r"2 metric batch\(es\), 1 picture\(s\), 1 artifact\(s\)"):
        recorder.close()

    time.sleep(0.05)
    outage.error = None
    recorder.metrics({"loss": 4.0}, step=4)
    recorder.close()
    assert steps(client, run_id, "loss") == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]
    stamps = [point.timestamp for point in client.get_metric_history(run_id, "loss")]
    assert stamps[1] - before * 1000 < 50  # the moment of the call, not of the delivery
    assert capsys.readouterr().err.count("answers again") == 1
    assert any("+step+3+" in item.path for item in client.list_artifacts(run_id, "images"))


def test_attempts_are_put_off_by_what_they_cost(
    tracking: Tracking, run_id: str, outage: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "WAIT_FACTOR", 1e6)
    recorder = tracking.recorder(run_id)
    outage.error = ConnectionError("away")
    for step in range(5):
        recorder.metrics({"loss": 1.0}, step=step)
    assert outage.calls == 1


def test_a_dead_server_does_not_stop_training(capsys: pytest.CaptureFixture[str]) -> None:
    recorder = MLflowRecorder(DEAD, "0" * 32)
    began = time.monotonic()
    for step in range(20):
        recorder.metrics({"loss": 1.0}, step=step)
    with pytest.raises(RunError, match=r"20 metric batch\(es\)"):
        recorder.close()
    assert time.monotonic() - began < 12
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_what_a_store_refuses_does_not_hold_up_the_rest(
    tracking: Tracking, client: MlflowClient, run_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder = tracking.recorder(run_id)
    recorder.metrics({"a\nb": 1.0}, step=1)
    recorder.metrics({"c\nd": 1.0}, step=1)
    recorder.metrics({"loss": 1.0}, step=1)
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert steps(client, run_id, "loss") == [(1, 1.0)]
    with pytest.raises(RunError, match=r"2 metric batch\(es\)"):
        recorder.close()


def test_non_finite_figures_are_left_out_where_a_store_refuses_them(
    tracking: Tracking,
    client: MlflowClient,
    run_id: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = MlflowClient.log_batch

    def strict(self: Any, run_id: str, metrics: Any, **named: Any) -> None:
        if any(not math.isfinite(metric.value) for metric in metrics):
            raise MlflowException("no such number", error_code=1000)  # INVALID_PARAMETER_VALUE
        real(self, run_id, metrics=metrics, **named)

    monkeypatch.setattr(MlflowClient, "log_batch", strict)
    recorder = tracking.recorder(run_id)
    recorder.metrics({"loss": 1.0, "odd": math.inf}, step=1)
    recorder.metrics({"loss": 2.0, "odd": math.inf}, step=2)
    recorder.close()
    assert steps(client, run_id, "loss") == [(1, 1.0), (2, 2.0)]
    assert capsys.readouterr().err.count("not finite") == 1


def test_only_the_newest_pictures_wait(
    tracking: Tracking, run_id: str, outage: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "WAITING_PICTURES", 2)
    recorder = tracking.recorder(run_id)
    outage.error = ConnectionError("away")
    for step in range(3):
        recorder.picture("child", Image.new("RGB", (8, 8)), step=step)
    outage.error = None
    with pytest.raises(RunError, match=r"^1 picture\(s\)"):
        recorder.close()
