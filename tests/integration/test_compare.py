"""``platform compare`` and what stands below it, on records written as trainings write them."""

import csv
import io
import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from made_experiment import (
    ACCURACY,
    BEST,
    DISTANCE,
    FAILED,
    FRONT,
    OTHERWISE,
    SETTINGS,
    WITHOUT,
    Made,
    made_sweep,
    protocol,
)
from mlflow import MlflowClient

from mixnmatch.errors import InputError, RunError
from mixnmatch.metrics.protocol import PROTOCOL
from mixnmatch_platform import cli
from mixnmatch_platform.artifacts import read_artifact
from mixnmatch_platform.compare import Experiment, parse_objective, read_experiment
from mixnmatch_platform.compare_table import heads
from mixnmatch_platform.importance import importance
from mixnmatch_platform.pareto import front
from mixnmatch_platform.report import gather
from mixnmatch_platform.report_words import failures, summary
from mixnmatch_platform.space import Objective
from mixnmatch_platform.tracking import REASON_TAG

pytestmark = pytest.mark.integration
Say = Callable[..., str]


@pytest.fixture(scope="module", autouse=True)
def no_settings() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Made:
    return made_sweep(tmp_path_factory.mktemp("runs"), empty_store=empty_store, pictures=0)


@pytest.fixture
def other(tmp_path: Path, empty_store: Path) -> Made:
    """An experiment of a test's own."""
    return Made(tmp_path / "runs", "other", empty_store)


@pytest.fixture
def say(made: Made, capsys: pytest.CaptureFixture[str]) -> Say:
    """What the command prints of the made sweep."""

    def run(*arguments: str, status: int = 0) -> str:
        capsys.readouterr()
        assert cli.main(["compare", "made", "--home", str(made.home), *arguments]) == status
        captured = capsys.readouterr()
        if status:
            assert captured.out == ""
            assert len(captured.err.splitlines()) == 1
            return captured.err
        assert "Downloading" not in captured.err
        return captured.out

    return run


def read(made: Made, *objectives: Objective, across: bool = False) -> Experiment:
    return read_experiment(made.tracking.uri, made.name, objectives, across=across)


@pytest.mark.parametrize(
    ("values", "modes", "expected"),
    [
        ([(1, 1), (2, 2), (1, 3)], ("min", "max"), [2]),
        ([(1, 1), (2, 2), (3, 3)], ("min", "max"), [0, 1, 2]),
        ([(1, 1), (1, 1)], ("min", "max"), [0, 1]),
        ([(3,), (5,), (5,)], ("max",), [1, 2]),
        ([], ("max",), []),
    ],
)
def test_fronts(values: Any, modes: Any, expected: list[int]) -> None:
    assert front(values, modes) == expected


def test_the_front_is_of_one_protocol_and_of_finished_runs(made: Made) -> None:
    experiment = read(made)
    assert {run.name for run in experiment.front} == FRONT
    unranked = {run.name for run in experiment.runs if run not in experiment.ranked}
    assert unranked == {FAILED, OTHERWISE, WITHOUT}
    assert list(experiment.protocols.values()) == [12, 1, 1]
    assert experiment.run(FAILED).figure(ACCURACY) is None, "recorded, but of the untrained model"

    together = read(made, across=True)
    assert {run.name for run in together.front} == {OTHERWISE, WITHOUT}


def test_one_objective_has_one_best_run(made: Made) -> None:
    experiment = read(made, Objective(DISTANCE, "min"))
    assert [run.name for run in experiment.front] == ["trial-0007"]
    assert [run.name for run in experiment.in_order()][:2] == ["trial-0007", BEST]


