import json
import math
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.cli import gc

from mixnmatch.bundle import load_bundle, save_bundle
from mixnmatch.data.store import Dataset
from mixnmatch.errors import ConfigError, InputError, ModelError
from mixnmatch_platform import registry
from mixnmatch_platform.promotion.gates import Gates, Requirement
from mixnmatch_platform.promotion.promote import promote
from mixnmatch_platform.promotion.request import Promotion, Request, format_promotion
from mixnmatch_platform.registry import fetch_model, fetch_release
from mixnmatch_platform.tracking import DATA_TAG, Tracking

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("no_smoke")]

ACCURACY = "disentanglement_accuracy"
StartRun = Callable[..., str]
Promote = Callable[..., Promotion]


@pytest.fixture
def train(train: StartRun) -> StartRun:
    """Of runs whose figures are known to 0.01."""
    return partial(train, reach=0.01)


def test_the_best_whole_run_wins(
    run_promote: Promote, train: StartRun, client: MlflowClient, tmp_path: Path
) -> None:
    sweep = train("sweep", {ACCURACY: 0.99}, stages="", weights=None)
    train("poor", {ACCURACY: 0.4}, parent=sweep)
    best = train("warm-owl-12", {ACCURACY: 0.61}, parent=sweep)
    train("failed", {ACCURACY: 0.9}, status="FAILED")
    train("going", {ACCURACY: 0.9}, status="RUNNING")
    train("half", {ACCURACY: 0.9}, stages="1")
    train("nan", {ACCURACY: math.nan})
    train("infinite", {ACCURACY: math.inf}, reach=None)
    train("silent", {"loss": 1.0})

    result = run_promote(why="the first one")

    assert (result.run_id, result.version, result.candidates) == (best, 1, 2)
    assert format_promotion(result) == (
        "promoted demo v1 (run warm-owl-12, disentanglement_accuracy 0.61): best of 2 runs, "
        "the first champion"
    )
    version = client.get_model_version_by_alias("demo", "champion")
    assert version.run_id == best
    assert version.tags["mixnmatch.value"] == "0.61"
    assert version.tags[DATA_TAG] == "f00d"
    assert "best of 2" in version.description
    assert "the first one" in version.description

    for uri in ("models:/demo@champion", "models:/demo/1", "models:/demo"):
        folder = fetch_model(uri)
        assert folder.is_relative_to(tmp_path / "runs" / "artifacts" / best / "artifacts/releases")
        assert load_bundle(folder).stages == (1, 2)


def test_less_is_better_for_distances(run_promote: Promote, train: StartRun) -> None:
    train("far", {"frechet_factors": 90.0, "odd": 1.0})
    near = train("near", {"frechet_factors": 20.0, "odd": 2.0})
    assert run_promote(metric="frechet_factors", dry_run=True).run_id == near
    with pytest.raises(InputError, match="--mode"):
        run_promote(metric="odd")
    assert run_promote(metric="odd", mode="max", dry_run=True).run_id == near
    with pytest.raises(ConfigError, match="max frechet_factors: less of frechet_factors is better"):
        run_promote(metric="frechet_factors", mode="max")


def test_a_dry_run_changes_nothing(
    run_promote: Promote, train: StartRun, client: MlflowClient, tmp_path: Path
) -> None:
    train("a", {ACCURACY: 0.5})
    before = sorted(tmp_path.rglob("*"))
    result = run_promote(dry_run=True)
    assert result.version is None
    assert format_promotion(result).startswith("would promote demo (run a, ")
    assert client.search_registered_models() == []
    assert sorted(tmp_path.rglob("*")) == before


