"""What the codes of real pictures know: whether all are used, and what they tell of each other."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int
from scipy.stats import entropy
from sklearn.metrics import mutual_info_score
from sklearn.metrics.cluster import contingency_matrix, expected_mutual_information

from mixnmatch.codes import parent_of
from mixnmatch.config import EvaluationConfig
from mixnmatch.data.store import Dataset
from mixnmatch.metrics.clustering import compare, comparisons
from mixnmatch.metrics.figures import Figure, Figures, share
from mixnmatch.metrics.measure import Exhibit, Measure, Observations, Table
from mixnmatch.networks.encoders import CodeName
from mixnmatch.sheets import grid, labelled, zoom_of

CODES: tuple[CodeName, ...] = ("b", "p", "c")
SHOWN_CODES, SHOWN_PICTURES = 8, 8
"""Texture codes, and pictures of each, that the exhibit shows."""


class CodeMeasure(Measure):
    """The codes that the encoders give held-out pictures, each its most likely category.

    Its cases are those pictures. Where classes or factors are known, ``clustering`` compares the
    codes with them.
    """

    group = "codes"

    @classmethod
    def names(cls, dataset: Dataset, config: EvaluationConfig) -> set[str]:
        """All but the comparisons with classes apply to any data set."""
        named = {f"codes/{kind}_{code}" for kind in ("used", "perplexity") for code in CODES}
        named |= {"codes/mi_b_c", "codes/mi_p_c", "codes/parent_agreement"}
        return named.union(*(found.names.values() for found in comparisons(dataset)))

    @property
    def count(self) -> int:
        """Number of held-out pictures."""
        return len(self.subject.held_out_rows)

    @torch.no_grad()
    def observe(self, cases: range) -> Observations:
        """The categories of some pictures: ``b``, ``p`` and ``c``."""
        bundle = self.subject.bundle
        rows = self.subject.held_out_rows[cases.start : cases.stop]
        images = self.subject.read(rows).images.to(bundle.device)
        return {
            code: bundle.encoders.code(code, images).argmax(dim=1).cpu().numpy() for code in CODES
        }

    def figures(self, seen: Observations) -> Figures:
        """See ``docs/measures.md``."""
        model = self.subject.bundle.config.model
        categories = {
            "b": model.fine_categories,
            "p": model.super_categories,
            "c": model.fine_categories,
        }
        figures: Figures = {}
        for code in CODES:
            figures[f"codes/used_{code}"] = used(seen[code], categories[code])
            figures[f"codes/perplexity_{code}"] = perplexity(seen[code], categories[code])
        figures["codes/mi_b_c"] = mutual_information(seen["b"], seen["c"])
        figures["codes/mi_p_c"] = mutual_information(seen["p"], seen["c"])
        agreement = self._parents(seen)
        figures["codes/parent_agreement"] = share(
            seen["p"] == agreement, chance=chance_agreement(seen["p"], agreement)
        )
        dataset = self.subject.dataset
        for found in comparisons(dataset):
            column = dataset.column(found.column)
            classes = [column[row] for row in self.subject.held_out_rows]
            figures |= compare(found, seen[found.code], classes)
        return figures

    def exhibits(self, seen: Observations) -> Sequence[Exhibit]:
        """Pictures of one texture code, and how shape and texture codes go together."""
        return [self._clusters(seen), self._family(seen)]

    def _parents(self, seen: Observations) -> Int[np.ndarray, "N"]:
        """The shape that each picture's texture belongs to."""
        return parent_of(torch.from_numpy(seen["c"]), self.subject.bundle.config.model).numpy()

    def _clusters(self, seen: Observations) -> Exhibit:
        counts = np.bincount(seen["c"])
        # The most used first; of equal ones the one with the smaller number.
        chosen = [c for c in np.argsort(-counts, kind="stable")[:SHOWN_CODES] if counts[c]]
        rows = [self.subject.held_out_rows[seen["c"] == c][:SHOWN_PICTURES] for c in chosen]
        pictures = self.subject.read(np.concatenate(rows)).images
        sheet = grid(
            pictures.split([len(row) for row in rows]), zoom=zoom_of(self.subject.image_size)
        )
        labels = [f"texture {c}\n{counts[c]} pictures" for c in chosen]
        return Exhibit(
            title="Pictures of one texture code",
            caption="Real held-out pictures to which the encoder gives the same texture code, the "
            "most used codes first. A row should show one kind of thing.",
            picture=labelled(sheet, labels),
        )

    def _family(self, seen: Observations) -> Exhibit:
        size = self.subject.bundle.config.model.super_categories
        together = np.zeros((size, size))
        np.add.at(together, (seen["p"], self._parents(seen)), 1)
        of_row = together / np.maximum(1, together.sum(axis=1, keepdims=True))
        of_all = np.broadcast_to(together.sum(axis=0) / together.sum(), (size, size))
        return Exhibit(
            title="Shape codes and the parents of texture codes",
            caption="Of the pictures of each shape code, the share whose texture code belongs to "
            "each shape. The diagonal is full where the two encoders agree.",
            table=Table(
                rows=[str(k) for k in range(size)],
                columns=[str(k) for k in range(size)],
                values=of_row,
                chance=of_all,
                corner="shape code, parent of the texture code",
            ),
        )


def used(codes: Int[np.ndarray, "N"], categories: int) -> Figure:
    """Share of the categories that at least one picture has.

    Its chance level is what is expected of pictures that choose evenly, independently of each
    other: 1 - (1 - 1/K)^N.
    """
    return Figure(
        value=len(np.unique(codes)) / categories,
        chance=1 - (1 - 1 / categories) ** len(codes),
        count=len(codes),
        better="higher",
    )


def perplexity(codes: Int[np.ndarray, "N"], categories: int) -> Figure:
    """How many categories are really in use, as a share: exp(entropy of the histogram) / K.

    1 is an even use of all of them, 1/K a collapse to one.
    """
    value = float(np.exp(entropy(np.bincount(codes)))) / categories
    return Figure(value=value, count=len(codes), better="higher")


def mutual_information(left: Int[np.ndarray, "N"], right: Int[np.ndarray, "N"]) -> Figure:
    """What one code tells of another, in nats, of the empirical joint.

    Few pictures make it large even of independent codes. Its chance level is the exact expectation
    for independent codes with these histograms (scikit-learn's, of the adjusted measure).
    """
    together = contingency_matrix(left, right, sparse=True)
    return Figure(
        # Rounding can bring a zero below zero.
        value=max(0.0, float(mutual_info_score(left, right))),
        chance=float(expected_mutual_information(together, len(left))),
        count=len(left),
    )


def chance_agreement(left: Int[np.ndarray, "N"], right: Int[np.ndarray, "N"]) -> float:
    """How often two independent codes with these histograms agree."""
    size = int(max(left.max(), right.max())) + 1
    shares = [np.bincount(codes, minlength=size) / len(codes) for codes in (left, right)]
    return float(shares[0] @ shares[1])
