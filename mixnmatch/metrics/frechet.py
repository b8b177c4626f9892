"""Fréchet distance between two clouds of features, each summed up as a Gaussian."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.linalg

from mixnmatch.errors import DataError

Matrix = npt.NDArray[np.float64]


class Gaussian(NamedTuple):
    """Mean and covariance of features, in float64."""

    mean: Matrix
    """D values."""
    covariance: Matrix
    """D × D values, unbiased."""


def fit_gaussian(features: npt.NDArray[np.floating]) -> Gaussian:
    """Sum up features of shape (N, D), N at least 2.

    Raises:
        DataError: If there are fewer than two, or they are not finite.
    """
    if features.ndim != 2 or len(features) < 2:
        raise DataError(f"features of shape {features.shape}: at least two pictures are needed")
    if not np.isfinite(features).all():
        raise DataError("features that are not finite: the network or its pictures are broken")
    values = features.astype(np.float64)
    return Gaussian(values.mean(axis=0), np.atleast_2d(np.cov(values, rowvar=False)))


def frechet_distance(first: Gaussian, second: Gaussian) -> float:
    """``‖μ₁ - μ₂‖² + tr(Σ₁ + Σ₂ - 2 (Σ₁ Σ₂)^½)``; 0 for equal Gaussians.

    With Σ₁ = F Fᵀ the trace of the root is the sum of the roots of the eigenvalues of Fᵀ Σ₂ F,
    which is symmetric, so that singular covariances (few pictures) need no special care.

    Source:
        FID, arXiv 1706.08500.
    """
    factor, other = _factored(first.covariance, second.covariance)
    eigenvalues = scipy.linalg.eigvalsh(factor.T @ other @ factor)
    trace = np.trace(first.covariance) + np.trace(second.covariance)
    spread = trace - 2 * np.sqrt(np.clip(eigenvalues, 0, None)).sum()
    return float(((first.mean - second.mean) ** 2).sum() + spread)


def _factored(first: Matrix, second: Matrix) -> tuple[Matrix, Matrix]:
    """A factor F of one of two covariances, F Fᵀ, and the other one."""
    for one, other in ((first, second), (second, first)):
        try:
            return np.asarray(np.linalg.cholesky(one), np.float64), other
        except np.linalg.LinAlgError:  # singular
            continue
    values, vectors = scipy.linalg.eigh(first)  # many times as slow
    return vectors * np.sqrt(np.clip(values, 0, None)), second
