import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from made_evaluation import made_evaluation

from mixnmatch import cli
from mixnmatch.bundle import load_bundle, save_bundle
from mixnmatch.config import MEASURES
from mixnmatch.data.store import Dataset
from mixnmatch.metrics.evaluate import Evaluation, Runner
from mixnmatch.metrics.judge import load_judge
from mixnmatch.metrics.measure import Subject
from mixnmatch.metrics.protocol import PROTOCOLS
from mixnmatch.metrics.weights import VARIABLE
from mixnmatch.settings import override

Refused = Callable[..., str]
Capture = pytest.CaptureFixture[str]


def run(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on what lies on the machine."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


class Asked:
    """Stands in for the measuring; keeps what was asked for."""

    subject: Subject
    exhibits: bool

    def __call__(self, subject: Subject, *, runner: Runner, exhibits: bool = False) -> Evaluation:
        self.subject, self.exhibits = subject, exhibits
        return made_evaluation()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    stand_in = Asked()
    monkeypatch.setattr("mixnmatch.metrics.evaluate.evaluate", stand_in)
    return stand_in


# Measured for real


def test_evaluate(
    tiny_bundle: Path, tiny_dataset: Dataset, tmp_path: Path, capsys: Capture
) -> None:
    data, page = tiny_dataset.path, tmp_path / "pages" / "page.html"
    command = ("evaluate", tiny_bundle, data, "--samples", 9, "--metrics", "factors,masks")
    assert run(*command, "--json", "--page", page) == 0
    printed = capsys.readouterr()
    measured = json.loads(printed.out)
    assert (measured["model"], measured["data"]) == (str(tiny_bundle), str(data))
    assert measured["protocol"]["generated"]["samples"] == 9
    assert set(measured["seconds"]) == {"factors", "masks"}
    figures = measured["figures"]
    assert {figure["group"] for figure in figures.values()} == {"factors", "masks"}
    accuracy = figures["disentanglement_accuracy"]
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    assert 0 < accuracy["chance"] < 1
    assert "fid" not in figures
    assert "fid" not in printed.err, "it was not asked for"
    text = page.read_text(encoding="utf-8").replace("<wbr>", "")
    assert all(name in text for name in figures)
    assert "<img " in text
    assert [path.name for path in page.parent.iterdir()] == ["page.html"]

    assert run(*command) == 0
    again = capsys.readouterr()
    rows = [line.split()[0] for line in again.out.splitlines()[1:] if line.startswith("  ")]
    assert rows == list(figures)


def test_a_dry_run_names_what_would_be_measured(
    tiny_bundle: Path,
    tiny_dataset: Dataset,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("MIXNMATCH_CACHE", str(cache))
    command = ("evaluate", tiny_bundle, tiny_dataset.path, "--protocol", "quick", "--dry-run")
    assert run(*command, "--metrics", "factors,masks") == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0].startswith("would measure on 512 samples")
    *lines, taught = lines
    assert taught.startswith(f"the classifier would be taught, 2 steps: {cache / 'judge-'}")
    groups = [line for line in lines[1:] if not line.startswith("  ")]
    assert groups == ["factors", "masks"]
    assert "  disentanglement_accuracy" in lines
    assert run(*command, "--json") == 0
    would = json.loads(capsys.readouterr().out)
    assert would["samples"] == 512
    assert {name: oracle["cached"] for name, oracle in would["oracles"].items()} == {
        "classifier": False,
        "localiser": False,
    }
    assert not cache.exists(), "nothing was trained"
    load_judge(tiny_dataset, 32, steps=2)
    (judge,) = cache.iterdir()
    assert run(*command) == 0
    known, unknown = capsys.readouterr().out.splitlines()[-2:]
    assert known == f"the classifier is in the cache: {judge}"
    assert unknown.startswith("the localiser would be taught, 2 steps: ")


# What is asked for


def test_what_the_options_ask_for(
    asked: Asked, tiny_bundle: Path, tiny_dataset: Dataset, tmp_path: Path, capsys: Capture
) -> None:
    command = ("evaluate", tiny_bundle, tiny_dataset.path)
    assert run(*command) == 0
    config = asked.subject.config
    assert (config.samples, config.groups) == (8, MEASURES), "the model's own samples, all groups"
    assert (config.inception_weights, asked.exhibits, asked.subject.seed) == ("auto", False, 0)
    assert run(*command, "--protocol", "5k", "--seed", 3, "--inception-weights", "none") == 0
    config = asked.subject.config
    assert (config.samples, config.inception_weights, asked.subject.seed) == (5000, None, 3)
    page = ("--page", tmp_path / "page.html")
    assert run(*command, "--protocol", "5k", "--samples", 99, "--metrics", "codes", *page) == 0
    config = asked.subject.config
    assert (config.samples, config.groups, asked.exhibits) == (99, ("codes",), True)
    assert f"wrote {tmp_path / 'page.html'}\n" in capsys.readouterr().err


def test_the_weights_of_a_model_are_the_default(
    asked: Asked, tiny_bundle: Path, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    bundle = load_bundle(tiny_bundle)
    config = override(bundle.config, {"evaluation.inception_weights": "download"})
    save_bundle(replace(bundle, config=config), tmp_path / "bundle")
    command = ("evaluate", tmp_path / "bundle", tiny_dataset.path, "--metrics", "codes")
    assert run(*command) == 0
    assert asked.subject.config.inception_weights == "download"
    assert run(*command, "--inception-weights", "auto") == 0
    assert asked.subject.config.inception_weights == "auto"


def test_stdout_is_the_table_and_stderr_tells_the_rest(
    asked: Asked, tiny_bundle: Path, tiny_dataset: Dataset, tmp_path: Path, capsys: Capture
) -> None:
    command = ("evaluate", tiny_bundle, tiny_dataset.path)
    assert run(*command) == 0
    printed = capsys.readouterr()
    assert "accuracy/shape" in printed.out
    left_out, fid, took = printed.err.splitlines()
    assert left_out == (
        "left out, as the data set knows too little for it: keypoints, masks, codes"
    )
    assert fid.startswith(f"fid is not measured: {VARIABLE} names no weights for it")
    assert str(tmp_path / "torch") in fid
    assert "--inception-weights download" in fid
    assert took == "took 2 min 13 s: quality 1 min 40 s, factors 30.5 s, diversity 2.0 s"
    assert run(*command, "--inception-weights", "none", "--metrics", "quality") == 0
    assert capsys.readouterr().err.startswith(
        "fid is not measured: --inception-weights is none\ntook "
    )
    assert run(*command, "--samples", 512, "--metrics", "quality") == 0
    assert capsys.readouterr().err.startswith("took "), "fid_512 is there"


def test_json_is_all_of_stdout(
    asked: Asked, tiny_bundle: Path, tiny_dataset: Dataset, capsys: Capture
) -> None:
    assert run("evaluate", tiny_bundle, tiny_dataset.path, "--json") == 0
    measured = json.loads(capsys.readouterr().out)
    assert list(measured) == ["model", "data", "figures", "protocol", "seconds"]
    assert measured["figures"]["fid_512"]["high"] == 131.0


def test_figures_are_not_lost_where_the_page_cannot_be_written(
    asked: Asked, tiny_bundle: Path, tiny_dataset: Dataset, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "file").write_text("")
    page = tmp_path / "file" / "page.html"
    assert run("evaluate", tiny_bundle, tiny_dataset.path, "--page", page) == 2
    printed = capsys.readouterr()
    assert "accuracy/shape" in printed.out
    last = printed.err.splitlines()[-1]
    assert last.startswith(f"mixnmatch: error: {page}: cannot be written")


def test_the_protocols_are_listed(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        run("evaluate", "--protocol", "list")
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines[1:4]]
    assert [(row[0], row[1]) for row in rows] == [
        (name, f"{protocol.samples:,}") for name, protocol in PROTOCOLS.items()
    ]
    assert "the published protocol:" in lines


def test_the_help_says_what_the_groups_are(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        run("evaluate", "--help")
    printed = capsys.readouterr().out
    assert all(f"\n  {group} " in printed for group in MEASURES)


# What is refused


def test_evaluate_can_leave_out_the_inception_weights_of_a_model(
    tiny_bundle: Path, tiny_dataset: Dataset, tmp_path: Path, capsys: Capture, refused: Refused
) -> None:
    bundle = load_bundle(tiny_bundle)
    config = override(bundle.config, {"evaluation.inception_weights": "/elsewhere/fid.pth"})
    save_bundle(replace(bundle, config=config), tmp_path / "bundle")
    evaluate = ("evaluate", tmp_path / "bundle", tiny_dataset.path, "--metrics", "quality")
    assert "/elsewhere/fid.pth: no such file" in refused(*evaluate)
    assert run(*evaluate, "--inception-weights", "none", "--json") == 0
    figures = json.loads(capsys.readouterr().out)["figures"]
    assert not [name for name in figures if name.startswith("fid")]


def test_what_evaluate_refuses(
    tiny_bundle: Path, tiny_dataset: Dataset, tmp_path: Path, refused: Refused
) -> None:
    data = tiny_dataset.path
    assert "no such model folder" in refused("evaluate", tmp_path / "nowhere", data)
    assert "knows the scheme nope:" in refused("evaluate", "nope:x", data)
    assert "no such data set folder" in refused("evaluate", tiny_bundle, tmp_path / "nowhere")
    for samples in ("0", "3", f"{10**20}"):
        wrong = refused("evaluate", tiny_bundle, data, "--samples", samples)
        assert f"--samples is {samples}: it must be from 8 to 100000" in wrong
    wrong = refused("evaluate", tiny_bundle, data, "--seed", 10**20)
    assert f"--seed is {10**20}: it must be from 0 to 2147483647" in wrong
    weights = ("--inception-weights", tmp_path / "none.pth")
    assert "none.pth: no such file" in refused("evaluate", tiny_bundle, data, *weights)
    (tmp_path / "text.pth").write_text("hello")
    weights = ("--inception-weights", tmp_path / "text.pth")
    assert "not the FID Inception weights" in refused("evaluate", tiny_bundle, data, *weights)


def test_options_are_refused_before_anything_is_loaded(tmp_path: Path, refused: Refused) -> None:
    nothing = ("evaluate", tmp_path / "no-model", tmp_path / "no-data")
    for metrics in ("fid", "quality,fid", "", "all,codes"):
        wrong = refused(*nothing, "--metrics", metrics)
        assert f"--metrics is {metrics!r}: it must be all, or some of quality, diversity" in wrong
    wrong = refused(*nothing, "--protocol", "paper2")
    assert "--protocol is 'paper2': it must be one of paper, 5k, quick, or list" in wrong
    wrong = refused(*nothing, "--page", tmp_path / "page.png")
    assert "page.png: name it .html" in wrong
