"""``platform train`` in this process, and one clear line for whatever cannot be used."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mixnmatch.bundle import load_bundle
from mixnmatch.commands.options import write_config
from mixnmatch.config import RunConfig
from mixnmatch_platform.cli import main
from mixnmatch_platform.store import tracking_uri

pytestmark = pytest.mark.integration


@pytest.fixture
def settings(tiny_config: RunConfig, tmp_path: Path) -> Path:
    write_config(tiny_config, tmp_path / "settings.json")
    return tmp_path / "settings.json"


def _line(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert error.startswith("platform: error: ")
    return error


def test_train_in_this_process_and_again(
    home: Path, drawn_data: Path, settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", str(drawn_data), "--name", "one", "--config", str(settings)]
    assert main([*command, "--dry-run"]) == 0
    assert "this process" in capsys.readouterr().out
    assert not (home / "train").exists()

    assert main([*command, "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    out = home / "train" / "one"
    assert load_bundle(out / "bundle").stages == (1, 2)

    # The same name again goes on from the last checkpoint: longer, in the same MLflow run.
    longer = ["--set", "stage2.steps=6", "--json"]
    assert main(["train", str(drawn_data), "--name", "one", *longer]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again.keys() == first.keys()
    client = MlflowClient(tracking_uri(home))
    (run,) = client.search_runs([client.get_experiment_by_name("train").experiment_id])
    assert run.info.status == "FINISHED"
    losses = client.get_metric_history(run.info.run_id, "stage2/extractor/feature_l1")
    assert [metric.step for metric in losses] == [7, 8, 9, 10, 11, 12]

    # What is refused leaves the finished run as it was.
    kept = (out / "config.json").read_bytes()
    for options, said in [
        (["--set", "stage1.beta1=0.3"], "stage1.beta1 = 0.5, not 0.3"),
        (["--set", "stage1.steps=9"], "stage1.steps = 6, not 9"),
        (["--stage", "1"], "past stage 1"),
    ]:
        assert main(["train", str(drawn_data), "--name", "one", *options]) == 2
        assert said in _line(capsys)
    assert (out / "config.json").read_bytes() == kept
    assert client.get_run(run.info.run_id).info.status == "FINISHED"


def test_bad_input_is_one_line(
    home: Path,
    drawn_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = str(drawn_data)
    for arguments, said in [
        (["train", str(tmp_path / "none"), "--name", "x"], "no such data set folder"),
        (["train", data, "--name", "x", "--set", "stage1.stepz=1"], "stage1.stepz"),
        (["train", data, "--name", "x", "--set", "model.fine_categories=7"], "multiple of"),
        (["train", data, "--name", "x", "--workers", "-1"], "--workers is -1"),
        (["train", data, "--name", "x", "--workers", "9"], "batches of 12 on 9 worker(s)"),
        (["train", data, "--name", "x", "--stage", "2", "--workers", "0"], "stage 2 needs"),
        (["train", data, "--name", "../x"], "--name"),
        (["promote", "--experiment", "x", "--metric", "fid", "--model", "m"], "no MLflow store"),
        (["champion", "m"], "no MLflow store"),
    ]:
        assert main(arguments) == 2, arguments
        assert said in _line(capsys)
    assert not home.exists(), "nothing was half written"

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert main(["train", data, "--name", "x", "--set", "stage1.batch_size=4"]) == 2
    assert "http://127.0.0.1:9" in _line(capsys)
