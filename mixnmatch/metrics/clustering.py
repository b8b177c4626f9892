"""Codes as a clustering of the pictures, compared with their true classes.

The measures are scikit-learn's; only the matching of clusters with classes is made here, of
scipy's. None has an interval: resampled pictures repeat, which makes any two groupings agree more,
so the bootstrap is biased, and the matching is chosen on the very pictures that it is judged on,
so Wilson's interval, which is for one that was fixed before, is too narrow.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from mixnmatch.data.store import Dataset
from mixnmatch.metrics.figures import Figure, Figures
from mixnmatch.networks.encoders import CodeName

SHUFFLES = 20
"""Of the clusters over the pictures, for the chance level."""

Clustering = Int[np.ndarray, "N"]
"""The number of each picture's cluster, or class."""


def matched_accuracy(classes: Clustering, clusters: Clustering) -> float:
    """Share of pictures whose cluster is matched with their class, by the best matching there is.

    Each cluster is matched with one class at most, and each class with one cluster; where there are
    more of the one, those left over count as wrong (the Hungarian method, as in DEC,
    arXiv 1511.06335).
    """
    together = contingency_matrix(classes, clusters)
    matched = linear_sum_assignment(together, maximize=True)
    return float(together[matched].sum() / len(classes))


MEASURES: Mapping[str, Callable[[Clustering, Clustering], float]] = {
    "nmi_arithmetic": partial(normalized_mutual_info_score, average_method="arithmetic"),
    "nmi_geometric": partial(normalized_mutual_info_score, average_method="geometric"),
    "accuracy": matched_accuracy,
    "ami": adjusted_mutual_info_score,
}
"""Of classes and clusters. The two NMI divide the mutual information by the arithmetic or by the
geometric mean of both entropies; AMI takes the chance level off, too."""


class Comparison(NamedTuple):
    """Which code is compared with what is known of the pictures."""

    name: str
    """Part of the names of its figures."""
    code: CodeName
    """The code."""
    column: str
    """Of the data set."""
    measures: Sequence[str]
    """Some of ``MEASURES``."""

    @property
    def names(self) -> dict[str, str]:
        """Names of its figures, by measure."""
        return {measure: f"cluster/{self.name}_{measure}" for measure in self.measures}


def comparisons(dataset: Dataset) -> list[Comparison]:
    """Those that a data set knows enough for: classes, and the factors of drawn pictures."""
    found: list[Comparison] = []
    if dataset.info.labels and dataset.info.labels > 1:
        found += [Comparison(code, code, "label", tuple(MEASURES)) for code in ("c", "p")]
    if dataset.info.factors:
        few = ("nmi_arithmetic", "accuracy")
        found += [
            Comparison("p_shape", "p", "shape", few),
            Comparison("c_texture", "c", "texture", few),
            Comparison("b_background", "b", "background", few),
        ]
    return found


def compare(comparison: Comparison, clusters: Clustering, classes: Sequence[int | None]) -> Figures:
    """How well clusters agree with classes.

    Args:
        comparison: What is compared, and how.
        clusters: The code of each picture.
        classes: The class of each; pictures without one are left out.

    Returns:
        NaN where no class is known. The chance level is the mean of the same measure over
        ``SHUFFLES`` shuffles of the clusters, which keep both histograms.
    """
    known = np.array([value is not None for value in classes], dtype=bool)
    truth = np.array([value for value in classes if value is not None], dtype=np.int64)
    clusters = clusters[known]
    random = np.random.default_rng(0)
    shuffled = [random.permutation(clusters) for _ in range(SHUFFLES)]
    figures: Figures = {}
    for measure, name in comparison.names.items():
        score = MEASURES[measure]
        if not len(truth):
            figures[name] = Figure(value=float("nan"), count=0, better="higher")
            continue
        figures[name] = Figure(
            value=float(score(truth, clusters)),
            chance=float(np.mean([score(truth, chance) for chance in shuffled])),
            count=len(truth),
            better="higher",
        )
    return figures