def test_a_named_run_is_taken_instead(run_promote: Promote, train: StartRun) -> None:
    train("best", {ACCURACY: 0.9})
    wanted = train("wanted", {ACCURACY: 0.5})
    train("going", {ACCURACY: 0.5}, status="RUNNING")
    train("half", {ACCURACY: 0.5}, stages="1")
    assert run_promote(run="wanted", dry_run=True).run_id == wanted
    assert run_promote(run=wanted, experiment=None, dry_run=True).run_name == "wanted"
    for run, message in {
        "other": "no run 'other' in experiment 'exp'",
        "going": "run 'going' is RUNNING",
        "half": r"gate stages: run 'half' has been through 1, wanted are 1\+2",
    }.items():
        with pytest.raises(InputError, match=message):
            run_promote(run=run)


def test_a_better_run_replaces_the_champion(
    run_promote: Promote, train: StartRun, client: MlflowClient
) -> None:
    train("first", {ACCURACY: 0.55})
    run_promote()
    assert format_promotion(run_promote()) == (
        "demo v1 (run first, disentanglement_accuracy 0.55) is champion already: best of 1 run"
    )
    train("equal", {ACCURACY: 0.55})
    assert run_promote().outcome == "already champion"

    train("warm-owl-12", {ACCURACY: 0.61})
    assert format_promotion(run_promote()) == (
        "promoted demo v2 (run warm-owl-12, disentanglement_accuracy 0.61): beats v1 (0.61 against "
        "0.55, noise 0.014; recorded, their 95 % intervals added in squares)"
    )
    assert {a: int(v) for a, v in client.get_registered_model("demo").aliases.items()} == {
        "champion": 2,
        "previous": 1,
    }


def test_a_gain_within_the_noise_is_refused_with_both_numbers(
    run_promote: Promote, train: StartRun, client: MlflowClient
) -> None:
    train("good", {ACCURACY: 0.70})
    run_promote()
    train("hardly-better", {ACCURACY: 0.71})
    with pytest.raises(
        InputError,
        match=r"run hardly-better is not promoted: gate better than the champion: .* 0\.71, "
        r"champion v1 has 0\.7: better by 0\.01, noise is 0\.0141",
    ):
        run_promote()
    assert [v.version for v in client.search_model_versions("name = 'demo'")] == [1]


def test_a_worse_run_needs_force(
    run_promote: Promote, train: StartRun, client: MlflowClient
) -> None:
    good = train("good", {ACCURACY: 0.7})
    run_promote()
    train("worse", {ACCURACY: 0.5})
    with pytest.raises(InputError, match=r"0\.5, champion v1 has 0\.7: better by -0\.2"):
        run_promote(run="worse")
    client.delete_run(good)  # which MLflow keeps for a while
    with pytest.raises(InputError, match=r"0\.5, champion v1 has 0\.7: better by -0\.2"):
        run_promote()
    assert client.get_model_version_by_alias("demo", "champion").version == 1
    forced = run_promote(force=True)
    assert "replaces, by force, v1 (0.5 against 0.7" in format_promotion(forced)
    assert client.get_model_version_by_alias("demo", "champion").version == 2


def test_what_was_measured_otherwise_is_measured_again(
    run_promote: Promote,
    train: StartRun,
    tiny_dataset: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    bundle: Path,
) -> None:
    train("first", {ACCURACY: 0.5})
    run_promote()
    other = {"generated": {"protocol": None, "samples": 2048}, "real": {"fingerprint": "f00d"}}
    train("second", {ACCURACY: 0.9}, protocol=other)
    with pytest.raises(
        InputError,
        match=r"measured otherwise \(generated.samples 2048 and 512\), so both must be measured "
        r"again: name the data set with --data",
    ):
        run_promote(run="second")

    # Both paint the same: what is measured again cannot differ, whatever was recorded.
    again = {"run": "second", "data": tiny_dataset.path, "seeds": 2}
    with pytest.raises(InputError, match=r"better by 0, noise is 0 \(measured again on .* 2 seeds"):
        run_promote(**again)
    forced = run_promote(**again, force=True)
    assert forced.comparison is not None
    assert forced.comparison.gain == forced.comparison.noise == 0
    train("third", {ACCURACY: 0.95})
    with pytest.raises(InputError, match="--seeds is 1"):
        run_promote(data=tiny_dataset.path, seeds=1, again=True)


