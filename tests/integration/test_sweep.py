"""A sweep on a real Ray cluster and a real MLflow store, promoted and used."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from mlflow import MlflowClient
from PIL import Image

from mixnmatch import cli
from mixnmatch.config import RunConfig
from mixnmatch.data.store import open_dataset
from mixnmatch.errors import ConfigError, InputError
from mixnmatch.settings import flatten, override
from mixnmatch_platform import cli as platform_cli
from mixnmatch_platform.experiment import main
from mixnmatch_platform.sweep import Halving, Objective, SearchSpace, Sweep, describe
from mixnmatch_platform.tuning import run_sweep

pytestmark = pytest.mark.integration
ACCURACY = Objective("disentanglement_accuracy", "max")
SPACE = SearchSpace(
    super_categories=(2, 3),
    fine_per_super=(2, 4),
    weights={"encode_p": (5.0, 20.0)},
    choices={"stage1.augment": ("", "color,translation"), "weights.child_r1": (0, 0.5)},
)


@pytest.fixture
def sweep(home: Path, drawn_data: Path, tiny_config: RunConfig) -> Sweep:
    return Sweep(
        name="small",
        data=drawn_data,
        config=tiny_config,
        space=SPACE,
        trials=2,
        concurrent=2,
        objectives=(ACCURACY,),
        home=home,
    )


@pytest.mark.usefixtures("ray_cluster")
def test_sweep_records_promotes_and_mixes(
    sweep: Sweep,
    drawn_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Relative paths, as people type them: trials run in folders of their own.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(drawn_data)
    result = run_sweep(replace(sweep, data=Path("data"), home=Path("runs")))
    assert (result.finished, result.failed) == (2, 0)

    client = MlflowClient(sweep.tracking.uri)
    experiment = client.get_experiment_by_name("small")
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if run.data.tags["mixnmatch.kind"] == "sweep"]
    trials = [run for run in runs if run.data.tags["mixnmatch.kind"] == "trial"]
    assert len(trials) == 2
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len({run.data.tags["mixnmatch.command"] for run in runs}) == 1
    assert "trials are nested" in parent.data.tags["mlflow.note.content"]
    assert "disentanglement_accuracy" in experiment.tags["mlflow.note.content"]
    assert "mlflow.sharedViewState.small" in experiment.tags
    assert len({run.data.tags["mixnmatch.protocol"] for run in trials}) == 1
    for run in trials:
        assert "`fine_per_super`" in run.data.tags["mlflow.note.content"]
    assert parent.data.metrics["disentanglement_accuracy"] == result.best[0].values[0]
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {parent.info.run_id}
    best = max(trials, key=lambda run: run.data.metrics["disentanglement_accuracy"])
    assert best.data.metrics["disentanglement_accuracy"] == pytest.approx(result.best[0].values[0])
    for run in trials:
        supers = int(run.data.params["model.super_categories"])
        fine = int(run.data.params["model.fine_categories"])
        assert supers in (2, 3)
        assert fine / supers in (2, 4)
        assert 5 <= float(run.data.params["weights.encode_p"]) <= 20
        assert run.data.params["stage1.augment"] in ("", "color,translation")
        assert float(run.data.params["weights.child_r1"]) in (0, 0.5)
        losses = client.get_metric_history(run.info.run_id, "stage1/generator/pair")
        assert [metric.step for metric in losses] == [1, 2, 3, 4, 5, 6]
        files = {item.path for item in client.list_artifacts(run.info.run_id)}
        assert {"bundle", "checkpoints", "images", "config.json"} <= files
        states = client.list_artifacts(run.info.run_id, "checkpoints")
        assert {item.path for item in states} == {"checkpoints/stage1.pt", "checkpoints/stage2.pt"}

    promote = "promote --experiment small --metric disentanglement_accuracy --model birds"
    assert platform_cli.main(promote.split()) == 0
    assert "promoted birds v1" in capsys.readouterr().out
    assert platform_cli.main(["champion", "birds"]) == 0
    assert "chance" in capsys.readouterr().out

    picture = tmp_path / "a.png"
    picture.write_bytes(open_dataset(drawn_data)[0].image)
    for mode in ("code", "feature"):
        out = tmp_path / f"{mode}.png"
        sources = [f"--{name}={picture}" for name in ("background", "pose", "shape", "texture")]
        model = ["--model", "models:/birds@champion", "--mode", mode, "--out", str(out)]
        assert cli.main(["mix", *sources, *model]) == 0
        with Image.open(out) as mixed:
            assert mixed.size == (32, 32)


@pytest.mark.usefixtures("ray_cluster")
def test_a_trial_may_train_on_workers_of_its_own(sweep: Sweep) -> None:
    result = run_sweep(replace(sweep, trials=1, concurrent=1, workers=1, cpus_per_worker=0.9))
    assert (result.finished, result.failed) == (1, 0)
    assert (sweep.folder / result.best[0].name / "ray").is_dir()


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_trials_that_are_behind_are_stopped_at_a_rung(sweep: Sweep, workers: int) -> None:
    changes = {
        "stage1.steps": 40,
        "evaluation.every_steps": 10,
        "evaluation.every_samples": 8,
        "checkpoint_every_steps": 10,
        "sample_every_steps": 40,
    }
    halved = replace(
        sweep,
        config=override(sweep.config, changes),
        trials=4,
        objectives=(Objective("frechet_factors_8", "min"),),
        halving=Halving(first_images=40, factor=2),
        workers=workers,
        cpus_per_worker=0.9,
        concurrent=1 if workers else 2,
    )
    result = run_sweep(halved)
    assert result.failed == 0
    assert result.pruned > 0
    assert result.finished + result.pruned == 4

    client = MlflowClient(sweep.tracking.uri)
    experiment = client.get_experiment_by_name("small")
    runs = client.search_runs([experiment.experiment_id], "tags.`mixnmatch.kind` = 'trial'")
    assert {run.info.status for run in runs} == {"FINISHED"}
    early = 0
    for run in runs:
        losses = client.get_metric_history(run.info.run_id, "stage1/generator/pair")
        if run.data.tags.get("mixnmatch.reason"):
            early += 1
            said = re.fullmatch(
                r"stopped early, at (\d+) pictures", run.data.tags["mixnmatch.reason"]
            )
            assert said is not None
            # It ends with the next step; on workers it takes up to a second to hear of it.
            assert len(losses) == int(said[1]) / 4 + 1 or workers
            assert "feature_disentanglement_accuracy" not in run.data.metrics
        else:
            assert len(losses) == 40
    assert early == result.pruned


def test_dry_run_says_what_a_sweep_would_do(
    sweep: Sweep, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(sweep, ["--dry-run", "--trials", "7"]) == 0
    said = capsys.readouterr().out
    for part in (
        "7 trials",
        "model.super_categories",
        "one of 2, 3",
        "super × 2 or 4",
        "weights.encode_p",
        "stage1.augment              one of '', 'color,translation'",
        "weights.child_r1            one of 0, 0.5",
        "a trial takes 1 CPU",
        str(home / "small"),
        "mlflow.db",
    ):
        assert part in said
    assert not home.exists(), "a dry run writes nothing"


def test_trials_on_workers_count_their_driver(sweep: Sweep) -> None:
    wide = replace(sweep, workers=2, cpus_per_worker=4, gpus_per_worker=1)
    assert wide.trial_resources == {"CPU": pytest.approx(8.01), "GPU": 2.0}
    assert "on 2 worker(s)" in describe(wide)


@pytest.mark.parametrize("setting", ["weights.encode_p=7", "weights.child_r1=1"])
def test_what_is_searched_cannot_be_set(
    sweep: Sweep, setting: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(sweep, ["--dry-run", "--set", setting]) == 2
    assert f"{setting.partition('=')[0]} is searched" in capsys.readouterr().err


def test_every_choice_reaches_the_trials(sweep: Sweep) -> None:
    choices = {
        "model.pack_size": (1, 2),
        "stage1.lr": (1e-4, 4e-4),
        "stage1.ema_half_life_images": (None, 1000),
        "seed": (0, 1),
    }
    small = replace(sweep, space=replace(SPACE, choices=choices))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen: dict[str, set[object]] = {key: set() for key in choices}
    for _ in range(20):
        trial = study.ask()
        derived = small.space.suggest(trial)
        config = flatten(small.trial_config(trial.params | derived))
        for key, values in seen.items():
            assert config[key] == trial.params[key]
            values.add(config[key])
        supers = trial.params["model.super_categories"]
        assert config["model.fine_categories"] == supers * trial.params["fine_per_super"]
    assert seen == {key: set(values) for key, values in choices.items()}


def test_what_is_wrong_is_said_before_a_trial_starts(
    sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=r"fid is not measured .* evaluation\.inception_weights"):
        run_sweep(replace(sweep, objectives=(Objective("fid", "min"),)))
    with pytest.raises(InputError, match=r"too few for batches of 4 on 20 worker"):
        run_sweep(replace(sweep, workers=20))
    assert main(sweep, ["--data", "nowhere"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [({"trials": 0}, "trials is 0"), ({"refit_steps": 3}, "refit_steps is 3")],
)
def test_impossible_sweeps_are_refused(sweep: Sweep, change: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(sweep, **change)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"no_such": (1.0, 2.0)}, "unknown loss weight no_such"),
        ({"pair": (2.0, 1.0)}, "low < high"),
    ],
)
def test_impossible_spaces_are_refused(
    weights: dict[str, tuple[float, float]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(SPACE, weights=weights)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"stage1.learning_rate": (1e-4,)}, "unknown configuration key stage1.learning_rate"),
        ({"stage1": (1,)}, "unknown configuration key stage1"),
        ({"stage1.augment": ("", "colour")}, "stage1.augment is 'colour'"),
        ({"stage1.augment": ("color")}, "choices of stage1.augment is 'color': .* a tuple"),
        ({"stage1.lr": ()}, r"choices of stage1.lr is \(\): it must be a tuple"),
        ({"stage1.lr": (1e-4, "fast")}, "stage1.lr is 'fast': it must be of type float"),
        ({"model.pack_size": (1, 3)}, "model.pack_size is 3: it must be a divisor of the 4"),
        ({"weights.child_r1": (0, -1)}, "weights.child_r1 is -1"),
        ({"weights.encode_p": (0, 1)}, "weights.encode_p is searched already"),
        ({"model.fine_categories": (4, 8)}, "model.fine_categories is searched already"),
        ({"seed": range(5)}, "choices of seed is range"),
        ({"seed": tuple(range(10_001))}, "combinations of choices is 10001: .* at most 10000"),
    ],
)
def test_impossible_choices_are_refused(
    sweep: Sweep, choices: dict[str, tuple[Any, ...]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(sweep, space=replace(SPACE, choices=choices))


def test_choices_are_checked_together(sweep: Sweep) -> None:
    # Neither goes with the other settings of the sweep alone.
    space = replace(SPACE, choices={"model.pack_size": (3,), "stage1.batch_size": (6, 9)})
    replace(sweep, space=space)
    space = replace(SPACE, choices={"model.pack_size": (1, 3), "stage1.batch_size": (6, 8)})
    with pytest.raises(ConfigError, match=r"model\.pack_size is 3: .* divisor of the 8"):
        replace(sweep, space=space)


def test_a_setting_that_no_choice_goes_with_is_refused(
    sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = replace(sweep, space=replace(SPACE, choices={"model.pack_size": (1, 2)}))
    assert main(packed, ["--dry-run", "--set", "stage1.batch_size=7"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_rungs_compare_what_is_better_where_the_objective_is(sweep: Sweep) -> None:
    halving = Halving(first_images=8, metric="frechet_factors_8")
    config = override(sweep.config, {"evaluation.every_steps": 2})
    with pytest.raises(
        ConfigError, match=r"halving.metric is frechet_factors_8: .* of which more is better"
    ):
        replace(sweep, config=config, halving=halving)
    with pytest.raises(ConfigError, match="objective max fid_5k: less of fid_5k is better"):
        Objective("fid_5k", "max")


def test_the_refit_is_longer_than_any_trial(sweep: Sweep) -> None:
    space = replace(SPACE, choices={"stage1.steps": (10, 20)})
    replace(sweep, space=space, refit_steps=21)
    with pytest.raises(ConfigError, match="more than the trials' 20"):
        replace(sweep, space=space, refit_steps=20)
