"""The paper's test of shape and texture, by keypoints found in mixes.

Source:
    MixNMatch, arXiv 1911.11758: a mix takes texture and background from a real picture
    A, shape and pose from a real picture B. Its shape error is the L2 distance between keypoints
    that a detector, taught on real pictures, finds in it and the annotated ones of B; its texture
    error the χ² distance of colour histograms around the keypoints found in it to those around A's.

    Our choice: the detector (``localiser``, whose own error is told beside), patches and bins
    (``colour``), distances in units of the picture's side, the object view cropped in the middle,
    only held-out pictures, and texture only at keypoints that are annotated in both A and B, for
    elsewhere there is no patch to compare with. Hence the paper's numbers are not comparable.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int64
from PIL import Image, ImageDraw
from torch import Tensor

from mixnmatch.config import EvaluationConfig
from mixnmatch.data.batches import EvaluationSet
from mixnmatch.data.store import Dataset
from mixnmatch.metrics import figures
from mixnmatch.metrics.colour import chi_squared, patch_histograms
from mixnmatch.metrics.figures import Figures
from mixnmatch.metrics.localiser import Localiser, load_localiser
from mixnmatch.metrics.measure import Exhibit, Measure, Observations, Preparation, Subject
from mixnmatch.mixer import Mode
from mixnmatch.sheets import GAP, grid, labelled

Errors = Float[np.ndarray, "N K"]
"""Of each pair and keypoint; NaN where nothing is annotated."""

_PAIRS = 401  # stream of randomness
_OTHERS = 16
"""Pairs whose pictures a mix is compared with for the chance level."""
_SHOWN_SIDE = 160
"""Least side in pixels of the pictures that keypoints are drawn on."""
_TRUE, _FOUND = (255, 255, 255), (255, 32, 32)
_PREFIX: dict[Mode, str] = {"code": "", "feature": "feature_"}


class KeypointMeasure(Measure):
    """Do mixes have the shape of one picture and the texture of the other?

    A case is a pair (A, B) of different held-out pictures, each with keypoints. All errors are the
    lower the better, and have as chance the same error against the picture of another pair:

    * ``keypoints/shape_error``, of code mode: mean distance of the keypoints found in the mix to
      those of B that are annotated as visible, in units of the picture's side;
    * ``keypoints/texture_error``: mean χ² distance to A's colours around keypoints, in [0, 1];
    * ``keypoints/feature_shape_error``, ``keypoints/feature_texture_error``: the same of feature
      mode, where the model has been through stage 2;
    * ``keypoints/shape_floor``: the shape error of B itself instead of the mix, and
      ``keypoints/texture_floor`` the texture error of A itself: what the localiser makes;
    * ``keypoints/pck``: share of visible keypoints of held-out real pictures that it finds within
      a tenth of the longer box side; by chance, those that the mean position is as near to.
    """

    group = "keypoints"

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        rows = _rows_with_keypoints(subject.dataset)
        random = subject.random(_PAIRS)
        first = torch.randint(len(rows), (self.count,), generator=random)
        further = torch.randint(1, len(rows), (self.count,), generator=random)
        self._a = rows[first.numpy()]
        self._b = rows[((first + further) % len(rows)).numpy()]

    @classmethod
    def names(cls, dataset: Dataset, config: EvaluationConfig) -> set[str]:
        """None where fewer than two pictures have keypoints."""
        if len(_rows_with_keypoints(dataset)) < 2:
            return set()
        errors = ("shape_error", "texture_error", "feature_shape_error", "feature_texture_error")
        return {f"keypoints/{name}" for name in (*errors, "shape_floor", "texture_floor", "pck")}

    @property
    def count(self) -> int:
        """As many pairs as samples."""
        return self.subject.config.samples

    @cached_property
    def localiser(self) -> Localiser:
        """From the cache, or trained now."""
        subject = self.subject
        steps = subject.config.localiser_steps
        return load_localiser(subject.dataset, subject.image_size, steps=steps)

    def needs(self) -> Sequence[Preparation]:
        """Nothing, but trains the localiser, so that not each worker does."""
        assert self.localiser
        return ()

    def oracles(self) -> Mapping[str, str]:
        """See ``Measure``."""
        return {"localiser": self.localiser.digest}

    def observe(self, cases: range) -> Observations:
        """What is found in mixes, and in their sources; NaN where nothing is annotated."""
        a, b = self._sources(cases)
        truth_a, truth_b = _keypoints(a), _keypoints(b)
        unseen = truth_b.isnan()
        seen = {
            "pair": np.stack([self._a[cases], self._b[cases]], axis=1),
            "truth": truth_b.numpy(),
            "colours": patch_histograms(a.images, truth_a),
            "shape_floor": self._find(b.images).numpy(),
            "texture_floor": patch_histograms(
                a.images, self._find(a.images).masked_fill(unseen, torch.nan)
            ),
        }
        for mode in self._modes:
            mixed = self._mix(a, b, mode)
            found = self._find(mixed)
            seen[f"{mode}_found"] = found.numpy()
            seen[f"{mode}_colours"] = patch_histograms(mixed, found.masked_fill(unseen, torch.nan))
        return seen

    def figures(self, seen: Observations) -> Figures:
        """Mean errors over pairs and keypoints."""
        side, (of_a, of_b) = self.subject.image_size, seen["pair"].T

        def shape(found: np.ndarray, truth: np.ndarray) -> Errors:
            return np.linalg.norm(found.astype(np.float64) - truth, axis=2) / side

        measured: Figures = {}
        for mode in self._modes:
            for name, distance, found, truth, rows in (
                ("shape_error", shape, seen[f"{mode}_found"], seen["truth"], of_b),
                ("texture_error", chi_squared, seen[f"{mode}_colours"], seen["colours"], of_a),
            ):
                measured[f"keypoints/{_PREFIX[mode]}{name}"] = figures.mean(
                    distance(found, truth),
                    chance=_by_chance(distance, found, truth, rows),
                    better="lower",
                )
        floors = {
            "shape_floor": shape(seen["shape_floor"], seen["truth"]),
            "texture_floor": chi_squared(seen["texture_floor"], seen["colours"]),
        }
        for name, floor in floors.items():
            measured[f"keypoints/{name}"] = figures.mean(floor, better="lower")
        return measured | {"keypoints/pck": self.localiser.worth["pck"]}

    def exhibits(self, seen: Observations) -> Sequence[Exhibit]:
        """The mixes with the least, the middle and the largest shape error."""
        away = np.linalg.norm(seen["code_found"] - seen["truth"], axis=2)
        known = np.isfinite(away)
        errors = np.where(known, away, 0).sum(axis=1) / np.maximum(1, known.sum(axis=1))
        order = np.flatnonzero(known.any(axis=1))
        order = order[errors[order].argsort(kind="stable")]
        middle = len(order) // 2
        chosen = {
            "best": order[:2],
            "median": order[middle : middle + 2],
            "worst": order[-2:],
        }
        cases = np.concatenate(list(chosen.values()))
        labels = [name for name, some in chosen.items() for _ in some]
        return [
            Exhibit(
                title="Keypoints of mixes",
                caption="From left to right: A (texture, background), B (shape, pose), and what "
                f"was painted by {' and '.join(f'{mode} mode' for mode in self._modes)}. White "
                "rings are B's own keypoints, red dots those found in the picture.",
                picture=labelled(self._sheet(cases), labels, margin=70),
            )
        ]

    @property
    def _modes(self) -> tuple[Mode, ...]:
        return ("code",) if self.subject.bundle.extractor is None else ("code", "feature")

    def _sources(self, cases: "range | Int64[np.ndarray, 'B']") -> tuple[EvaluationSet, ...]:
        return self.subject.read(self._a[cases]), self.subject.read(self._b[cases])

    def _mix(self, a: EvaluationSet, b: EvaluationSet, mode: Mode) -> Float[Tensor, "B 3 S S"]:
        return self.subject.mixer.mix_tensors(
            background=a.images, texture=a.images, shape=b.images, pose=b.images, mode=mode
        )

    def _find(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B K 2"]:
        return self.localiser.locate(images).keypoints

    def _sheet(self, cases: Int64[np.ndarray, "C"]) -> Image.Image:
        a, b = self._sources(cases)
        columns = [a.images, b.images, *(self._mix(a, b, mode) for mode in self._modes)]
        side = self.subject.image_size
        zoom = -(-_SHOWN_SIDE // side)
        sheet = grid([torch.stack(row) for row in zip(*columns, strict=True)], zoom=zoom)
        draw = ImageDraw.Draw(sheet)
        truths = _keypoints(b)
        for column, images in enumerate(columns[1:], start=1):
            found = self.localiser.locate(images)
            for row, truth in enumerate(truths):
                corner = torch.tensor([column, row]) * (zoom * side + GAP)
                for x, y in (corner + zoom * truth[~truth.isnan().any(dim=1)]).tolist():
                    draw.ellipse((x - 5, y - 5, x + 5, y + 5), outline=_TRUE, width=2)
                points = found.keypoints[row][found.visible[row]]
                for x, y in (corner + zoom * points).tolist():
                    draw.ellipse((x - 2.5, y - 2.5, x + 2.5, y + 2.5), fill=_FOUND)
        return sheet


def _by_chance(
    distance: Callable[[np.ndarray, np.ndarray], Errors],
    found: np.ndarray,
    truth: np.ndarray,
    rows: Int64[np.ndarray, "N"],
) -> float | None:
    """The mean error against the pictures of other pairs, where they are other pictures."""
    total, count = 0.0, 0
    for shift in range(1, min(_OTHERS + 1, len(rows))):
        errors = distance(found, np.roll(truth, shift, axis=0))
        known = np.isfinite(errors) & (rows != np.roll(rows, shift))[:, None]
        total, count = total + float(errors[known].sum()), count + int(known.sum())
    return total / count if count else None


def _rows_with_keypoints(dataset: Dataset) -> Int64[np.ndarray, "N"]:
    """Held-out pictures with visible keypoints: of the test split, or of all without one."""
    if not dataset.info.parts:
        return np.empty(0, dtype=np.int64)
    rows = dataset.held_out_rows()
    annotated = np.array([bool(parts) for parts in dataset.column("parts")])
    return rows[annotated[rows]]


def _keypoints(pictures: EvaluationSet) -> Float[Tensor, "B K 2"]:
    assert pictures.keypoints is not None, "the data set names its keypoints"
    return pictures.keypoints
