"""A sweep's study without Ray: what it proposes, when it stops trials, what a kill changes."""

import math
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from mixnmatch_platform.space import Constraint, Halving, Objective, SearchSpace
from mixnmatch_platform.study import Study

pytestmark = pytest.mark.integration

DISTANCE, ACCURACY = Objective("distance", "min"), Objective("accuracy", "max")
SPACE = SearchSpace(
    super_categories=(2, 3, 4),
    fine_per_super=(2, 4),
    weights={"encode_p": (1.0, 100.0)},
    ranges={"stage1.lr": (1e-5, 1e-3)},
    choices={"model.pack_size": (1, 2)},
)

Open = Callable[..., Study]


@pytest.fixture
def open_study(tmp_path: Path) -> Open:
    def make(folder: str = "sweep", **changes: Any) -> Study:
        settings: dict[str, Any] = {"space": SPACE, "objectives": (DISTANCE,), "trials": 12}
        return Study(tmp_path / folder, **{**settings, **changes})

    return make


def figures(settings: Mapping[str, Any]) -> dict[str, float]:
    """Best at few categories, a weight of 10 and a rate of 1e-4."""
    off = math.log10(settings["weights.encode_p"] / 10) ** 2
    off += math.log10(settings["stage1.lr"] / 1e-4) ** 2
    return {"distance": off + settings["model.fine_categories"], "accuracy": 1 - off / 8}


def run(study: Study, most: int = 100) -> list[dict[str, Any]]:
    """Run trials one by one; the study's answer to each is told at once."""
    done: list[dict[str, Any]] = []
    while len(done) < most and (proposal := study.next()) is not None:
        done.append(proposal.settings)
        study.complete(proposal.number, figures(proposal.settings))
    return done