def test_the_table(say: Say) -> None:
    lines = say().splitlines()
    head = lines[0].split()
    for name in (ACCURACY, DISTANCE, "super_categories", "encode_p", "protocol", "minutes"):
        assert name in head
    assert "seed" not in head, "all have the same"
    starred = {line.split()[1] for line in lines if line.startswith("*  ")}
    assert starred == FRONT
    assert lines[1].startswith(f"*  {BEST}")
    text = "\n".join(lines)
    assert "± 0.01 " in lines[1]
    assert f"by chance: {ACCURACY} 0.27" in text
    assert "measured in 3 ways, which do not compare" in text
    (failed,) = [line for line in lines if FAILED in line]
    assert failed.endswith("failed: stage 1, step 40: generator/pair = nan")
    assert "0.27 " not in failed
    (otherwise,) = [line for line in lines if OTHERWISE in line]
    assert otherwise.endswith("measured otherwise")


def test_sorting_choosing_and_cutting(say: Say) -> None:
    text = say("--sort", DISTANCE, "--best", "3", "--columns", f"{DISTANCE},seed,status")
    lines = text.splitlines()
    assert lines[0].split()[:2] == ["run", DISTANCE]
    values = [float(line.replace("*", "").split()[1]) for line in lines[1:4]]
    assert values == sorted(values)
    assert lines[4] == ""
    assert lines[1].split()[-2:] == ["0", "FINISHED"]


def test_csv_and_markdown_hold_the_same_runs(say: Say) -> None:
    rows = list(csv.DictReader(io.StringIO(say("--csv"))))
    assert rows[0]["run"] == BEST
    assert {row["run"] for row in rows if row["front"] == "1"} == FRONT
    assert {row["run"] for row in rows if row["ranked"] == "0"} == {FAILED, OTHERWISE, WITHOUT}
    assert float(rows[0][f"low/{ACCURACY}"]) < float(rows[0][ACCURACY])
    (failed,) = [row for row in rows if row["run"] == FAILED]
    assert failed[ACCURACY] == ""
    table = [line for line in say("--markdown").splitlines() if line.startswith("|")]
    assert len(table) == len(rows) + 2
    assert len({line.count(" | ") for line in table}) == 1


def test_json_has_all_of_it(say: Say) -> None:
    found = json.loads(say("--json"))
    assert set(found["front"]) == FRONT
    assert found["objectives"][0] == {"metric": ACCURACY, "mode": "max", "chance": 0.27}
    best = found["runs"][0]
    assert best["figures"][ACCURACY]["high"] == pytest.approx(
        best["figures"][ACCURACY]["value"] + 0.01
    )
    assert set(best["settings"]) == set(SETTINGS)
    shares = found["importance"][ACCURACY]["shares"]
    assert next(iter(shares)) == "model.super_categories"
    assert sum(shares.values()) == pytest.approx(1)


def test_what_matters_is_told_from_chance(made: Made) -> None:
    experiment = read(made)
    accuracy, distance = (importance(experiment, goal) for goal in experiment.objectives)
    assert accuracy.trials == 12, "neither failed ones nor those of other protocols"
    assert accuracy.told("model.super_categories")
    assert not accuracy.told("fine_per_super")
    assert not any(distance.told(name) for name in distance.shares), "it was drawn at random"


def test_too_few_trials_are_refused(other: Made, capsys: pytest.CaptureFixture[str]) -> None:
    other.sweep((Objective(ACCURACY, "max"),))
    for number in range(9):
        other.run(f"t{number}", {ACCURACY: 0.3 + number / 100}, {"seed": number % 2})
    (goal,) = read(other).objectives
    found = importance(read(other), goal)
    assert (found.trials, found.shares) == (9, {})
    assert "9 trials are too few for 1 settings: it takes 10" in found.refused
    for seed in range(2):
        # The refit is no trial of its own.
        other.run(f"r{seed}", {ACCURACY: 0.5}, {"seed": seed}, kind="refit")
    assert importance(read(other), goal).trials == 9
    assert cli.main(["compare", "other", "--home", str(other.home)]) == 0
    assert "not said, 9 trials are too few" in capsys.readouterr().out


