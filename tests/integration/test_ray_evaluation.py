"""``platform evaluate``: the figures of one process, from Ray workers."""

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

from mixnmatch import cli
from mixnmatch.bundle import load_bundle
from mixnmatch.config import RunConfig
from mixnmatch.data.store import open_dataset
from mixnmatch.errors import DataError, RunError
from mixnmatch.metrics.evaluate import evaluate
from mixnmatch.metrics.measure import Observations, Observer, Subject
from mixnmatch_platform import cli as platform_cli
from mixnmatch_platform.evaluate import RayRunner
from mixnmatch_platform.output import results_alone

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("ray_cluster")]


@pytest.fixture
def subject(tiny: RunConfig, tiny_bundle: Path, drawn_data: Path) -> Subject:
    config = replace(tiny.evaluation, metrics="all", samples=70)
    dataset = open_dataset(drawn_data)
    return Subject(bundle=load_bundle(tiny_bundle), dataset=dataset, config=config)


def test_workers_measure_what_one_process_measures(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without what the other has kept: real pictures are looked at by workers, too.
    alone = evaluate(subject)
    monkeypatch.setenv("MIXNMATCH_CACHE", str(tmp_path))
    shared = evaluate(subject, runner=RayRunner(2))
    assert list(tmp_path.glob("features-*"))
    assert shared.figures.keys() == alone.figures.keys()
    for name, figure in alone.figures.items():
        for part in ("value", "low", "high", "chance"):
            one, many = getattr(figure, part), getattr(shared.figures[name], part)
            if one is None or math.isnan(one):
                assert many is None or math.isnan(many), name
            else:
                assert many == pytest.approx(one, rel=1e-6, abs=1e-6), name


def failing(error: BaseException | None) -> Observer:
    """An observer that raises this, or dies of nothing."""

    class Failing(Observer):  # in here it is sent whole: workers cannot import tests
        @property
        def count(self) -> int:
            return 40

        def observe(self, cases: range) -> Observations:
            if error is None:
                os._exit(1)
            raise error

    return Failing()


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (DataError("a.jpg: cannot be read"), DataError, "a.jpg: cannot be read"),
        (ValueError("odd"), RunError, "a worker could not evaluate: ValueError"),
        (None, RunError, "workers died again and again"),
    ],
)
def test_what_fails_on_a_worker_is_one_line(
    subject: Subject, error: BaseException | None, kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        RayRunner(1)(failing(error), subject, "failing")


def test_the_command_prints_the_same_table(
    tiny_bundle: Path, drawn_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    what = [str(tiny_bundle), str(drawn_data), "--metrics", "factors,codes", "--json"]
    with results_alone():  # the session's Ray, which earlier tests used, may still speak
        assert cli.main(["evaluate", *what]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert platform_cli.main(["evaluate", *what, "--workers", "2"]) == 0
    shared = json.loads(capsys.readouterr().out)
    assert shared["figures"] == alone["figures"]
    assert shared["protocol"] == alone["protocol"]
    assert platform_cli.main(["evaluate", *what, "--workers", "0"]) == 2
    assert "--workers is 0" in capsys.readouterr().err
