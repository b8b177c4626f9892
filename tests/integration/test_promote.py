import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from mixnmatch.bundle import ModelBundle, load_bundle, save_bundle
from mixnmatch.config import ModelConfig, RunConfig
from mixnmatch.errors import InputError, ModelError
from mixnmatch.networks import Encoders, Generator, ShapeExtractor
from mixnmatch_platform import registry
from mixnmatch_platform.promote import format_promotion, promote
from mixnmatch_platform.registry import fetch_model
from mixnmatch_platform.tracking import DATA_TAG, STAGES_TAG, Tracking

pytestmark = pytest.mark.integration

ACCURACY = "disentanglement_accuracy"
StartRun = Callable[..., str]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = ModelConfig(
        image_size=32,
        super_categories=2,
        fine_categories=4,
        generator_width=4,
        discriminator_width=4,
        encoder_width=4,
        pair_width=1,
        extractor_width=1,
    )
    trained = ModelBundle(
        config=RunConfig(model=model),
        generator=Generator(model),
        encoders=Encoders(model),
        extractor=ShapeExtractor(model),
    )
    return save_bundle(trained, tmp_path_factory.mktemp("made") / "bundle")


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("store")
    Tracking(f"sqlite:///{home}/mlflow.db", "exp").check()  # seconds: once, then copied
    return home / "mlflow.db"


@pytest.fixture
def tracking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_store: Path) -> Tracking:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MIXNMATCH_HOME", str(tmp_path / "runs"))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    (tmp_path / "runs").mkdir()
    shutil.copy(empty_store, tmp_path / "runs")
    return Tracking.at(tmp_path / "runs", "exp")


@pytest.fixture
def client(tracking: Tracking) -> MlflowClient:
    return MlflowClient(tracking_uri=tracking.uri)


@pytest.fixture
def train(tracking: Tracking, bundle: Path, tmp_path: Path) -> StartRun:
    """Makes a run as training would leave it."""

    def run(
        name: str,
        metrics: dict[str, float],
        *,
        stages: str = "1+2",
        status: Any = "FINISHED",
        weights: Path | None = bundle,
        parent: str | None = None,
    ) -> str:
        tags = {STAGES_TAG: stages, DATA_TAG: "f00d"}
        run_id = tracking.start_run(name, parent_run_id=parent, tags=tags, params={})
        recorder = tracking.recorder(run_id, tmp_path / "runs" / "exp" / run_id)
        recorder.metrics(metrics, step=1)
        if weights is not None:
            recorder.artifact(weights)
        recorder.close()
        if status != "RUNNING":
            tracking.finish(run_id, status)
        return run_id

    return run


def run_promote(tracking: Tracking, **settings: Any) -> Any:
    settings = {"metric": ACCURACY, "name": "demo"} | settings
    return promote(tracking.uri, settings.pop("experiment", "exp"), **settings)


def test_the_best_whole_run_wins_and_nothing_is_stored_twice(
    tracking: Tracking, train: StartRun, client: MlflowClient, tmp_path: Path
) -> None:
    sweep = train("sweep", {ACCURACY: 0.99}, stages="", weights=None)
    train("poor", {ACCURACY: 0.4}, parent=sweep)
    best = train("warm-owl-12", {ACCURACY: 0.61}, parent=sweep)
    train("failed", {ACCURACY: 0.9}, status="FAILED")
    train("going", {ACCURACY: 0.9}, status="RUNNING")
    train("half", {ACCURACY: 0.9}, stages="1")
    train("nan", {ACCURACY: math.nan})
    train("infinite", {ACCURACY: math.inf})
    train("silent", {"loss": 1.0})
    weights = sorted(tmp_path.rglob("*.safetensors"))

    result = run_promote(tracking)

    assert (result.run_id, result.version, result.candidates) == (best, 1, 2)
    assert format_promotion(result) == (
        "promoted demo v1 (run warm-owl-12, disentanglement_accuracy 0.61): best of 2 runs, "
        "the first champion"
    )
    assert sorted(tmp_path.rglob("*.safetensors")) == weights
    version = client.get_model_version_by_alias("demo", "champion")
    assert version.run_id == best
    assert version.tags["mixnmatch.value"] == "0.61"
    assert version.tags[DATA_TAG] == "f00d"
    assert "best of 2 runs" in version.description

    for uri in ("models:/demo@champion", "models:/demo/1", "models:/demo"):
        folder = fetch_model(uri)
        assert folder.is_relative_to(tmp_path / "runs" / "artifacts" / best)
        assert load_bundle(folder).stages == (1, 2)


def test_less_is_better_for_distances(tracking: Tracking, train: StartRun) -> None:
    train("far", {"frechet_factors": 90.0, "odd": 1.0})
    near = train("near", {"frechet_factors": 20.0, "odd": 2.0})
    assert run_promote(tracking, metric="frechet_factors", dry_run=True).run_id == near
    with pytest.raises(InputError, match="--mode"):
        run_promote(tracking, metric="odd")
    assert run_promote(tracking, metric="odd", mode="max", dry_run=True).run_id == near


def test_a_dry_run_changes_nothing(
    tracking: Tracking, train: StartRun, client: MlflowClient
) -> None:
    train("a", {ACCURACY: 0.5})
    result = run_promote(tracking, dry_run=True)
    assert result.version is None
    assert format_promotion(result).startswith("would promote demo (run a, ")
    assert client.search_registered_models() == []


