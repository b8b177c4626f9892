import numpy as np
import pytest
import scipy.linalg

from mixnmatch.errors import DataError
from mixnmatch.metrics.frechet import Gaussian, fit_gaussian, frechet_distance


def features(count: int, size: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, size)) @ rng.normal(size=(size, size)) + rng.normal(size=size)


def by_formula(first: Gaussian, second: Gaussian) -> float:
    root = scipy.linalg.sqrtm(first.covariance @ second.covariance).real
    spread = np.trace(first.covariance + second.covariance - 2 * root)
    return float(np.sum((first.mean - second.mean) ** 2) + spread)


@pytest.mark.parametrize(("count", "size"), [(50, 1), (80, 5), (300, 64)])
def test_frechet_distance_is_the_formula(count: int, size: int) -> None:
    first, second = (fit_gaussian(features(count, size, seed)) for seed in (0, 1))
    distance = frechet_distance(first, second)
    assert distance == pytest.approx(by_formula(first, second), rel=1e-6)
    assert distance == pytest.approx(frechet_distance(second, first), rel=1e-9)
    assert distance > 0


def test_equal_clouds_have_no_distance() -> None:
    cloud = fit_gaussian(features(200, 16, seed=3))
    scale = float(np.trace(cloud.covariance))
    assert frechet_distance(cloud, cloud) == pytest.approx(0, abs=1e-9 * scale)
    moved = Gaussian(cloud.mean + 2.0, cloud.covariance)
    assert frechet_distance(cloud, moved) == pytest.approx(16 * 4)


@pytest.mark.parametrize("count", [2, 5])
def test_fewer_pictures_than_dimensions(count: int) -> None:
    first, second = (fit_gaussian(features(count, 20, seed)) for seed in (0, 1))
    assert np.linalg.matrix_rank(first.covariance) < 20
    distance = frechet_distance(first, second)
    assert np.isfinite(distance)
    assert distance > 0
    scale = float(np.trace(first.covariance))
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-6 * scale)
    nothing = Gaussian(first.mean, np.zeros((20, 20)))
    assert frechet_distance(first, nothing) == pytest.approx(scale)


@pytest.mark.parametrize("shape", [(1, 4), (0, 4), (4,)])
def test_one_picture_is_no_cloud(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="at least two pictures"):
        fit_gaussian(np.zeros(shape))


def test_a_gaussian_is_mean_and_covariance() -> None:
    values = features(30, 3, seed=0)
    fitted = fit_gaussian(values.astype(np.float32))
    assert fitted.mean == pytest.approx(values.mean(axis=0), abs=1e-5)
    assert fitted.covariance == pytest.approx(np.cov(values.T), abs=1e-4)
    assert fitted.covariance.dtype == np.float64


def test_which_covariance_is_singular_does_not_matter() -> None:
    few, many = fit_gaussian(features(8, 20, 0)), fit_gaussian(features(90, 20, 1))
    distance = frechet_distance(few, many)
    assert distance == pytest.approx(frechet_distance(many, few), rel=1e-9)
    assert distance == pytest.approx(by_formula(few, many), rel=1e-5)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_features_that_are_no_numbers_are_refused(broken: float) -> None:
    values = features(30, 3, seed=0)
    values[4, 1] = broken
    with pytest.raises(DataError, match="not finite"):
        fit_gaussian(values)