def test_the_data_set_of_the_run_is_taken_where_it_is_unchanged(
    run_promote: Promote, train: StartRun, tiny_dataset: Dataset
) -> None:
    train("first", {ACCURACY: 0.5}, reach=None)
    run_promote()
    known = {"data": tiny_dataset.path, "reach": None}
    train("changed", {ACCURACY: 0.6}, **known, fingerprint="other")
    with pytest.raises(InputError, match="has no interval, so both must be measured again"):
        run_promote()
    train("same", {ACCURACY: 0.7}, **known, fingerprint=tiny_dataset.info.fingerprint)
    with pytest.raises(InputError, match=f"measured again on {tiny_dataset.path}"):
        run_promote(seeds=2)


def train_on(client: MlflowClient, run_id: str, bundle: Path, value: float) -> None:
    """What `platform train` of the same name with more steps does to a run that is there."""
    client.log_metric(run_id, ACCURACY, value, step=2)
    for end, by in (("low", -0.01), ("high", 0.01)):
        client.log_metric(run_id, f"{end}/{ACCURACY}", value + by, step=2)
    client.log_artifacts(run_id, str(bundle), "bundle")


def test_a_run_that_was_trained_on_is_no_champion_yet(
    run_promote: Promote,
    train: StartRun,
    client: MlflowClient,
    make_bundle: Callable[[Path], Path],
    tmp_path: Path,
) -> None:
    run_id = train("birds", {ACCURACY: 0.5})
    run_promote()
    train_on(client, run_id, make_bundle(tmp_path / "worse" / "bundle"), 0.4)
    with pytest.raises(InputError, match=r"0\.4, champion v1 has 0\.5: better by -0\.1"):
        run_promote()
    # What the run has come to since is not what the champion has.
    train("other", {ACCURACY: 0.45})
    with pytest.raises(InputError, match=r"0\.45, champion v1 has 0\.5: better by -0\.05"):
        run_promote()
    better = make_bundle(tmp_path / "better" / "bundle")
    train_on(client, run_id, better, 0.6)
    assert format_promotion(run_promote()).startswith(
        "promoted demo v2 (run birds, disentanglement_accuracy 0.6): beats v1 (0.6 against 0.5, "
    )
    assert load_bundle(fetch_model("models:/demo/1")).metrics[ACCURACY] == 0.5
    for request in ({}, {"force": True}):
        assert run_promote(**request).outcome == "already champion"


def test_equal_weights_are_no_better_under_another_name(
    run_promote: Promote, train: StartRun, bundle: Path
) -> None:
    train("first", {ACCURACY: 0.5}, weights=bundle)
    run_promote()
    train("copy", {ACCURACY: 0.6}, weights=bundle)
    assert run_promote().outcome == "already champion"
    assert run_promote(force=True).version == 2


FEW = {"generated": {"protocol": None, "samples": 16}, "real": {"fingerprint": "f00d"}}


def test_runs_that_were_measured_otherwise_are_not_ranked(
    tracking: Tracking, run_promote: Promote, train: StartRun
) -> None:
    train("lucky", {ACCURACY: 0.95}, protocol=FEW)
    said: list[str] = []
    wanted = Request(name="demo", metric=ACCURACY, experiment="exp", dry_run=True)
    assert promote(tracking.uri, wanted, said=said.append).run_name == "lucky"
    assert said == []
    train("fair", {ACCURACY: 0.5})
    train("best", {ACCURACY: 0.61})
    train("untold", {ACCURACY: 0.97}, protocol=None)
    result = promote(tracking.uri, wanted, said=said.append)
    assert (result.run_name, result.candidates) == ("best", 2)
    assert re.fullmatch(
        r"2 of 4 candidates are ranked, those whose protocol is 512 samples [0-9a-f]{8}: --run "
        "takes another",
        said[0],
    )
    assert run_promote(run="lucky", dry_run=True).run_name == "lucky"