def test_a_better_run_replaces_the_champion(tracking: Tracking, train: StartRun) -> None:
    train("first", {ACCURACY: 0.55})
    run_promote(tracking)
    again = run_promote(tracking)
    assert format_promotion(again) == (
        "demo v1 (run first, disentanglement_accuracy 0.55) is champion already: best of 1 run"
    )
    train("equal", {ACCURACY: 0.55})
    assert run_promote(tracking).outcome == "already champion"

    train("warm-owl-12", {ACCURACY: 0.61})
    assert format_promotion(run_promote(tracking)) == (
        "promoted demo v2 (run warm-owl-12, disentanglement_accuracy 0.61): beats v1 (0.55)"
    )


def test_a_worse_run_needs_force(tracking: Tracking, train: StartRun, client: MlflowClient) -> None:
    good = train("good", {ACCURACY: 0.7})
    run_promote(tracking)
    client.delete_run(good)
    train("worse", {ACCURACY: 0.5})
    with pytest.raises(InputError, match=r"0\.5: no better than champion v1 of demo.* 0\.7"):
        run_promote(tracking)
    assert client.get_model_version_by_alias("demo", "champion").version == 1
    forced = run_promote(tracking, force=True)
    assert format_promotion(forced).endswith("replaces, by force, v1 (0.7)")
    assert client.get_model_version_by_alias("demo", "champion").version == 2


def test_a_champion_by_another_metric_is_compared_by_its_run(
    tracking: Tracking, train: StartRun
) -> None:
    train("a", {ACCURACY: 0.9, "fid": 50.0})
    run_promote(tracking)
    train("b", {ACCURACY: 0.1, "fid": 20.0, "texture_accuracy": 0.3})
    result = run_promote(tracking, metric="fid")
    assert format_promotion(result).endswith("beats v1 (50)")
    assert run_promote(tracking, metric=ACCURACY).version == 3
    result = run_promote(tracking, metric="texture_accuracy")
    assert format_promotion(result).endswith("replaces v3, which has no texture_accuracy")


def test_the_alias_waits_for_the_version(
    tracking: Tracking, train: StartRun, monkeypatch: pytest.MonkeyPatch, client: MlflowClient
) -> None:
    train("a", {ACCURACY: 0.5})

    def killed(*arguments: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_model_version", killed)
        with pytest.raises(KeyboardInterrupt):
            run_promote(tracking)
    assert client.get_registered_model("demo").aliases == {}
    assert run_promote(tracking).version == 1


@pytest.mark.parametrize("damage", ["no bundle", "bad weights", "stage 1"])
def test_a_bundle_that_does_not_load_is_not_promoted(
    tracking: Tracking,
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
    with pytest.raises(ModelError, match=r"the best run, a.* cannot be promoted") as caught:
        run_promote(tracking)
    assert "\n" not in str(caught.value)
    assert client.search_registered_models() == []


def test_nothing_to_promote_is_told_in_one_line(tracking: Tracking, train: StartRun) -> None:
    with pytest.raises(InputError, match="no MLflow store"):
        promote("sqlite:////nowhere/mlflow.db", "exp", metric="fid", name="demo")
    train("going", {ACCURACY: 0.5}, status="RUNNING")
    with pytest.raises(InputError, match="no experiment 'other': known are Default, exp"):
        run_promote(tracking, experiment="other")
    with pytest.raises(InputError, match="has no finished run: train"):
        run_promote(tracking)
    train("half", {ACCURACY: 0.5}, stages="1")
    with pytest.raises(InputError, match="has no finished run with both stages"):
        run_promote(tracking)
    train("odd", {"fid": 3.0, ACCURACY: math.nan})
    with pytest.raises(InputError, match=f"finite '{ACCURACY}': they recorded .*fid"):
        run_promote(tracking)
    with pytest.raises(InputError, match="is no model name"):
        run_promote(tracking, name="a/b")
    with pytest.raises(InputError, match="cannot be used"):
        promote("http://127.0.0.1:9", "exp", metric="fid", name="demo")


def test_unknown_models_are_told_with_what_exists(
    tracking: Tracking, train: StartRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("MIXNMATCH_HOME", "nowhere")
        with pytest.raises(InputError, match=r"no MLflow store at .* MIXNMATCH_HOME"):
            fetch_model("models:/demo")
    run_id = train("a", {ACCURACY: 0.5})
    with pytest.raises(ModelError, match=r"no model 'demo' in sqlite.* there is none yet"):
        fetch_model("models:/demo")
    run_promote(tracking)
    for uri, message in {
        "models:/other": "no model 'other' .* known are demo",
        "models:/demo@best": "no alias 'best': known are champion",
        "models:/demo/7": "no version 7: known are 1",
        "models:/demo/Production": "names no model: write",
    }.items():
        with pytest.raises(ModelError, match=message):
            fetch_model(uri)
    shutil.rmtree(Path(tracking.artifact_location.removeprefix("file://")) / run_id)
    with pytest.raises(ModelError, match="not on this machine or was deleted"):
        fetch_model("models:/demo")


def test_remote_bundles_are_downloaded_once(
    tracking: Tracking, train: StartRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    train("a", {ACCURACY: 0.5})
    run_promote(tracking)
    monkeypatch.setattr(registry, "local_folder", lambda _: None)
    monkeypatch.setenv("MIXNMATCH_CACHE", str(tmp_path / "cache"))
    first = fetch_model("models:/demo@champion")
    assert first.is_relative_to(tmp_path / "cache" / "models" / "demo" / "1")
    assert load_bundle(first).stages == (1, 2)
    assert [path.name for path in first.parent.iterdir()] == [first.name]

    def refuse(*arguments: Any) -> Path:
        raise AssertionError("downloaded twice")

    monkeypatch.setattr(registry, "download", refuse)
    assert fetch_model("models:/demo@champion") == first
