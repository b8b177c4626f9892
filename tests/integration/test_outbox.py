"""The outbox of a run: what it keeps, how it is delivered, and runs that end without a process."""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from PIL import Image

from mixnmatch.cli import run_program
from mixnmatch.config import RunConfig
from mixnmatch.errors import RunError, Stopped
from mixnmatch.training.run import Worker
from mixnmatch_platform import delivery, locks
from mixnmatch_platform.budget import session
from mixnmatch_platform.commands import reap as reap_command
from mixnmatch_platform.commands import sync as sync_command
from mixnmatch_platform.delivery import Delivery, deliver
from mixnmatch_platform.job import execute, hold, settle, start_job
from mixnmatch_platform.outbox import Outbox, OutboxWriter
from mixnmatch_platform.reap import reap
from mixnmatch_platform.tracking import HOST_TAG, Tracking

pytestmark = pytest.mark.integration

DEAD = "http://127.0.0.1:9"


@pytest.fixture
def tracking(home: Path) -> Tracking:
    return Tracking.at(home, "exp")


@pytest.fixture
def out(home: Path) -> Path:
    return home / "exp" / "run"


@pytest.fixture
def run_id(tracking: Tracking, out: Path) -> str:
    return tracking.start_run("run", tags={}, params={}, folder=out)


def command(*arguments: object) -> int:
    """Status of ``platform sync`` or ``platform reap``."""
    parser = argparse.ArgumentParser(prog="platform")
    subparsers = parser.add_subparsers(required=True)
    sync_command.register(subparsers)
    reap_command.register(subparsers)
    return run_program(parser, [str(argument) for argument in arguments])


def write(out: Path, steps: range, **values: float) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with closing(OutboxWriter(out)) as writer:
        for step in steps:
            writer.metrics({"loss": float(step), **values}, step)


def history(client: MlflowClient, run_id: str, name: str = "loss") -> list[tuple[int, float]]:
    points = client.get_metric_history(run_id, name)
    assert [p.timestamp for p in points] == sorted(p.timestamp for p in points)
    return [(point.step, point.value) for point in points]


def counted(count: int) -> list[tuple[int, float]]:
    return [(step, float(step)) for step in range(count)]


def test_steps_that_the_outbox_has_are_not_recorded_again(
    tracking: Tracking, client: MlflowClient, run_id: str, out: Path
) -> None:
    write(out, range(10))
    with closing(tracking.recorder(run_id, out)) as recorder:
        assert recorder.next_step("loss") == 10
        assert recorder.next_step("new") == 0
        for step in range(7, 12):  # a checkpoint of step 6
            recorder.metrics({"loss": float(step), "new": 1.0}, step)
            recorder.picture("child", Image.new("RGB", (8, 8)), step)
    with closing(tracking.recorder(run_id, out)) as recorder:
        recorder.picture("child", Image.new("RGB", (8, 8)), 11)
        recorder.picture("child", Image.new("RGB", (8, 8)), 12)
    assert history(client, run_id) == counted(12)
    assert [step for step, _ in history(client, run_id, "new")] == [7, 8, 9, 10, 11]
    names = [Path(item.path).name for item in client.list_artifacts(run_id, "images")]
    pictures = sorted(int(name.split("+")[2]) for name in names if name.endswith(".png"))
    assert pictures == [7, 8, 9, 10, 11, 12]


