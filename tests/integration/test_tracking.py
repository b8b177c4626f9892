import json
import math
import pickle
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from PIL import Image

from mixnmatch.errors import InputError, RunError
from mixnmatch_platform import delivery, environment, recording
from mixnmatch_platform.outbox import Outbox
from mixnmatch_platform.tracking import Tracking, environment_tags, tracking_uri

pytestmark = pytest.mark.integration

DEAD = "http://127.0.0.1:9"


@pytest.fixture(autouse=True, scope="module")
def no_settings() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield


@pytest.fixture
def run_id(tracking: Tracking) -> str:
    return tracking.start_run("warm-owl", tags={}, params={})


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "exp" / "warm-owl"


class Outage:
    """Makes the chosen calls of every client fail while it is on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error: Exception | None = None
        self.calls = 0
        for name in ("log_batch", "log_artifacts", "log_artifact", "set_terminated"):
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
    monkeypatch.setattr(delivery, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(delivery, "LONGEST_WAIT_SECONDS", 0.05)
    monkeypatch.setattr(recording, "CLOSE_SECONDS", 1.0)
    return Outage(monkeypatch)


def until(met: Callable[[], bool]) -> None:
    """Wait for what a thread does."""
    deadline = time.monotonic() + 60
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.01)


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
    tags = client.get_run(parent).data.tags
    assert {"mixnmatch.command", "mixnmatch.torch", "mixnmatch.host"} <= set(tags)

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


def test_changes_not_committed_are_kept_whole_up_to_a_size(
    tracking: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"rev-parse": "c0ffee", "status": " M a.py\n?? b.py", "diff": "-old\n+new é"}
    monkeypatch.setattr(environment, "_git", lambda command, *_: answers[command])
    tags = environment_tags()
    assert tags["mlflow.source.git.commit"] == "c0ffee"
    assert tags["mixnmatch.git_dirty"] == "true"
    run_id = tracking.start_run("r", tags=tags, params={})
    file = tmp_path / "runs" / "artifacts" / run_id / "artifacts" / "code.diff"
    assert file.read_text() == "-old\n+new é\n# not in git: b.py\n"
    assert "code.diff" not in MlflowClient(tracking.uri).get_run(run_id).data.tags

    monkeypatch.setattr(environment, "DIFF_BYTES", 11)  # in the middle of the é
    assert environment_tags()["code.diff"] == "-old\n+new \n# cut: 32 bytes in all\n"
    answers["status"] = ""
    assert "code.diff" not in environment_tags()


def test_one_folder_has_one_run_however_often_its_start_is_interrupted(
    tracking: Tracking, client: MlflowClient, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        # Neither are its parameters written, nor can the run be ended.
        patch.setattr(MlflowClient, "log_batch", killed)
        patch.setattr(MlflowClient, "set_terminated", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            tracking.start_run("r", tags={}, params={"a": 1}, folder=out)
    assert tracking.resume_run(out) is None
    run_id = tracking.start_run("r", tags={}, params={"a": 1}, folder=out)
    assert tracking.resume_run(out) == run_id
    experiment = client.get_experiment_by_name("exp")
    assert [run.info.run_id for run in client.search_runs([experiment.experiment_id])] == [run_id]
    run = client.get_run(run_id)
    assert run.data.params == {"a": "1"}
    assert run.data.tags["mixnmatch.folder"] == str(out)

    # Another folder of that name, when the first was deleted, is another run.
    shutil.rmtree(out)
    assert tracking.start_run("r", tags={}, params={"a": 2}, folder=out) != run_id


def test_a_run_goes_on_without_its_store(
    tracking: Tracking, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = tracking.start_run("r", tags={}, params={}, folder=out)
    away = Tracking(DEAD, "exp")
    assert away.resume_run(out) == run_id
    assert capsys.readouterr().err.count("goes on, its records wait") == 1
    began = time.monotonic()
    with pytest.raises(InputError, match="cannot be used"):
        away.start_run("new", tags={}, params={}, folder=out.parent / "new", patience_seconds=1)
    assert time.monotonic() - began >= 1
    (out / "mlflow-run-id").write_text("0" * 32)
    with pytest.raises(RunError, match="could not be reopened"):
        tracking.resume_run(out)


def test_the_recorder_fills_a_run(
    tracking: Tracking, client: MlflowClient, run_id: str, out: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "weights").write_text("w")
    recorder = tracking.recorder(run_id, out)
    recorder.metrics({"loss": 1.0, "odd": math.nan}, step=1)
    recorder.metrics({"loss": 0.5}, step=2)
    recorder.picture("child", Image.new("RGB", (8, 8)), step=2)
    recorder.artifact(bundle)
    recorder.artifact(bundle / "weights", "notes")
    recorder.tags({"long": "x" * 6000})
    recorder.status("FINISHED")
    with pytest.raises(RunError, match="does not exist"):
        recorder.artifact(tmp_path / "gone")
    recorder.close()

    assert steps(client, run_id, "loss") == [(1, 1.0), (2, 0.5)]
    assert math.isnan(client.get_run(run_id).data.metrics["odd"])
    names = [Path(item.path).name for item in client.list_artifacts(run_id, "images")]
    assert any(name.startswith("child+step+2+") and name.endswith(".png") for name in names)
    assert client.get_run(run_id).data.tags["mlflow.loggedImages"] == "True"
    assert [item.path for item in client.list_artifacts(run_id, "bundle")] == ["bundle/weights"]
    assert [item.path for item in client.list_artifacts(run_id, "notes")] == ["notes/weights"]
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["long"].endswith("… (cut)")


def test_an_outage_loses_nothing(
    tracking: Tracking,
    client: MlflowClient,
    run_id: str,
    outage: Outage,
    out: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recorder = tracking.recorder(run_id, out)
    recorder.metrics({"loss": 1.0}, step=1)
    until(lambda: Outbox(out).waiting() == 0)
    outage.error = ConnectionError("away")
    before = time.time()
    for step in (2, 3):
        recorder.metrics({"loss": float(step)}, step=step)
    after = time.time()
    recorder.picture("child", Image.new("RGB", (8, 8)), step=3)
    (tmp_path / "bundle").mkdir()
    recorder.artifact(tmp_path / "bundle")
    until(lambda: outage.calls > 3)
    recorder.close()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "fails: records wait" in lines[0]
    assert f"4 record(s) wait in {out}; `platform sync {out}`" in lines[1]
    assert steps(client, run_id, "loss") == [(1, 1.0)]

    outage.error = None
    recorder = tracking.recorder(run_id, out)
    recorder.metrics({"loss": 4.0}, step=4)
    recorder.close()
    assert steps(client, run_id, "loss") == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]
    stamps = [point.timestamp for point in client.get_metric_history(run_id, "loss")]
    assert int(before * 1000) <= stamps[1] <= after * 1000  # of the call, not of the delivery
    assert stamps == sorted(stamps)
    assert any("+step+3+" in item.path for item in client.list_artifacts(run_id, "images"))


def test_an_outage_that_ends_is_told_once(
    tracking: Tracking,
    client: MlflowClient,
    run_id: str,
    outage: Outage,
    out: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recorder = tracking.recorder(run_id, out)
    outage.error = ConnectionError("away")
    for step in range(20):
        recorder.metrics({"loss": float(step)}, step=step)
    until(lambda: outage.calls > 2)
    outage.error = None
    recorder.close()
    err = capsys.readouterr().err
    assert err.count("fails: records wait") == 1
    assert err.count("answers again") == 1
    assert steps(client, run_id, "loss") == [(step, float(step)) for step in range(20)]


def test_what_waits_goes_out_in_few_calls(
    tracking: Tracking, client: MlflowClient, run_id: str, outage: Outage, out: Path
) -> None:
    outage.error = ConnectionError("away")
    recorder = tracking.recorder(run_id, out)
    for step in range(500):
        recorder.metrics({"a": 1.0, "b": 2.0, "c": float(step)}, step=step)
    until(lambda: outage.calls > 0)
    outage.error, outage.calls = None, 0
    recorder.close()
    assert outage.calls <= 3  # 1,500 metrics, at most 1,000 a call, one perhaps under way
    assert [step for step, _ in steps(client, run_id, "c")] == list(range(500))


def test_attempts_are_put_off_more_and_more(
    tracking: Tracking, run_id: str, outage: Outage, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "FIRST_WAIT_SECONDS", 1.0)
    monkeypatch.setattr(delivery, "LONGEST_WAIT_SECONDS", 30.0)
    outage.error = ConnectionError("away")
    out.mkdir(parents=True)
    outbox = Outbox(out)
    sender = delivery.Delivery(outbox, tracking.uri, run_id)
    recorder = tracking.recorder(run_id, out)
    for step in range(5):
        recorder.metrics({"loss": 1.0}, step=step)
    until(lambda: outage.calls > 0)
    assert outage.calls == 1, "the others wait for the first to be tried again"
    waits = []
    for _ in range(7):
        with pytest.raises(ConnectionError):
            sender.send_next()
        waits.append(sender.wait_seconds)
    assert waits == [1, 2, 4, 8, 16, 30, 30]
    outage.error = None
    recorder.close()


def test_a_dead_server_does_not_stop_training(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recording, "CLOSE_SECONDS", 3.0)
    recorder = Tracking(DEAD, "exp").recorder("0" * 32, out)
    began = time.monotonic()
    for step in range(20):
        recorder.metrics({"loss": 1.0}, step=step)
    assert time.monotonic() - began < 2, "not even one call of the store is waited for"
    recorder.close()
    assert time.monotonic() - began < 12
    assert Outbox(out).waiting() == 20
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "platform sync" in line] == lines[-1:]
    assert len(lines) <= 2


def test_what_a_store_refuses_does_not_hold_up_the_rest(
    tracking: Tracking,
    client: MlflowClient,
    run_id: str,
    out: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recorder = tracking.recorder(run_id, out)
    recorder.metrics({"a\nb": 1.0, "beside": 3.0}, step=1)
    recorder.metrics({"c\nd": 1.0}, step=1)
    recorder.metrics({"loss": 1.0}, step=1)
    recorder.close()
    assert steps(client, run_id, "loss") == [(1, 1.0)]
    assert steps(client, run_id, "beside") == [(1, 3.0)]
    *said, summary = capsys.readouterr().err.splitlines()
    assert r"refuses figure(s): left out ('a\nb' = 1.0" in said[0]
    assert len(said) <= 2  # one line a batch, and it may send both in one
    assert "has refused 2 figure(s)" in summary
    assert Outbox(out).waiting() == 0


def test_non_finite_figures_are_left_out_where_a_store_refuses_them(
    tracking: Tracking,
    client: MlflowClient,
    run_id: str,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = MlflowClient.log_batch

    def strict(self: Any, run_id: str, metrics: Any, **named: Any) -> None:
        if any(not math.isfinite(metric.value) for metric in metrics):
            raise MlflowException("no such number", error_code=1000)  # INVALID_PARAMETER_VALUE
        real(self, run_id, metrics=metrics, **named)

    monkeypatch.setattr(MlflowClient, "log_batch", strict)
    recorder = tracking.recorder(run_id, out)
    recorder.metrics({"loss": 1.0, "odd": math.inf}, step=1)
    recorder.metrics({"loss": 2.0, "odd": math.inf}, step=2)
    recorder.close()
    assert steps(client, run_id, "loss") == [(1, 1.0), (2, 2.0)]
    assert steps(client, run_id, "odd") == []
    err = capsys.readouterr().err
    assert err.count("'odd' = inf") == 1
    assert err.count("has refused 2 figure(s)") == 1


def test_all_pictures_wait(
    tracking: Tracking, client: MlflowClient, run_id: str, outage: Outage, out: Path
) -> None:
    outage.error = ConnectionError("away")
    recorder = tracking.recorder(run_id, out)
    for step in range(40):
        recorder.picture("child", Image.new("RGB", (8, 8)), step=step)
    until(lambda: outage.calls > 0)
    outage.error = None
    recorder.close()
    names = {Path(item.path).name for item in client.list_artifacts(run_id, "images")}
    assert sum(name.endswith(".png") for name in names) == 40
    assert len(names) == 80


def test_a_deleted_run_keeps_its_records_until_it_is_restored(
    tracking: Tracking,
    client: MlflowClient,
    run_id: str,
    outage: Outage,
    out: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    client.delete_run(run_id)
    recorder = tracking.recorder(run_id, out)
    recorder.metrics({"loss": 1.0}, step=1)
    recorder.close()
    assert f"MLflow run {run_id} was deleted: restore it" in capsys.readouterr().err
    assert Outbox(out).waiting() == 1
    client.restore_run(run_id)
    tracking.recorder(run_id, out).close()
    assert steps(client, run_id, "loss") == [(1, 1.0)]