def test_bounds_of_the_sweep_hold_for_the_front(other: Made) -> None:
    other.sweep(constraints="leak at most 0.2; precision_512 at least 0.1 and at most 1")
    other.run("leaks", {ACCURACY: 0.6, DISTANCE: 20, "leak": 0.3, "precision_512": 0.5})
    other.run("tight", {ACCURACY: 0.5, DISTANCE: 30, "leak": 0.1, "precision_512": 0.5})
    other.run("poor", {ACCURACY: 0.7, DISTANCE: 20, "leak": 0.1, "precision_512": 0.05})
    assert [run.name for run in read(other).front] == ["tight"]


def test_a_protocol_is_found_in_the_files_of_older_runs(other: Made) -> None:
    other.run("old", {ACCURACY: 0.5}, kind="run", measured=protocol(), tagged=False)
    other.run("new", {ACCURACY: 0.5}, kind="run", measured=protocol())
    other.run("newer", {ACCURACY: 0.5}, kind="run", measured=protocol(samples=5000))
    (first, second) = read(other).protocols.items()
    assert first[1] == 2
    assert second[0].startswith("5,000 samples ")


def test_runs_that_tell_no_protocol_are_not_the_yardstick(other: Made) -> None:
    for name in ("a", "b"):
        other.run(name, {ACCURACY: 0.9}, kind="run")
    other.run("told", {ACCURACY: 0.5}, kind="run", measured=protocol())
    experiment = read(other, Objective(ACCURACY, "max"))
    assert [run.name for run in experiment.ranked] == ["told"]
    assert list(experiment.protocols.values()) == [1, 2]


def test_a_run_that_was_trained_on_and_failed_is_said(
    other: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = other.run("again", {ACCURACY: 0.5}, kind="run", measured=protocol())
    other.client.set_tag(run_id, REASON_TAG, "stage 2, step 9: out of memory")
    other.client.set_terminated(run_id, "FAILED")
    (run,) = failures(read(other))
    assert run.figure(ACCURACY) is not None
    assert cli.main(["compare", "other", "--home", str(other.home)]) == 0
    assert "failed: stage 2, step 9: out of memory" in capsys.readouterr().out


def test_a_report_leaves_out_what_is_no_number_and_names_the_best_within_bounds(
    other: Made,
) -> None:
    other.sweep((Objective(ACCURACY, "max"),), constraints="leak at most 0.2")
    other.run("leaks", {ACCURACY: 0.9, "leak": 0.3}, measured=protocol())
    run_id = other.run("tight", {ACCURACY: 0.5, "leak": 0.1}, measured=protocol())
    for step, value in ((1, math.nan), (2, math.inf)):
        other.client.log_metric(run_id, ACCURACY, value, step=step)
    report = gather(read(other), best=2)
    curves = {curve.run.name: curve.points for curve in report.curves[ACCURACY]}
    assert len(curves["tight"]) == len(curves["leaks"]) > 0
    assert all(
        math.isfinite(value) for points in curves.values() for point in points for value in point
    )
    (best,) = [line for line in summary(report) if line.startswith("The best ")]
    assert "by tight" in best


def test_a_file_that_cannot_be_fetched_is_not_one_that_is_not_there(other: Made) -> None:
    run_id = other.run("a", {ACCURACY: 0.5}, kind="run", measured=protocol())
    assert read_artifact(other.client, run_id, "no/such.json") is None
    shutil.rmtree(other.home / "artifacts")
    assert read_artifact(other.client, run_id, PROTOCOL) is None

    class Away:
        def list_artifacts(self, *_: object) -> Any:
            raise ConnectionError("the bucket is away")

    with pytest.raises(
        RunError, match=r"evaluation-protocol.json of run a1 cannot be .* bucket is away"
    ):
        read_artifact(cast(MlflowClient, Away()), "a1", PROTOCOL)


def test_heads_that_would_be_alike_stay_whole() -> None:
    columns = ["stage1.steps", "stage2.steps", "model.image_size", ACCURACY]
    assert heads(columns) == ["stage1.steps", "stage2.steps", "image_size", f"{ACCURACY} ↑"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--sort", "acuracy/shape"), "min:"),
        (("--sort", f"feature_{ACCURACY}"), f"did you mean {ACCURACY}"),
        (("--columns", "sed"), "did you mean seed"),
        (("--objectives", "fid_5k"), "has fid_5k"),
        (("--objectives", f"min:{ACCURACY}"), "more of disentanglement_accuracy is better"),
        (("--best", "0"), "--best is 0"),
        (("--between", BEST, "nothing"), "no run 'nothing' in experiment 'made'"),
    ],
)
def test_what_cannot_be_compared_is_said(
    arguments: tuple[str, ...], message: str, say: Say
) -> None:
    assert message in say(*arguments, status=2)


