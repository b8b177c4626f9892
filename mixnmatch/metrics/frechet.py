"""Fréchet distance between two clouds of features, each summed up as a Gaussian."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

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
        DataError: If there are fewer than two.
    """
    if features.ndim != 2 or len(features) < 2:
        raise DataError(f"features of shape {features.shape}: at least two pictures are needed")
    values = features.astype(np.float64)
    return Gaussian(values.mean(axis=0), np.atleast_2d(np.cov(values, rowvar=False)))


def frechet_distance(first: Gaussian, second: Gaussian) -> float:
    """``‖μ₁ - μ₂‖² + tr(Σ₁ + Σ₂ - 2 (Σ₁ Σ₂)^½)``; 0 for equal Gaussians.

    The trace of the root is the sum of the roots of the eigenvalues of Σ₁^½ Σ₂ Σ₁^½, which is
    symmetric, so that singular covariances (few pictures) need no special care.

    Source:
        FID, arXiv 1706.08500.
    """
    root = _symmetric_root(first.covariance)
    eigenvalues = np.linalg.eigvalsh(root @ second.covariance @ root)
    trace = np.trace(first.covariance) + np.trace(second.covariance)
    spread = trace - 2 * np.sqrt(np.clip(eigenvalues, 0, None)).sum()
    return float(((first.mean - second.mean) ** 2).sum() + spread)


def _symmetric_root(matrix: Matrix) -> Matrix:
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T)