def test_half_a_record_is_cut_off_and_a_damaged_one_left_out(
    tracking: Tracking,
    client: MlflowClient,
    run_id: str,
    out: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(out, range(2))
    file = out / "mlflow-outbox.jsonl"
    with file.open("ab") as end:
        end.write(b"\0\0\0\n" + b'{"time": 1, "metr')
    assert Outbox(out).waiting() == 3
    assert deliver(Delivery(Outbox(out), tracking.uri, run_id)) is None
    assert "refuses damaged record(s): left out" in capsys.readouterr().err
    write(out, range(5))
    assert file.read_bytes().count(b"metr") == 5
    assert deliver(Delivery(Outbox(out), tracking.uri, run_id)) is None
    assert history(client, run_id) == counted(5)


def test_values_that_are_not_finite_travel(
    tracking: Tracking, client: MlflowClient, run_id: str, out: Path
) -> None:
    write(out, range(1), nan=float("nan"), inf=float("inf"), low=-float("inf"))
    for line in (out / "mlflow-outbox.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)  # plain JSON, for whoever reads it
    assert deliver(Delivery(Outbox(out), tracking.uri, run_id)) is None
    metrics = client.get_run(run_id).data.metrics
    assert metrics["nan"] != metrics["nan"]
    assert metrics["inf"] > 1e300
    assert metrics["low"] < -1e300


def test_a_batch_whose_answer_was_lost_is_there_once(
    tracking: Tracking,
    client: MlflowClient,
    run_id: str,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(out, range(30))
    with closing(OutboxWriter(out)) as writer:
        (out / "samples").mkdir()
        Image.new("RGB", (8, 8)).save(out / "samples" / "child.png")
        writer.append(picture="child", step=3, file="samples/child.png")
    real = {name: getattr(MlflowClient, name) for name in ("log_batch", "log_artifacts")}
    lost: list[str] = []

    def lose(name: str) -> Callable[..., None]:
        def call(*arguments: Any, **named: Any) -> None:
            real[name](*arguments, **named)
            if name not in lost:
                lost.append(name)
                raise ConnectionError("the answer was lost")

        return call

    for name in real:
        monkeypatch.setattr(MlflowClient, name, lose(name))
    sender = Delivery(Outbox(out), tracking.uri, run_id)
    for name in real:
        with pytest.raises(ConnectionError):
            list(iter(sender.send_next, 0))
        assert lost[-1] == name
    assert deliver(sender) is None
    assert history(client, run_id) == counted(30)
    assert len(client.list_artifacts(run_id, "images")) == 2, "the picture and its thumbnail"

    # A machine that stopped may have lost the offset as well.
    (out / "mlflow-delivered").write_text("")
    assert deliver(sender) is None
    assert history(client, run_id) == counted(30)
    assert len(client.list_artifacts(run_id, "images")) == 2


def test_several_may_deliver_at_once(
    tracking: Tracking,
    client: MlflowClient,
    run_id: str,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "BATCH_METRICS", 3)
    write(out, range(40))
    sent: list[int] = []

    def send() -> None:
        sender = Delivery(Outbox(out), tracking.uri, run_id)
        while count := sender.send_next():
            sent.append(count)

    threads = [threading.Thread(target=send) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(sent) == 40, "none is sent twice"
    assert history(client, run_id) == counted(40)


def test_a_full_disk_leaves_no_half_record(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(out, range(2))
    writer = OutboxWriter(out)

    class Full:
        def __init__(self, file: Any) -> None:
            self.file = file

        def write(self, data: memoryview) -> int:
            if len(data) < 20:
                raise OSError(28, "No space left on device")
            return int(self.file.write(data[:20]))

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    with monkeypatch.context() as patch:
        patch.setattr(writer, "_file", Full(writer._file))
        with pytest.raises(OSError, match="No space left"):
            writer.metrics({"loss": 2.0}, 2)
    writer.metrics({"loss": 2.0}, 2)
    writer.close()
    assert [record["step"] for record, _ in Outbox(out).records()] == [0, 1, 2]


def test_a_folder_is_held_by_one_process(out: Path, tmp_path: Path) -> None:
    assert not locks.is_held(out)
    assert locks.holder(out) is None
    script = "\n".join(
        [
            "import sys, time",
            "from pathlib import Path",
            "from mixnmatch_platform.locks import hold",
            "with hold(Path(sys.argv[1])):",
            "    print('held', flush=True)",
            "    time.sleep(600)",
        ]
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(out)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert locks.is_held(out)
        held = f"in use by process {process.pid} of {platform.node()}"
        with pytest.raises(RunError, match=held), hold(out, wait_seconds=0.1):
            raise AssertionError("held twice")
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with hold(out):
        assert locks.is_held(out)
    assert not locks.is_held(out)
    assert locks.holder(out) == (platform.node(), str(os.getpid()))


def test_sync_delivers_what_waits(
    tracking: Tracking,
    client: MlflowClient,
    run_id: str,
    out: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(out, range(5))
    with closing(OutboxWriter(out)) as writer:
        writer.append(status="FINISHED")
    write(out.parent / "lost", range(2))  # never opened in MLflow
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", DEAD)
        assert command("sync") == 1
        printed = capsys.readouterr()
        assert printed.out == f"delivered 0 record(s) of 2 run(s) to {DEAD}; 8 still wait\n"
        assert f"{out}: 6 record(s) still wait ({DEAD} does not answer)" in printed.err

    assert command("sync", out, "--json") == 0
    outcome = json.loads(capsys.readouterr().out)
    assert (outcome["delivered"], outcome["waiting"]) == (6, 0)
    assert outcome["runs"][0]["run_id"] == run_id
    assert history(client, run_id) == counted(5)
    assert client.get_run(run_id).info.status == "FINISHED"

    assert command("sync") == 1
    assert "lost: 2 record(s) still wait (the run was never opened" in capsys.readouterr().err
    assert command("sync", out) == 0
    assert capsys.readouterr().out.startswith("nothing waits")
    assert command("sync", home / "nowhere") == 2
    assert "nowhere is no folder" in capsys.readouterr().err
    assert history(client, run_id) == counted(5)


def test_a_run_of_another_store_is_not_lost(
    run_id: str, out: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(out, range(5))
    other = tmp_path / "other"
    Tracking.at(other, "exp").check()
    assert command("sync", out, "--home", other) == 1
    assert f"{out}: 5 record(s) still wait" in capsys.readouterr().err
    assert command("sync", out) == 0


def test_settle_ends_a_run_after_all_that_it_had_to_tell(
    tracking: Tracking,
    client: MlflowClient,
    run_id: str,
    out: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(out, range(5))
    settle(out, Tracking(DEAD, "exp"), "FAILED", {"mixnmatch.reason": "died"}, seconds=0)
    assert capsys.readouterr().err.count("`platform sync") == 1
    assert client.get_run(run_id).info.status == "RUNNING"
    settle(out, tracking, "FAILED")
    run = client.get_run(run_id)
    assert run.info.status == "FAILED"
    assert run.data.tags["mixnmatch.reason"] == "died"
    assert history(client, run_id) == counted(5)
    with pytest.raises(RunError, match="has no MLflow run"):
        settle(out.parent, tracking, "FAILED")


def test_reap_ends_runs_whose_process_is_gone(
    tracking: Tracking,
    client: MlflowClient,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folders = {
        name: home / "exp" / name
        for name in ("alive", "dead", "ended", "sweep", "trial", "new", "away", "silent", "deleted")
    }
    parent = tracking.start_run("sweep", tags={}, params={}, folder=folders["sweep"])
    ids = {
        name: tracking.start_run(
            name,
            tags={},
            params={},
            folder=folder,
            parent_run_id=parent if name == "trial" else None,
        )
        for name, folder in folders.items()
        if name != "sweep"
    } | {"sweep": parent, "foreign": tracking.start_run("foreign", tags={}, params={})}
    for name in ("dead", "ended", "trial", "deleted"):
        with hold(folders[name]):
            write(folders[name], range(3))
    with closing(OutboxWriter(folders["ended"])) as writer:
        writer.append(status="FINISHED")
    for name in ("away", "silent"):  # whose outbox is another machine's
        write(folders[name], range(3))
        (folders[name] / ".lock").write_text("elsewhere 12\n")
        client.set_tag(ids[name], HOST_TAG, "elsewhere")
    for file in (folders["silent"] / ".lock", folders["silent"] / "mlflow-outbox.jsonl"):
        os.utime(file, (time.time() - 3600,) * 2)
    for child in sorted(folders["deleted"].rglob("*"), reverse=True):
        child.unlink()
    folders["deleted"].rmdir()

    def statuses() -> dict[str, str]:
        return {name: client.get_run(run_id).info.status for name, run_id in ids.items()}

    with hold(folders["alive"]), session(folders["sweep"]):
        assert command("reap", "--dry-run", "--json") == 0
        verdicts = {v["run_name"]: v for v in json.loads(capsys.readouterr().out)}
        would = {name for name, v in verdicts.items() if v["outcome"] == "would end"}
        assert would == {"dead", "ended", "deleted"}
        assert set(statuses().values()) == {"RUNNING"}
        assert verdicts["trial"]["why"].endswith("is there, and sees to it")
        assert "names no folder" in verdicts["foreign"]["why"]

        assert command("reap") == 0
        assert "3 of 10 running run(s)" in capsys.readouterr().out
        gone = {"dead": "KILLED", "ended": "FINISHED", "deleted": "KILLED"}
        assert statuses() == dict.fromkeys(ids, "RUNNING") | gone
        assert history(client, ids["dead"]) == counted(3)
        reason = client.get_run(ids["dead"]).data.tags["mixnmatch.reason"]
        assert reason == f"its process {os.getpid()} on {platform.node()} is gone"

    # Their sweep is gone as well now, and the clocks have gone on.
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 300)
    reap(tracking.uri)
    assert {statuses()[name] for name in ("alive", "sweep", "trial")} == {"KILLED"}
    assert {statuses()[name] for name in ("away", "silent", "new")} == {"RUNNING"}
    monkeypatch.setattr(time, "time", lambda: now + 700)
    reap(tracking.uri)
    left = {name for name, status in statuses().items() if status == "RUNNING"}
    assert left == {"foreign"}
    assert history(client, ids["away"]) == counted(3)


def test_a_job_has_all_that_is_to_be_known_of_it(
    tracking: Tracking,
    client: MlflowClient,
    out: Path,
    drawn_data: Path,
    tiny_config: RunConfig,
) -> None:
    def start() -> Any:
        return start_job(
            tracking, name="run", config=tiny_config, data=drawn_data, out=out, stages=(1, 2)
        )

    class Ending:
        """Stops the run before its fourth step."""

        asked = 0

        def stop(self) -> str | None:
            self.asked += 1
            return "enough" if self.asked == 4 else None

    job = start()
    with pytest.raises(Stopped):
        execute(job, worker=Worker(), supervisor=Ending())
    run = client.get_run(job.run_id)
    assert run.info.status == "KILLED"
    assert run.data.tags["mixnmatch.reason"].startswith("enough")
    first = run.data.metrics["cost/device_seconds"]
    assert first > 0
    assert json.loads((out / "cost.json").read_text()) == {
        "device": "cpu",
        "device_seconds": pytest.approx(first, abs=1e-3),
    }

    assert start().run_id == job.run_id
    assert client.get_run(job.run_id).info.status == "RUNNING"
    execute(job, worker=Worker())
    run = client.get_run(job.run_id)
    assert run.info.status == "FINISHED"
    tags = run.data.tags
    assert tags["mixnmatch.reason"] == ""
    assert tags["mixnmatch.stages"] == "1+2"
    assert tags["mixnmatch.seed"] == str(tiny_config.seed)
    assert {
        "mixnmatch.data_fingerprint",
        "mixnmatch.command",
        "mixnmatch.host",
        "mixnmatch.host_cpu",
        "mixnmatch.host_cpus",
        "mixnmatch.host_memory_gib",
        "mixnmatch.host_gpus",
        "mixnmatch.folder",
        "mixnmatch.torch",
        "mixnmatch.optuna",
    } <= set(tags)
    assert run.data.metrics["cost/device_seconds"] > first
    assert "system/cpu_utilization_percentage" in run.data.metrics
    cost = history(client, job.run_id, "cost/device_seconds")
    assert [step for step, _ in cost] == list(range(len(cost)))
    assert len(cost) >= 2, "a sample of each attempt"
    assert [step for step, _ in history(client, job.run_id, "stage1/images")] == [1, 2, 3, 4, 5, 6]
    assert [step for step, _ in history(client, job.run_id, "stage2/images")] == [7, 8, 9, 10]
    # The end is the last of all.
    *_, (last, _) = Outbox(out).records()
    assert last["status"] == "FINISHED"
    assert not locks.is_held(out)


def test_a_job_that_fails_says_why(
    tracking: Tracking,
    client: MlflowClient,
    out: Path,
    drawn_data: Path,
    tiny_config: RunConfig,
) -> None:
    job = start_job(tracking, name="run", config=tiny_config, data=drawn_data, out=out, stages=(2,))
    with pytest.raises(Exception, match="stage 2 needs the model of stage 1"):
        execute(job, worker=Worker())
    run = client.get_run(job.run_id)
    assert run.info.status == "FAILED"
    assert "stage 2 needs the model of stage 1" in run.data.tags["mixnmatch.reason"]