def test_nothing_to_compare(other: Made, capsys: pytest.CaptureFixture[str]) -> None:
    other.sweep()
    assert cli.main(["compare", "other", "--home", str(other.home)]) == 2
    assert "has no runs yet" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"no experiment 'gone' .*other"):
        read_experiment(other.tracking.uri, "gone")


def test_objectives_in_words() -> None:
    assert parse_objective("fid_5k") == Objective("fid_5k", "min")
    assert parse_objective("max:own_figure") == parse_objective("max own_figure")
    with pytest.raises(InputError, match="min:own_figure or max:own_figure"):
        parse_objective("own_figure")


def test_between_sets_differences_beside_the_noise(other: Made, say: Say) -> None:
    text = say("--between", BEST, "trial-0002")
    (accuracy,) = [line for line in text.splitlines() if line.startswith(f"  {ACCURACY}")]
    assert accuracy.split()[-3:] == ["±", "0.014", "worse"]
    assert "model.super_categories" in text
    assert "the same: measurement" in text

    near = json.loads(say("--between", "trial-0000", "trial-0004", "--json"))
    assert near["figures"][ACCURACY]["verdict"] == "not told apart"
    assert near["figures"][DISTANCE]["verdict"] == "", "of which no interval is known"
    assert near["comparable"]


def test_between_compares_no_figures_of_two_protocols(say: Say) -> None:
    found = json.loads(say("--between", BEST, OTHERWISE, "--json"))
    assert found["why_not"] == "they were measured otherwise: generated.samples differ"
    assert found["differing"]["measurement"] == {"generated.samples": ["512", "64"]}
    assert found["figures"][ACCURACY]["difference"] is None
    text = say("--between", BEST, OTHERWISE)
    assert "NOT to be compared: they were measured otherwise" in text
    assert "better" not in text
    assert "worse" not in text
    assert "not recorded how both" in say("--between", BEST, WITHOUT)
    assert f"{FAILED} did not come to the end" in say("--between", BEST, FAILED)


def test_between_looks_at_code_data_machines_and_versions(
    other: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    tags = {
        "mlflow.source.git.commit": "c0ffee",
        "mixnmatch.data_fingerprint": "f00d",
        "mixnmatch.host_gpus": "none",
        "mixnmatch.torch": "2.15.0",
    }
    changed = {**tags, "mixnmatch.host_gpus": "H100", "mixnmatch.torch": "2.16.0"}
    changed |= {"code.diff": "-a\n+b\n", "mixnmatch.data_fingerprint": "beef"}
    other.run("a", {ACCURACY: 0.5}, {"seed": 1}, kind="run", tags=tags, measured=protocol())
    other.run("b", {ACCURACY: 0.5}, {"seed": 2}, kind="run", tags=changed, measured=protocol())
    between = ["compare", "other", "--home", str(other.home), "--between", "a", "b", "--json"]
    assert cli.main(between) == 0
    found = json.loads(capsys.readouterr().out)["differing"]
    assert found["settings"] == {"seed": ["1", "2"]}
    assert found["code"] == {"not committed": ["none", "2 lines, code.diff"]}
    assert found["data"] == {"fingerprint": ["f00d", "beef"]}
    assert found["hardware"] == {"host_gpus": ["none", "H100"]}
    assert found["versions"] == {"torch": ["2.15.0", "2.16.0"]}
