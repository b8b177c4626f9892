import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mixnmatch.bundle import ModelBundle, load_bundle
from mixnmatch.config import EvaluationConfig, RunConfig
from mixnmatch.data.store import Dataset, open_dataset
from mixnmatch.errors import DataError
from mixnmatch.metrics.evaluate import (
    ALL,
    applicable,
    evaluate,
    metric_names,
    oracle_files,
    teach_oracles,
)
from mixnmatch.metrics.figures import flat
from mixnmatch.metrics.judge import judge_rows, load_judge
from mixnmatch.metrics.measure import Observer, Subject, join, parts_of

MakeSubject = Callable[..., Subject]


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> ModelBundle:
    return load_bundle(tiny_bundle)


@pytest.fixture
def make(bundle: ModelBundle, tiny: RunConfig, tiny_dataset: Dataset) -> MakeSubject:
    def subject(dataset: Dataset = tiny_dataset, seed: int = 0, **changes: object) -> Subject:
        config = replace(tiny.evaluation, **changes)
        return Subject(bundle=bundle, dataset=dataset, config=config, seed=seed)

    return subject


def in_other_parts(observer: Observer, subject: Subject, title: str) -> dict[str, np.ndarray]:
    """As other processes would: each with a copy of its own, from the last part to the first."""
    parts = parts_of(observer.count, subject.config.batch_size)
    seen = [pickle.loads(pickle.dumps(observer)).observe(part) for part in reversed(parts)]
    return join(seen[::-1])


def test_groups_are_the_measures_in_their_order() -> None:
    assert tuple(kind.group for kind in ALL) == EvaluationConfig(metrics="all").groups


def test_the_same_seed_gives_the_same_figures_wherever_they_are_observed(
    make: MakeSubject,
) -> None:
    subject = make(metrics="quality,factors,masks,codes,diversity", samples=20)
    first = evaluate(subject)
    assert evaluate(make(metrics=subject.config.metrics, samples=20)).figures == first.figures
    elsewhere = evaluate(subject, runner=in_other_parts)
    assert elsewhere.figures == first.figures
    other = evaluate(make(metrics=subject.config.metrics, samples=20, seed=1))
    assert other.figures["frechet_factors_20"] != first.figures["frechet_factors_20"]


def test_every_figure_has_a_group_and_every_group_its_exhibits(make: MakeSubject) -> None:
    subject = make(metrics="quality,factors,masks,codes,diversity")
    evaluation = evaluate(subject, exhibits=True)
    assert evaluation.figures.keys() == metric_names(subject.dataset, subject.config)
    assert evaluation.groups.keys() == evaluation.figures.keys()
    assert set(evaluation.groups.values()) == set(subject.config.groups) == set(evaluation.exhibits)
    assert all(evaluation.exhibits.values())
    assert evaluation.seconds.keys() == evaluation.exhibits.keys()
    assert list(evaluation.protocol["extractors"]) == ["factors"]
    oracles = evaluation.protocol["oracles"]
    assert oracles["classifier_sha256"] == evaluation.protocol["extractors"]["factors"]
    assert oracles["localiser_sha256"] is None
    assert evaluate(subject).exhibits == {}


def test_figures_in_records_keep_chance_and_interval(make: MakeSubject) -> None:
    evaluation = evaluate(make(metrics="factors"))
    figure = evaluation.figures["accuracy/shape"]
    numbers = evaluation.metrics
    assert numbers == flat(evaluation.figures)
    assert numbers["accuracy/shape"] == figure.value
    assert numbers["chance/accuracy/shape"] == figure.chance
    assert numbers["low/accuracy/shape"] == figure.low < numbers["high/accuracy/shape"]
    assert "chance/judge/held_out" not in numbers


def test_labels_alone_give_a_distance(make: MakeSubject, tiny_dataset: Dataset) -> None:
    labelled = copy.copy(open_dataset(tiny_dataset.path))
    labelled.info = replace(tiny_dataset.info, factors=None, labels=4)
    subject = make(labelled)
    figures = evaluate(subject).figures
    assert figures.keys() == metric_names(labelled, subject.config)
    assert figures["frechet_labels_8"].value > 0
    judge = load_judge(labelled, 32, steps=subject.config.classifier_steps)
    assert judge.accuracy.keys() == {"label"}
    assert "disentanglement_accuracy" not in figures
    bare = copy.copy(labelled)
    bare.info = replace(tiny_dataset.info, factors=None, labels=None)
    figures = evaluate(make(bare)).figures
    assert figures.keys() == metric_names(bare, subject.config)
    assert {"mask_contrast", "mask_contrast_parent"} < figures.keys()
    assert not any(name.startswith("frechet") for name in figures)
    with pytest.raises(DataError, match="nothing of quality,factors can be measured on it"):
        applicable(bare, replace(subject.config, metrics="quality,factors"))


def test_pictures_without_a_label_among_others(make: MakeSubject, tiny_dataset: Dataset) -> None:
    some = open_dataset(tiny_dataset.path)
    some.info = replace(some.info, factors=None, labels=4)
    labels = some.column("label")
    labels[int(some.indices("judge")[0])] = labels[int(some.indices("test")[0])] = None
    column = some.column
    some.column = lambda name: labels if name == "label" else column(name)  # type: ignore[method-assign]
    assert len(judge_rows(some)) == len(some.indices("judge")) - 1
    subject = make(some, metrics="quality,diversity,codes")
    figures = evaluate(subject).figures
    assert figures.keys() == metric_names(some, subject.config)
    assert figures["judge/held_out"].value > 0
    labels[:] = [None] * len(labels)
    with pytest.raises(DataError, match="0 pictures with labels are too few to teach a judge"):
        load_judge(some, 32, steps=1)


@pytest.mark.parametrize(
    ("metrics", "needed"),
    [
        ("all", {"classifier", "localiser"}),
        ("factors", {"classifier"}),
        ("keypoints,masks", {"localiser"}),  # of masks alone, as no keypoint is named
        ("masks,codes", set()),
    ],
)
def test_what_is_taught_before_is_what_an_evaluation_needs(
    metrics: str,
    needed: set[str],
    make: MakeSubject,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MIXNMATCH_CACHE", str(tmp_path))
    subject = make(metrics=metrics)
    assert not subject.dataset.info.parts
    files = oracle_files(subject.dataset, subject.image_size, subject.config)
    assert files.keys() == needed
    teach_oracles(subject.dataset, subject.image_size, subject.config)
    assert sorted(tmp_path.iterdir()) == sorted(files.values())
    taught = {file: file.stat().st_mtime_ns for file in files.values()}
    recorded = evaluate(subject).protocol["oracles"]
    known = {name for name in ("classifier", "localiser") if recorded[f"{name}_sha256"]}
    assert known == needed
    made = {file for file in tmp_path.iterdir() if not file.name.startswith("features-")}
    assert {file: file.stat().st_mtime_ns for file in made} == taught


def test_few_samples_are_spread_over_all_categories(make: MakeSubject) -> None:
    subject = make()
    for samples, textures in ((2, [0, 2]), (3, [0, 1, 2]), (6, [0, 1, 2, 3, 0, 1])):
        codes = subject.tied_codes(samples, 1)
        assert codes.c.argmax(dim=1).tolist() == textures
        assert codes.b.equal(codes.c)
        assert codes.p.argmax(dim=1).tolist() == [texture // 2 for texture in textures]
