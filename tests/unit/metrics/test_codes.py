import copy
import math
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mixnmatch.bundle import load_bundle
from mixnmatch.config import EvaluationConfig
from mixnmatch.data.store import Dataset
from mixnmatch.metrics.code_use import (
    CodeMeasure,
    chance_agreement,
    mutual_information,
    perplexity,
    used,
)
from mixnmatch.metrics.measure import Observations, Subject, join, parts_of

CONFIG = EvaluationConfig(samples=8, batch_size=4)


@pytest.fixture
def measure(tiny_bundle: Path, tiny_dataset: Dataset) -> CodeMeasure:
    return CodeMeasure(
        Subject(bundle=load_bundle(tiny_bundle), dataset=tiny_dataset, config=CONFIG)
    )


def observed(measure: CodeMeasure) -> Observations:
    parts = parts_of(measure.count, measure.subject.config.batch_size)
    return join([measure.observe(part) for part in parts])


def test_used_and_perplexity_by_hand() -> None:
    codes = np.array([0, 0, 0, 2])
    figure = used(codes, 4)
    assert figure.value == 0.5
    assert figure.chance == pytest.approx(1 - 0.75**4)
    assert figure.count == 4
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert perplexity(codes, 4).value == pytest.approx(math.exp(entropy) / 4)
    assert perplexity(np.arange(8) % 4, 4).value == pytest.approx(1)
    assert perplexity(np.full(9, 3), 4).value == pytest.approx(1 / 4)


def test_chance_of_used_is_what_even_draws_use() -> None:
    rng = np.random.default_rng(0)
    drawn = [used(rng.integers(20, size=30), 20).value for _ in range(2000)]
    assert used(np.zeros(30, dtype=np.int64), 20).chance == pytest.approx(np.mean(drawn), abs=0.005)


def test_mutual_information_by_hand_and_by_chance() -> None:
    left, right = np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1])
    of_right = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    figure = mutual_information(left, right)
    assert figure.value == pytest.approx(of_right - math.log(2) / 2)
    # Wherever the odd one falls it lies in one half: the value is the same in each arrangement.
    assert figure.chance == pytest.approx(figure.value)
    same = mutual_information(np.arange(400) % 8, np.arange(400) % 8)
    assert same.value == pytest.approx(math.log(8))
    rng = np.random.default_rng(0)
    left, right = rng.integers(10, size=200), rng.integers(10, size=200)
    shuffled = [mutual_information(left, rng.permutation(right)).value for _ in range(300)]
    figure = mutual_information(left, right)
    assert figure.chance == pytest.approx(np.mean(shuffled), abs=0.01)
    assert np.mean(shuffled) > 0.1  # far from zero: hence the chance level
    assert mutual_information(left, np.zeros(200, dtype=np.int64)).value == 0


def test_chance_agreement_is_that_of_all_pairs() -> None:
    left, right = np.array([0, 0, 1, 3]), np.array([0, 1, 1, 2])
    pairs = (left[:, None] == right[None]).mean()
    assert chance_agreement(left, right) == pytest.approx(pairs)


def test_figures_are_those_promised(measure: CodeMeasure, tiny_dataset: Dataset) -> None:
    seen = observed(measure)
    assert {name: values.shape for name, values in seen.items()} == dict.fromkeys(
        ("b", "p", "c"), (len(measure.subject.held_out_rows),)
    )
    figures = measure.figures(seen)
    assert figures.keys() == CodeMeasure.names(tiny_dataset, CONFIG)
    assert all(math.isfinite(figure.value) for figure in figures.values())
    assert figures["codes/parent_agreement"].low is not None
    bare = copy.copy(tiny_dataset)
    bare.info = replace(tiny_dataset.info, factors=None, labels=None)
    subject = replace(measure.subject, dataset=bare)
    fewer = CodeMeasure(subject).figures(seen)
    assert fewer.keys() == CodeMeasure.names(bare, CONFIG)
    assert all(fewer[name] == figures[name] for name in fewer)
    assert not any(name.startswith("cluster/") for name in fewer)


def test_a_copied_model_observes_any_part_the_same(measure: CodeMeasure) -> None:
    codes = measure.subject.mixer.encode(measure.subject.held_out.images)
    seen = observed(measure)
    for name in ("b", "p", "c"):
        assert seen[name].tolist() == getattr(codes, name).argmax(dim=1).tolist()
    subject = measure.subject
    other = CodeMeasure(
        Subject(
            bundle=pickle.loads(pickle.dumps(subject.bundle)),
            dataset=subject.dataset,
            config=subject.config,
        )
    )
    last = parts_of(other.count, CONFIG.batch_size)[-1]
    for name, values in other.observe(last).items():
        assert values.tolist() == seen[name][last.start :].tolist()


def test_encoders_that_know_the_truth_are_perfect(
    measure: CodeMeasure, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = measure.subject.held_out.factors
    assert truth is not None
    columns = {"b": truth["background"], "p": truth["shape"], "c": truth["texture"]}
    sizes = {"b": 4, "p": 2, "c": 4}
    place = {
        image.numpy().tobytes(): number
        for number, image in enumerate(measure.subject.held_out.images)
    }

    def code(name: str, images: Tensor) -> Tensor:
        numbers = [place[image.numpy().tobytes()] for image in images]
        return F.one_hot(columns[name][numbers], sizes[name]).float()

    monkeypatch.setattr(measure.subject.bundle.encoders, "code", code)
    figures = measure.figures(observed(measure))
    assert figures["codes/parent_agreement"].value == 1
    for name in ("c", "c_texture", "p_shape", "b_background"):
        assert figures[f"cluster/{name}_accuracy"].value == 1
        assert figures[f"cluster/{name}_nmi_arithmetic"].value == pytest.approx(1)
    # Two shapes cannot tell four textures apart, and two of these are matched with none.
    labels = torch.bincount(truth["texture"], minlength=4)
    best = max(int(labels[a] + labels[b]) for a in (0, 1) for b in (2, 3)) / int(labels.sum())
    assert figures["cluster/p_accuracy"].value == pytest.approx(best)
    shapes = len(truth["shape"].unique())
    assert shapes == 2
    share = torch.bincount(truth["shape"]).double() / len(truth["shape"])
    entropy = -(share * share.log()).sum().item()
    # Shape follows from texture: what they share is all that there is to know of the shape.
    assert figures["codes/mi_p_c"].value == pytest.approx(entropy)


def test_exhibits(measure: CodeMeasure) -> None:
    count = measure.count
    seen = {
        "b": np.zeros(count, dtype=np.int64),
        "p": np.zeros(count, dtype=np.int64),
        "c": np.array([3] + [1] * (count - 1)),
    }
    clusters, family = measure.exhibits(seen)
    assert clusters.picture is not None
    assert family.table is not None
    # All pictures have shape 0; the texture of one belongs to shape 1.
    first = [(count - 1) / count, 1 / count]
    np.testing.assert_allclose(family.table.values, [first, [0, 0]])
    np.testing.assert_allclose(family.table.chance, [first, first])
    assert len(family.table.rows) == len(family.table.columns) == 2
