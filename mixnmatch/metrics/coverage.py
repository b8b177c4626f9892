"""Which categories a model paints, and whether it paints its training pictures again."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import scipy.stats
import torch
from jaxtyping import Bool, Float, Int, Int64

from mixnmatch.metrics.figures import Figure, Figures, share, sized

_CHUNK = 2048  # rows of distances in memory at a time


def coverage(answers: Int[np.ndarray, "N"], categories: int, about: str) -> Figures:
    """How evenly N pictures spread over categories.

    Chance is what is expected of N pictures that show categories at random, each as likely: with
    few pictures even those are uneven.

    Args:
        answers: The category of each picture, by a judge.
        categories: How many there are.
        about: What the categories are, such as ``texture``.

    Returns:
        ``coverage/kl_uniform_<about>``, the Kullback-Leibler divergence of their shares from
        uniform ones in nats, and ``coverage/modes_<about>``, the share of categories seen; both
        depend on N, which is in their names.
    """
    count = len(answers)
    shares = np.bincount(answers, minlength=categories) / count
    return {
        sized(f"coverage/kl_uniform_{about}", count): Figure(
            value=float(_negative_entropy(shares).sum() + np.log(categories)),
            chance=expected_kl(count, categories),
            count=count,
            better="lower",
        ),
        sized(f"coverage/modes_{about}", count): Figure(
            value=float((shares > 0).mean()),
            chance=float(1 - (1 - 1 / categories) ** count),
            count=count,
            better="higher",
        ),
    }


def coverage_names(samples: int, about: str) -> set[str]:
    """Names of the figures of ``coverage``."""
    return {sized(f"coverage/{name}_{about}", samples) for name in ("kl_uniform", "modes")}


def expected_kl(count: int, categories: int) -> float:
    """The mean divergence, in nats, of the shares of ``count`` uniform draws from uniform ones."""
    hits = np.arange(count + 1)
    chances = scipy.stats.binom.pmf(hits, count, 1 / categories)
    return float(
        categories * (chances * _negative_entropy(hits / count)).sum() + np.log(categories)
    )


def _negative_entropy(shares: Float[np.ndarray, "K"]) -> Float[np.ndarray, "K"]:
    return shares * np.log(np.where(shares > 0, shares, 1))


class Neighbours(NamedTuple):
    """The nearest real picture of each of N pictures."""

    nearest: Int64[np.ndarray, "N"]
    """Its row."""
    distance: Float[np.ndarray, "N"]
    """To it."""
    spacing: Float[np.ndarray, "N"]
    """Its own distance to the nearest other real picture."""

    @property
    def authentic(self) -> Bool[np.ndarray, "N"]:
        """Whether a picture is farther from its nearest real one than that is from the others."""
        return self.distance > self.spacing

    @property
    def closeness(self) -> Float[np.ndarray, "N"]:
        """How suspicious a picture is: the spacing beside the distance; infinite for copies."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.distance > 0, self.spacing / self.distance, np.inf)


def neighbours(features: Float[np.ndarray, "N D"], real: Float[np.ndarray, "M D"]) -> Neighbours:
    """Find the nearest real picture of each picture, and how far apart real ones are.

    Args:
        features: Of the pictures.
        real: Of at least two real pictures.
    """
    index, distance = _nearest(features, real)
    _, spacing = _nearest(real[index], real, without=index)
    return Neighbours(index, distance, spacing)


def authenticity(found: Neighbours, held_out: Neighbours | None) -> Figure:
    """The share of generated pictures that are no near copies of training pictures.

    Copies make it fall towards 0. It is not 1 for pictures that are new, but what it is for real
    ones that were held out of training: its chance, where there are any.

    Args:
        found: Of generated pictures among training pictures.
        held_out: Of held-out real pictures among them.

    Source:
        Authenticity of arXiv 2102.08921, in the feature space as it is.
    """
    chance = None if held_out is None else float(held_out.authentic.mean())
    # Blur scores 1: more than real pictures get is no better.
    return replace(share(found.authentic, chance=chance), better=None)


def _nearest(
    features: Float[np.ndarray, "N D"],
    real: Float[np.ndarray, "M D"],
    without: Int64[np.ndarray, "N"] | None = None,
) -> tuple[Int64[np.ndarray, "N"], Float[np.ndarray, "N"]]:
    """The nearest real picture of each other than that in its row of ``without``."""
    points, others = (torch.from_numpy(array).double() for array in (features, real))
    nearest = []
    for start in range(0, len(points), _CHUNK):
        distances = torch.cdist(points[start : start + _CHUNK], others)
        if without is not None:
            skipped = torch.from_numpy(without[start : start + _CHUNK])
            distances[torch.arange(len(skipped)), skipped] = torch.inf
        nearest.append(distances.argmin(dim=1))
    index = torch.cat(nearest)
    # Again by differences: products of large features lose the distance 0 of a copy.
    distance = (points - others[index]).square().sum(dim=1).sqrt()
    return index.numpy(), distance.numpy()
