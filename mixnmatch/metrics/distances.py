"""Figures of two clouds of features, each by the reference implementation of the field."""

import numpy as np
import scipy.stats
import torch
from jaxtyping import Float
from torch_fidelity.metric_isc import (
    KEY_METRIC_ISC_MEAN,
    KEY_METRIC_ISC_STD,
    isc_features_to_metric,
)
from torch_fidelity.metric_kid import (
    KEY_METRIC_KID_MEAN,
    KEY_METRIC_KID_STD,
    kernel_poly,
    kid_features_to_metric,
)
from torch_fidelity.metric_prc import (
    KEY_METRIC_PRECISION,
    KEY_METRIC_RECALL,
    prc_features_to_metric,
)

from mixnmatch.errors import DataError
from mixnmatch.metrics.coverage import authenticity, neighbours
from mixnmatch.metrics.figures import Figure, Figures, share, sized
from mixnmatch.metrics.frechet import fit_gaussian, frechet_distance

NEIGHBOURHOOD = 3
"""Nearest neighbours that a ball of precision and recall reaches to (arXiv 1904.06991)."""
KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000
"""The reference implementation's; of fewer pictures all are taken, once."""
ISC_SPLITS = 10
"""Parts that the Inception Score is averaged over; fewer where there are fewer pictures."""
_CHUNK = 2048  # rows of distances in memory at a time


def figure_name(measure: str, extractor: str) -> str:
    """The name of a figure, before its count: only FID Inception features give the bare ones.

    Args:
        measure: ``frechet``, ``kid``, ``inception_score``, ``precision``, ``recall`` or
            ``authenticity``; the last three are known of other networks (VGG), so never bare.
        extractor: Whose features it is made of.
    """
    if extractor == "inception" and measure in ("frechet", "kid", "inception_score"):
        return "fid" if measure == "frechet" else measure
    return f"{measure}_{extractor}"


def feature_figures(
    extractor: str,
    generated: Float[np.ndarray, "N D"],
    real: Float[np.ndarray, "M D"],
    held_out: Float[np.ndarray, "T D"] | None = None,
) -> Figures:
    """Everything that can be said of generated pictures from features.

    Args:
        extractor: Its name.
        generated: Features of generated pictures.
        real: Of the training pictures.
        held_out: Of real pictures that were not trained on.

    Raises:
        DataError: If there are fewer than five of either, or features are not finite.
    """
    samples = len(generated)
    if min(samples, len(real)) <= NEIGHBOURHOOD + 1:
        raise DataError(
            f"{samples} generated and {len(real)} real pictures: quality is measured on at least "
            f"{NEIGHBOURHOOD + 2} of each"
        )
    distance = frechet_distance(fit_gaussian(generated), fit_gaussian(real))
    precision, recall = precision_recall(generated, real)
    figures = {
        "frechet": Figure(value=distance, count=samples, better="lower"),
        "kid": kernel_distance(generated, real),
        "precision": precision,
        "recall": recall,
    }
    named = {sized(figure_name(key, extractor), samples): each for key, each in figures.items()}
    new = authenticity(
        neighbours(generated, real), None if held_out is None else neighbours(held_out, real)
    )
    return named | {figure_name("authenticity", extractor): new}


def kernel_distance(generated: Float[np.ndarray, "N D"], real: Float[np.ndarray, "M D"]) -> Figure:
    """KID: squared MMD with the kernel (x·y / D + 1)³, the mean over subsets, as torch-fidelity's.

    Its interval is that of the distance of all pictures by the jackknife, which leaves one out at a
    time, widened by the chance of the subsets; the spread of subsets alone would shrink to nothing
    where they are all the same.

    Args:
        generated: Features of generated pictures.
        real: Features of real pictures.

    Source:
        arXiv 1801.01401.
    """
    size = min(KID_SUBSET_SIZE, len(generated), len(real))
    subsets = 1 if size == len(generated) == len(real) else KID_SUBSETS
    measured = kid_features_to_metric(
        torch.from_numpy(generated).double(),
        torch.from_numpy(real).double(),
        kid_subsets=subsets,
        kid_subset_size=size,
        verbose=False,
    )
    value = measured[KEY_METRIC_KID_MEAN]
    variance = _jackknife_variance(generated.astype(np.float64), real.astype(np.float64))
    reach = 1.959964 * np.sqrt(variance + measured[KEY_METRIC_KID_STD] ** 2 / subsets)
    return Figure(
        value=value,
        low=float(value - reach),
        high=float(value + reach),
        count=len(generated),
        better="lower",
    )


def _jackknife_variance(first: Float[np.ndarray, "N D"], second: Float[np.ndarray, "M D"]) -> float:
    """Of the unbiased squared MMD of all rows."""
    across = _kernel_sums(first, second)
    back = _kernel_sums(second, first)
    variance = 0.0
    for rows, others, cross in ((first, second, across), (second, first, back)):
        count = len(rows)
        within = _kernel_sums(rows, rows) - ((rows**2).mean(axis=1) + 1) ** 3
        # All that changes when a row is left out: sums over the other set stay.
        left = (within.sum() - 2 * within) / ((count - 1) * (count - 2))
        left -= 2 * (cross.sum() - cross) / ((count - 1) * len(others))
        variance += (count - 1) * left.var()
    return float(variance)


def _kernel_sums(
    rows: Float[np.ndarray, "N D"], others: Float[np.ndarray, "M D"]
) -> Float[np.ndarray, "N"]:
    parts = (rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK))
    return np.concatenate([kernel_poly(part, others).sum(axis=1) for part in parts])


def precision_recall(
    generated: Float[np.ndarray, "N D"], real: Float[np.ndarray, "M D"]
) -> tuple[Figure, Figure]:
    """Improved precision and recall: which pictures lie in a ball about one of the other kind.

    A ball reaches to the third nearest neighbour. The intervals are of other pictures beside the
    same balls.

    Source:
        arXiv 1904.06991.
    """
    measured = prc_features_to_metric(
        torch.from_numpy(generated).double(),
        torch.from_numpy(real).double(),
        prc_neighborhood=NEIGHBOURHOOD,
        prc_batch_size=_CHUNK,
        save_cpu_ram=True,  # and not all distances at once
        verbose=False,
    )

    def of(value: float, count: int) -> Figure:
        return share(np.arange(count) < round(value * count))

    return (
        of(measured[KEY_METRIC_PRECISION], len(generated)),
        of(measured[KEY_METRIC_RECALL], len(real)),
    )


def inception_score(logits: Float[np.ndarray, "N C"]) -> Figure:
    """Inception Score, the mean over parts of the pictures, as torch-fidelity's.

    Its interval is Student's, of the mean over parts of this size.

    Source:
        arXiv 1606.03498.
    """
    splits = max(2, min(ISC_SPLITS, len(logits) // 2))
    measured = isc_features_to_metric(torch.from_numpy(logits), splits=splits)
    value, error = measured[KEY_METRIC_ISC_MEAN], measured[KEY_METRIC_ISC_STD] / np.sqrt(splits - 1)
    reach = scipy.stats.t.ppf(0.975, splits - 1) * error
    return Figure(
        value=value,
        low=float(value - reach),
        high=float(value + reach),
        count=len(logits),
        better="higher",
    )