def test_the_same_seed_proposes_the_same_trials(open_study: Open) -> None:
    one, two, other = (
        run(open_study(name, seed=seed)) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert len(one) == 12
    assert one == two
    assert one != other
    assert len({str(settings) for settings in one}) == 12
    for settings in one:
        supers = settings["model.super_categories"]
        assert settings["model.fine_categories"] == supers * settings["fine_per_super"]
        assert 1 <= settings["weights.encode_p"] <= 100
        assert 1e-5 <= settings["stage1.lr"] <= 1e-3


def test_a_study_opened_again_goes_on_as_if_nothing_had_happened(open_study: Open) -> None:
    undisturbed = run(open_study("a"))
    done: list[dict[str, Any]] = []
    for most in (1, 4, 2, 100):
        done += run(open_study("b"), most)
    assert done == undisturbed


def test_a_trial_that_was_left_running_is_handed_out_again(open_study: Open) -> None:
    study = open_study()
    run(study, 3)
    left = [study.next(), study.next()]
    again = open_study()
    assert [again.next(), again.next()] == left
    assert again.counts() == {"finished": 3, "pruned": 0, "failed": 0, "running": 2}
    fresh = again.next()
    assert fresh is not None
    assert fresh.number == 5


KILLED = """
import os, signal, sys
sys.path[:0] = {path!r}
from pathlib import Path
from test_study import DISTANCE, SPACE, figures
from mixnmatch_platform.study import Study
study = Study(Path({folder!r}), space=SPACE, objectives=(DISTANCE,), trials=12)
for number in range({kill_at} + 1):
    proposal = study.next()
    if proposal.number == {kill_at}:
        os.kill(os.getpid(), signal.SIGKILL)
    study.complete(proposal.number, figures(proposal.settings))
"""


@pytest.mark.parametrize("kill_at", [0, 5])
def test_a_killed_driver_changes_nothing(open_study: Open, tmp_path: Path, kill_at: int) -> None:
    undisturbed = run(open_study("a"))
    script = KILLED.format(
        path=[str(Path(__file__).parent), *sys.path], folder=str(tmp_path / "b"), kill_at=kill_at
    )
    killed = subprocess.run([sys.executable, "-c", script], check=False)
    assert killed.returncode == -signal.SIGKILL
    study = open_study("b")
    assert study.counts()["finished"] == kill_at
    rest = run(study)
    assert rest == undisturbed[kill_at:]
    assert study.counts() == {"finished": 12, "pruned": 0, "failed": 0, "running": 0}


def test_trials_that_fail_count_as_the_worst(open_study: Open) -> None:
    study = open_study()
    first = study.next()
    assert first is not None
    study.fail(first.number, "nothing to be worst of yet")
    run(study, 5)
    diverged, unlucky = study.next(), study.next()
    assert diverged is not None
    assert unlucky is not None
    study.complete(diverged.number, {"distance": math.nan, "accuracy": 0.5})
    study.fail(unlucky.number, "the machine's fault", its_fault=False)
    trials = study._frozen()
    worst = max(t.value for t in study.completed() if t.value is not None)
    assert trials[diverged.number].value == worst
    assert trials[unlucky.number].value is None
    assert study.counts() == {"finished": 5, "pruned": 0, "failed": 3, "running": 0}
    assert study.reasons() == [
        "nothing to be worst of yet",
        "distance is nan",
        "the machine's fault",
    ]
    assert [status for _, status, _ in study.endings()] == ["FAILED"] * 3
    ((best, _),) = study.best()
    assert best.number not in (first.number, diverged.number, unlucky.number)


def halve(study: Study, numbers: Mapping[int, float], rungs: tuple[int, ...]) -> dict[int, int]:
    """Run trials by turns; returns the pictures that each was stopped at, 0 for none."""
    stopped = dict.fromkeys(numbers, 0)
    for images in rungs:
        for number, value in numbers.items():
            if not stopped[number] and study.stop_early(number, images, value / images):
                stopped[number] = images
    return stopped


def test_halving_keeps_the_best_third_and_survives_being_opened_again(open_study: Open) -> None:
    halving = Halving(first_images=100, factor=3)

    def begin(name: str) -> tuple[Study, dict[int, float]]:
        study = open_study(name, halving=halving)
        proposals = [study.next() for _ in range(9)]
        return study, {p.number: float(p.number) for p in proposals if p is not None}

    study, trials = begin("a")
    whole = halve(study, trials, (100, 200, 300, 900))
    # Asynchronous: the first ones to come to a rung have nobody to be worse than.
    assert whole[0] == 0
    assert sum(at == 100 for at in whole.values()) >= 5
    assert study.counts()["pruned"] == sum(at > 0 for at in whole.values())
    assert all("stopped early" in reason for *_, reason in study.endings())

    study, trials = begin("b")
    first = halve(study, trials, (100, 200))
    study = open_study("b", halving=halving)
    left = {number: trials[number] for number, at in first.items() if not at}
    assert [p.number for p in iter(lambda: study.next() if study._waiting else None, None)] == list(
        left
    )
    again = halve(study, left, (200, 300, 900))  # 200 is told a second time
    assert {**first, **again} == whole


def test_several_objectives_give_a_front_within_the_constraints(open_study: Open) -> None:
    goals = (DISTANCE, ACCURACY)
    bound = Constraint(metric="distance", high=9.0)
    study = open_study(objectives=goals, constraints=(bound,), trials=30)
    run(study)
    front = study.best()
    assert front
    assert all(values[0] <= 9 for _, values in front)
    for _, (distance, accuracy) in front:
        for trial in study.completed():
            if trial.values[0] <= 9:
                assert not (trial.values[0] < distance and trial.values[1] > accuracy)
    # The sampler looks where the constraint lets it: more of the later trials satisfy it.
    kept = [trial.values[0] <= 9 for trial in study.completed()]
    assert sum(kept[15:]) > sum(kept[:15])
    assert Constraint(metric="x", low=1.0).violation({"x": 0.25}) == 0.75
    assert Constraint(metric="x", low=1.0).violation({}) > 0


def test_a_warm_start_takes_what_the_space_has_and_once(open_study: Open) -> None:
    study = open_study(trials=2)
    settings = {
        "model.super_categories": 3,
        "model.fine_categories": 6,
        "weights.encode_p": 10.0,
        "stage1.lr": 1e-4,
        "model.pack_size": 2,
        "seed": 0,
    }
    assert study.add(settings, {"distance": 1.0}, "a" * 32)
    assert not study.add(settings, {"distance": 1.0}, "a" * 32), "the same run"
    for key, value in (
        ("weights.encode_p", 1000.0),
        ("model.fine_categories", 7),
        ("model.fine_categories", 9),
        ("model.pack_size", 4),
        ("stage1.lr", "fast"),
    ):
        assert not study.add({**settings, key: value}, {"distance": 1.0}, "b" * 32), key
    assert not study.add(settings, {"distance": math.nan}, "b" * 32)
    assert not study.add(settings, {}, "b" * 32)
    done = run(study)
    assert len(done) == 2, "those of before are not among the sweep's own"
    assert study.counts()["finished"] == 2


def test_the_journal_is_a_file_that_optuna_reads(open_study: Open, tmp_path: Path) -> None:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    run(open_study(), 3)
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "sweep" / "study.journal")))
    study = optuna.load_study(study_name="sweep", storage=storage)
    assert len(study.trials) == 3
    assert [file.name for file in (tmp_path / "sweep").iterdir()] == ["study.journal"]


def test_settings_are_not_proposed_twice_where_there_are_only_choices(tmp_path: Path) -> None:
    space = SearchSpace(super_categories=(2, 3), fine_per_super=(1, 2), choices={"seed": (0, 1)})
    assert space.size == 8

    def proposals(folder: Path, reopen: bool) -> list[dict[str, Any]]:
        def opened() -> Study:
            return Study(folder, space=space, objectives=(Objective("a", "max"),), trials=8)

        study, found = opened(), []
        while (proposal := study.next()) is not None:
            found.append(proposal.settings)
            # Always better with fewer categories: what TPE would propose for ever.
            figure = -proposal.settings["model.fine_categories"]
            study.complete(proposal.number, {"a": float(figure)})
            study = opened() if reopen else study
        return found

    once = proposals(tmp_path / "once", reopen=False)
    assert len({str(sorted(settings.items())) for settings in once}) == 8
    assert proposals(tmp_path / "again", reopen=True) == once
