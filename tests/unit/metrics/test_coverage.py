import numpy as np
import pytest

from mixnmatch.metrics.coverage import (
    authenticity,
    coverage,
    coverage_names,
    expected_kl,
    neighbours,
)


def test_even_answers_cover_everything() -> None:
    figures = coverage(np.arange(600) % 6, 6, "texture")
    assert figures.keys() == coverage_names(600, "texture")
    assert figures["coverage/kl_uniform_texture_600"].value == pytest.approx(0, abs=1e-12)
    assert figures["coverage/modes_texture_600"].value == 1
    bare = coverage(np.arange(30_000) % 6, 6, "label")
    assert bare.keys() == {"coverage/kl_uniform_label", "coverage/modes_label"}


@pytest.mark.parametrize(("seen", "categories"), [(1, 6), (3, 6), (2, 200)])
def test_missing_categories_are_missed(seen: int, categories: int) -> None:
    figures = coverage(np.arange(120) % seen, categories, "texture")
    divergence = figures["coverage/kl_uniform_texture_120"]
    assert divergence.value == pytest.approx(np.log(categories / seen))
    assert figures["coverage/modes_texture_120"].value == pytest.approx(seen / categories)
    assert divergence.better == "lower"


@pytest.mark.parametrize(("count", "categories"), [(8, 6), (64, 200), (500, 10)])
def test_chance_is_what_an_even_sampler_gets(count: int, categories: int) -> None:
    random = np.random.default_rng(0)
    drawn = [coverage(random.integers(categories, size=count), categories, "t") for _ in range(600)]
    for name in coverage_names(count, "t"):
        values = np.array([figures[name].value for figures in drawn])
        error = values.std() / np.sqrt(len(values))
        chance = drawn[0][name].chance
        assert chance is not None
        assert abs(values.mean() - chance) < 4 * error + 1e-12, name
    assert expected_kl(10**5, categories) < expected_kl(count, categories)


def test_neighbours_are_the_nearest() -> None:
    random = np.random.default_rng(1)
    real, some = random.normal(size=(40, 5)), random.normal(size=(25, 5))
    found = neighbours(some.astype(np.float32), real.astype(np.float32))
    distances = np.linalg.norm(some[:, None] - real[None], axis=2)
    between = np.linalg.norm(real[:, None] - real[None], axis=2) + np.diag([np.inf] * 40)
    assert found.nearest.tolist() == distances.argmin(axis=1).tolist()
    assert found.distance == pytest.approx(distances.min(axis=1), rel=1e-5)
    assert found.spacing == pytest.approx(between.min(axis=1)[found.nearest], rel=1e-5)


def test_rows_beyond_one_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(2)
    real, some = random.normal(size=(30, 4)), random.normal(size=(23, 4))
    whole = neighbours(some, real)
    monkeypatch.setattr("mixnmatch.metrics.coverage._CHUNK", 7)
    parts = neighbours(some, real)
    assert all(np.array_equal(one, other) for one, other in zip(whole, parts, strict=True))


def test_copies_are_not_authentic() -> None:
    random = np.random.default_rng(3)
    real = (1000 + random.normal(size=(60, 8))).astype(np.float32)  # far from the origin
    copies = neighbours(real[:20], real)
    assert copies.nearest.tolist() == list(range(20))
    assert (copies.distance == 0).all()
    assert np.isposinf(copies.closeness).all()
    fresh = neighbours((1000 + random.normal(size=(400, 8))).astype(np.float32), real)
    figure = authenticity(copies, fresh)
    assert figure.value == 0
    assert figure.chance == fresh.authentic.mean() > 0.4
    far = neighbours(real + 100, real)
    assert authenticity(far, None).value == 1
    assert authenticity(far, None).chance is None


def test_a_copy_of_a_picture_that_is_there_twice_is_a_copy() -> None:
    real = np.array([[0.0, 0.0], [0.0, 0.0], [5.0, 5.0]])
    assert not neighbours(np.zeros((1, 2)), real).authentic.any()


def test_the_nearest_to_a_training_picture_is_the_most_suspicious() -> None:
    real = np.array([[0.0], [1.0], [10.0]])
    closeness = neighbours(np.array([[0.5], [0.1], [9.9], [30.0]]), real).closeness
    assert closeness.argsort()[::-1].tolist() == [2, 1, 0, 3]
