"""Do pictures of one fine category differ, as real pictures of one class do?"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mixnmatch.codes import Codes
from mixnmatch.config import EvaluationConfig
from mixnmatch.data.store import Dataset
from mixnmatch.metrics.figures import Figures, mean
from mixnmatch.metrics.measure import Exhibit, Measure, Observations
from mixnmatch.metrics.ms_ssim import ms_ssim
from mixnmatch.sheets import grid, labelled, zoom_of

FIRST, SECOND, REAL, SHOWN = 200, 201, 202, 203
"""Purposes of random numbers: the two pictures of each pair, real pairs, the exhibit."""
SHOWN_CATEGORIES, SHOWN_PICTURES = 8, 8

Images = Float[Tensor, "B 3 S S"]
"""Pixels in [-1, 1]."""


class DiversityMeasure(Measure):
    """Pairs of generated pictures of one fine category, beside real pairs of one class.

    Each case is a generated pair (tied codes, each picture with noise of its own; as many pairs of
    each category) and, where classes are known, a real pair. There are half as many as
    ``evaluation.samples``.

    Source:
        Conditional image synthesis with auxiliary classifier GANs, arXiv 1610.09585, section 4.2.
    """

    group = "diversity"

    @classmethod
    def names(cls, dataset: Dataset, config: EvaluationConfig) -> set[str]:
        """Those of generated pairs for any data set; of real ones if a class has two pictures."""
        kinds = ("", "_real") if classes_with_pairs(dataset) else ("",)
        return {f"diversity/{what}{kind}" for what in ("ms_ssim", "pixel") for kind in kinds}

    @property
    def count(self) -> int:
        """Number of pairs."""
        return self.subject.config.samples // 2

    @cached_property
    def _codes(self) -> tuple[Codes, Codes]:
        """Of all generated pairs, drawn at once, so that no part of them depends on another."""
        first, second = (self.subject.tied_codes(self.count, p) for p in (FIRST, SECOND))
        return first, second

    @cached_property
    def _real_rows(self) -> Int64[np.ndarray, "N 2"] | None:
        """Rows of all real pairs: as many of each class that has two pictures."""
        classes = classes_with_pairs(self.subject.dataset)
        if not classes:
            return None
        random = np.random.default_rng([self.subject.seed, REAL])
        pairs = [
            random.choice(classes[case % len(classes)], 2, replace=False)
            for case in range(self.count)
        ]
        return np.stack(pairs)

    def observe(self, cases: range) -> Observations:
        """How alike the two pictures of some pairs are."""
        part = slice(cases.start, cases.stop)
        first, second = (
            self.subject.paint(Codes(*(code[part] for code in codes))) for codes in self._codes
        )
        seen = {"ms_ssim": similarity(first, second), "pixel": distance(first, second)}
        if self._real_rows is not None:
            rows = self._real_rows[part].T.reshape(-1)
            first, second = self.subject.read(rows).images.chunk(2)
            seen["ms_ssim_real"] = similarity(first, second)
            seen["pixel_real"] = distance(first, second)
        return seen

    def figures(self, seen: Observations) -> Figures:
        """Means over the pairs, with bootstrap intervals."""
        better = {"ms_ssim": "lower", "pixel": "higher"}
        return {
            f"diversity/{name}": mean(values, better=better.get(name))
            for name, values in seen.items()
        }

    def exhibits(self, seen: Observations) -> Sequence[Exhibit]:
        """A row of pictures for each of several fine categories."""
        model = self.subject.bundle.config.model
        shown = min(SHOWN_CATEGORIES, model.fine_categories)
        chosen = torch.arange(shown) * model.fine_categories // shown
        _, *simplex = self.subject.tied_codes(model.fine_categories, SHOWN)
        noise = torch.randn(SHOWN_PICTURES, model.noise_dim, generator=self.subject.random(SHOWN))
        rows = [
            self.subject.paint(
                Codes(noise, *(code[k].expand(SHOWN_PICTURES, -1) for code in simplex))
            )
            for k in chosen
        ]
        sheet = grid(rows, zoom=zoom_of(self.subject.image_size))
        return [
            Exhibit(
                title="Pictures of one fine category",
                caption="Each row has one texture, its shape and its background; each column one "
                "noise. A row whose pictures are all alike has collapsed.",
                picture=labelled(sheet, [f"texture {int(k)}" for k in chosen]),
            )
        ]


def classes_with_pairs(dataset: Dataset) -> list[Int64[np.ndarray, "_"]]:
    """Rows of each class with at least two training pictures; none where no classes are known."""
    if not dataset.info.labels:
        return []
    labels, rows = dataset.column("label"), dataset.indices("train")
    members: dict[int, list[int]] = {}
    for row in rows:
        if labels[row] is not None:
            members.setdefault(labels[row], []).append(int(row))
    return [np.array(members[label]) for label in sorted(members) if len(members[label]) > 1]


def similarity(left: Images, right: Images) -> Float[np.ndarray, "B"]:
    """MS-SSIM of each pair, in [0, 1]."""
    return ms_ssim(left, right).numpy()


def distance(left: Images, right: Images) -> Float[np.ndarray, "B"]:
    """Mean absolute difference of the pixels of each pair, as a share of their range, in [0, 1]."""
    return ((left.double() - right.double()).abs().flatten(1).mean(dim=1) / 2).numpy()
