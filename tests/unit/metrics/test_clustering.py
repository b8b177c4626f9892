import copy
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from mixnmatch.data.store import Dataset
from mixnmatch.metrics.clustering import (
    MEASURES,
    Comparison,
    compare,
    comparisons,
    matched_accuracy,
)

EVERYTHING = Comparison("c", "c", "label", tuple(MEASURES))


def test_measures_of_four_pictures_by_hand() -> None:
    classes, clusters = np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1])
    # Entropies of both, and what the classes leave open of the clusters: half a fair coin.
    of_classes = np.log(2)
    of_clusters = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    information = of_clusters - np.log(2) / 2
    assert information == pytest.approx(0.215762, abs=1e-6)
    arithmetic = information / ((of_classes + of_clusters) / 2)
    geometric = information / np.sqrt(of_classes * of_clusters)
    figures = compare(EVERYTHING, clusters, classes.tolist())
    assert figures["cluster/c_nmi_arithmetic"].value == pytest.approx(arithmetic, rel=1e-12)
    assert figures["cluster/c_nmi_geometric"].value == pytest.approx(geometric, rel=1e-12)
    assert geometric - arithmetic > 1e-3
    assert figures["cluster/c_accuracy"].value == 0.75
    assert {figure.count for figure in figures.values()} == {4}
    assert all(figure.low is None and figure.high is None for figure in figures.values())
    # Wherever the three and the one fall, the best matching gets three of four right.
    assert figures["cluster/c_accuracy"].chance == 0.75


@pytest.mark.parametrize(("classes", "clusters"), [(3, 5), (5, 3), (4, 4)])
def test_matching_is_the_best_of_all(classes: int, clusters: int) -> None:
    rng = np.random.default_rng(classes)
    for _ in range(5):
        truth, found = rng.integers(classes, size=30), rng.integers(clusters, size=30)
        # Names beyond the counts stand for clusters, or classes, left over.
        size = max(classes, clusters)
        best = max(
            sum(found[i] == names[truth[i]] for i in range(30)) / 30
            for names in permutations(range(size))
        )
        assert matched_accuracy(truth, found) == pytest.approx(best)


def test_names_of_clusters_do_not_matter_and_noise_is_chance() -> None:
    rng = np.random.default_rng(0)
    classes = rng.integers(10, size=3000)
    perfect = compare(EVERYTHING, (classes + 3) % 10, classes.tolist())
    assert all(figure.value == pytest.approx(1) for figure in perfect.values())
    assert all(figure.chance is not None and figure.chance < 0.2 for figure in perfect.values())
    noise = compare(EVERYTHING, rng.integers(10, size=3000), classes.tolist())
    for figure in noise.values():
        assert figure.value == pytest.approx(figure.chance, abs=0.015)
    # With many classes and few pictures, clusters that know nothing look good, and AMI does not.
    few = rng.integers(100, size=200)
    figures = compare(EVERYTHING, rng.integers(100, size=200), few.tolist())
    assert figures["cluster/c_nmi_arithmetic"].value > 0.5
    assert figures["cluster/c_nmi_arithmetic"].chance == pytest.approx(
        figures["cluster/c_nmi_arithmetic"].value, abs=0.05
    )
    assert abs(figures["cluster/c_ami"].value) < 0.1


def test_a_collapse_knows_nothing() -> None:
    figures = compare(EVERYTHING, np.zeros(20, dtype=np.int64), [0, 1] * 10)
    assert figures["cluster/c_nmi_arithmetic"].value == pytest.approx(0, abs=1e-12)
    assert figures["cluster/c_nmi_geometric"].value == pytest.approx(0, abs=1e-12)
    assert figures["cluster/c_accuracy"].value == 0.5
    assert figures["cluster/c_accuracy"].chance == 0.5


def test_pictures_without_a_class_are_left_out() -> None:
    classes, clusters = [0, None, 0, 1, None, 1], np.array([2, 0, 2, 3, 0, 3])
    figures = compare(EVERYTHING, clusters, classes)
    assert {figure.count for figure in figures.values()} == {4}
    assert figures["cluster/c_accuracy"].value == 1
    none = compare(EVERYTHING, clusters, [None] * 6)
    assert none.keys() == figures.keys()
    assert all(np.isnan(figure.value) and figure.count == 0 for figure in none.values())


def test_what_a_data_set_knows_decides_what_is_compared(tiny_dataset: Dataset) -> None:
    dataset = copy.copy(tiny_dataset)
    assert [found.name for found in comparisons(dataset)] == [
        "c",
        "p",
        "p_shape",
        "c_texture",
        "b_background",
    ]
    dataset.info = replace(tiny_dataset.info, factors=None)
    assert [found.name for found in comparisons(dataset)] == ["c", "p"]
    for labels in (None, 1):
        dataset.info = replace(tiny_dataset.info, factors=None, labels=labels)
        assert comparisons(dataset) == []