def test_the_best_run_is_one_that_was_measured_as_the_gates_want(
    run_promote: Promote, train: StartRun
) -> None:
    for name, value in {"lucky": 0.95, "luckier": 0.96}.items():
        train(name, {ACCURACY: value}, protocol=FEW)
    train("silent", {ACCURACY: 0.97}, protocol=None)
    train("fair", {ACCURACY: 0.61})
    assert run_promote(dry_run=True).run_name == "luckier"
    for gates in (Gates(samples=512), Gates(protocol="quick")):
        assert run_promote(gates=gates, dry_run=True).run_name == "fair"
    with pytest.raises(InputError, match=r"run luckier is not promoted: gate samples: .* on 16"):
        run_promote(gates=Gates(samples=513))


def test_a_champion_whose_run_is_gone_for_good_can_be_replaced(
    tracking: Tracking, run_promote: Promote, train: StartRun, client: MlflowClient
) -> None:
    run_id = train("first", {ACCURACY: 0.7})
    run_promote()
    client.delete_run(run_id)
    runner = CliRunner(env={"MLFLOW_TRACKING_URI": tracking.uri})
    done = runner.invoke(gc, ["--backend-store-uri", tracking.uri, "--run-ids", run_id])
    assert done.exit_code == 0, done.output
    with pytest.raises(ModelError, match=f"is gone: run {run_id} was deleted for good"):
        fetch_model("models:/demo@champion")
    train("second", {ACCURACY: 0.9})
    with pytest.raises(
        ModelError,
        match=r"better than the champion: v1 cannot be read \(.* was deleted for good, with its "
        r"files\): replace it with --force",
    ) as caught:
        run_promote()
    assert "\n" not in str(caught.value)
    assert run_promote(force=True).version == 2
    train("third", {ACCURACY: 0.95})
    assert run_promote().version == 3


def test_a_model_that_recorded_nothing_is_measured(
    run_promote: Promote, train: StartRun, tiny_dataset: Dataset, client: MlflowClient
) -> None:
    train("theirs", {}, protocol=None)
    with pytest.raises(
        InputError, match=r"none of the 1 candidates .* no metrics; --run with --ag"
    ):
        run_promote()
    with pytest.raises(
        InputError, match=r"'disentanglement_accuracy': .* no metrics; --again meas"
    ):
        run_promote(run="theirs")
    again = {"run": "theirs", "again": True, "seeds": 2}
    with pytest.raises(InputError, match=r"candidate has no .*: name the data set with --data"):
        run_promote(**again)
    again["data"] = tiny_dataset.path

    # Gates look at what was measured, and at how that was done.
    wanted = tuple(map(Requirement.parse, (f"{ACCURACY} >= 0.99", "fid_5k <= 20")))
    with pytest.raises(InputError) as caught:
        run_promote(**again, gates=Gates(require=wanted, samples=5_000))
    for part in (
        r"disentanglement_accuracy is 0\.\d+, wanted is >= 0\.99",
        "fid_5k was not measured",
        "measured on 16 samples, wanted are 5000",
    ):
        assert re.search(part, str(caught.value)), part
    passed = Gates(require=(Requirement.parse("accuracy/shape >= 0"),), samples=16)
    first = run_promote(**again, gates=passed)
    assert (first.version, first.outcome) == (1, "promoted")
    assert first.value is not None
    card = (fetch_release("models:/demo@champion") / "README.md").read_text()
    assert f"| {ACCURACY} | {first.value:.4g} |" in card
    assert "generated: samples | 16" in card
    assert format_promotion(run_promote(**again)) == (
        "demo v1 (run theirs) is champion already: best of 1 run"
    )

    train("ours", {ACCURACY: 0.9})
    with pytest.raises(InputError, match="the champion has no disentanglement_accuracy, so both"):
        run_promote()
    with pytest.raises(InputError, match=r"better by 0, noise is 0 \(measured again"):
        run_promote(data=tiny_dataset.path, seeds=2)
    train("theirs-too", {}, protocol=None)
    again["run"] = "theirs-too"
    with pytest.raises(InputError, match=r"better by 0, noise is 0 \(measured again"):
        run_promote(**again)


def test_what_was_measured_fills_no_gap_of_what_was_recorded(
    run_promote: Promote, train: StartRun, tiny_dataset: Dataset
) -> None:
    train("half", {"accuracy/shape": 0.4}, reach=None)
    again = {"run": "half", "again": True, "seeds": 2, "data": tiny_dataset.path}
    for text, message in {
        "accuracy/shape >= chance": "accuracy/shape has no known chance level or interval",
        "accuracy/shape >= 0.41": r"accuracy/shape is 0\.4, wanted is >= 0\.41",
    }.items():
        with pytest.raises(InputError, match=message):
            run_promote(**again, gates=Gates(require=(Requirement.parse(text),)))
    with pytest.raises(InputError, match="measured on 16 samples, wanted are 512"):
        run_promote(**again, gates=Gates(samples=512))
    assert run_promote(**again).outcome == "promoted"


def test_gates_name_what_was_found_and_wanted(
    run_promote: Promote, train: StartRun, client: MlflowClient
) -> None:
    train("a", {ACCURACY: 0.5, "fid_512": 90.0})
    wanted = ("fid_512 <= 80", f"{ACCURACY} >= 0.4", "recall_512>=0.1")
    gates = Gates(
        require=tuple(map(Requirement.parse, wanted)), protocol="5k", samples=5000, licence=True
    )
    with pytest.raises(InputError) as caught:
        run_promote(gates=gates)
    assert str(caught.value) == (
        "run a is not promoted: gate fid_512 <= 80: fid_512 is 90, wanted is <= 80; "
        "gate recall_512 >= 0.1: recall_512 was not measured; "
        "gate protocol: measured under quick, 512 samples, wanted is 5k; "
        "gate samples: measured on 512 samples, wanted are 5000; "
        "gate licence: the card would name no licence: give --licence"
    )
    assert client.search_registered_models() == []
    passed = run_promote(gates=Gates(protocol="quick", licence=True), licence="CC BY 4.0")
    assert [verdict.gate for verdict in passed.gates] == [
        "weights",
        "protocol",
        "licence",
        "smoke test",
    ]


def test_a_candidate_need_not_beat_the_champion(
    run_promote: Promote, train: StartRun, client: MlflowClient
) -> None:
    train("good", {ACCURACY: 0.7})
    run_promote()
    train("odd", {ACCURACY: 0.5})
    result = run_promote(run="odd", candidate=True)
    assert format_promotion(result) == (
        "put up demo v2 (run odd, disentanglement_accuracy 0.5) as candidate: best of 1 run"
    )
    assert {a: int(v) for a, v in client.get_registered_model("demo").aliases.items()} == {
        "champion": 1,
        "candidate": 2,
    }


@pytest.mark.parametrize("damage", ["no bundle", "bad weights", "stage 1"])
def test_a_bundle_that_does_not_load_is_not_promoted(
    run_promote: Promote,
    train: StartRun,
    client: MlflowClient,
    bundle: Path,
    tmp_path: Path,
    damage: str,
) -> None:
    weights: Path | None = shutil.copytree(bundle, tmp_path / "bundle")
    assert weights is not None
    if damage == "no bundle":
        weights = None
    elif damage == "bad weights":
        with (weights / "model.safetensors").open("ab") as file:
            file.write(b"x")
    else:
        weights = save_bundle(replace(load_bundle(bundle), extractor=None), weights)
    train("a", {ACCURACY: 0.5}, weights=weights)
    with pytest.raises(ModelError, match=r"run a .* cannot be promoted: gate weights") as caught:
        run_promote()
    assert "\n" not in str(caught.value)
    assert client.search_registered_models() == []


def test_what_is_interrupted_leaves_no_version(
    run_promote: Promote,
    train: StartRun,
    monkeypatch: pytest.MonkeyPatch,
    client: MlflowClient,
) -> None:
    train("a", {ACCURACY: 0.5})

    def killed(*arguments: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_artifacts", killed)
        with pytest.raises(KeyboardInterrupt):
            run_promote()
    assert client.get_registered_model("demo").aliases == {}
    assert client.search_model_versions("name = 'demo'") == []
    assert run_promote().outcome == "promoted"


def test_nothing_to_promote_is_told_in_one_line(
    run_promote: Promote, train: StartRun, tracking: Tracking
) -> None:
    wanted = Request(name="demo", metric="fid", experiment="exp")
    with pytest.raises(InputError, match="no MLflow store"):
        promote("sqlite:////nowhere/mlflow.db", wanted)
    with pytest.raises(InputError, match="cannot be used"):
        promote("http://127.0.0.1:9", wanted)
    with pytest.raises(InputError, match="name an experiment or a run"):
        run_promote(experiment=None)
    train("going", {ACCURACY: 0.5}, status="RUNNING")
    with pytest.raises(InputError, match=r"no experiment 'other' in .*: there is Default, exp"):
        run_promote(experiment="other")
    with pytest.raises(InputError, match="no experiment 'other': known are Default, exp"):
        run_promote(experiment="other", run="going")
    with pytest.raises(InputError, match="has no finished run: train"):
        run_promote()
    train("half", {ACCURACY: 0.5}, stages="1")
    with pytest.raises(InputError, match="has no finished run with both stages"):
        run_promote()
    train("odd", {"fid": 3.0, ACCURACY: math.nan})
    with pytest.raises(InputError, match=f"finite '{ACCURACY}': they recorded .*fid"):
        run_promote()
    with pytest.raises(InputError, match="is no model name"):
        run_promote(name="a/b")


def test_unknown_models_are_told_with_what_exists(
    run_promote: Promote, train: StartRun, tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("MIXNMATCH_HOME", "nowhere")
        with pytest.raises(InputError, match=r"no MLflow store at .* MIXNMATCH_HOME"):
            fetch_model("models:/demo")
    run_id = train("a", {ACCURACY: 0.5})
    with pytest.raises(ModelError, match=r"no model 'demo' in sqlite.* there is none yet"):
        fetch_model("models:/demo")
    run_promote()
    for uri, message in {
        "models:/other": "no model 'other' .* known are demo",
        "models:/demo@best": "no alias 'best': known are champion",
        "models:/demo/7": "no version 7: known are 1",
        "models:/demo/Production": "names no model: write",
    }.items():
        with pytest.raises(ModelError, match=message):
            fetch_model(uri)
    assert tracking.artifact_location is not None
    shutil.rmtree(Path(tracking.artifact_location.removeprefix("file://")) / run_id)
    with pytest.raises(ModelError, match="not on this machine or was deleted"):
        fetch_model("models:/demo")


def test_remote_releases_are_downloaded_once(
    run_promote: Promote, train: StartRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    train("a", {ACCURACY: 0.5})
    run_promote()
    monkeypatch.setattr(registry, "local_folder", lambda _: None)
    monkeypatch.setenv("MIXNMATCH_CACHE", str(tmp_path / "cache"))
    first = fetch_model("models:/demo@champion")
    kept = tmp_path / "cache" / "models" / "demo" / "1"
    assert first.is_relative_to(kept)
    assert load_bundle(first).stages == (1, 2)
    assert len(list(kept.iterdir())) == 1

    def refuse(*arguments: Any) -> Path:
        raise AssertionError("downloaded twice")

    monkeypatch.setattr(registry, "download", refuse)
    assert fetch_model("models:/demo@champion") == first


def test_the_outcome_is_plain_json(run_promote: Promote, train: StartRun) -> None:
    train("a", {ACCURACY: 0.5})
    outcome = run_promote().as_json()
    assert json.loads(json.dumps(outcome)) == outcome
    assert outcome["gates"][0] == {"gate": "weights", "passed": True, "said": "whole, both stages"}
