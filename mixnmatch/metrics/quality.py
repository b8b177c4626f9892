"""Generated pictures beside real ones: how far apart, how good, how varied, how new."""

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int64
from PIL import Image

from mixnmatch.codes import Codes
from mixnmatch.config import EvaluationConfig
from mixnmatch.data.store import Dataset
from mixnmatch.errors import RunError
from mixnmatch.metrics.coverage import coverage, coverage_names, neighbours
from mixnmatch.metrics.distances import feature_figures, figure_name, inception_score
from mixnmatch.metrics.extractors import (
    Extractor,
    JudgeExtractor,
    extractor_names,
    load_extractors,
)
from mixnmatch.metrics.figures import Figure, Figures, sized
from mixnmatch.metrics.judge import Judge, judge_kind
from mixnmatch.metrics.measure import Exhibit, Measure, Observations
from mixnmatch.metrics.real_features import RealFeatures
from mixnmatch.sheets import grid, labelled, wrapped, zoom_of

SHOWN, NEAREST = 48, 8
"""Generated pictures on the sheets of samples, and of neighbours."""
_CODES = 101  # purpose of the noise


class QualityMeasure(Measure):
    """Distances of generated pictures to the training pictures, and what they cover.

    Args:
        subject: What is measured.
    """

    group = "quality"

    @classmethod
    def names(cls, dataset: Dataset, config: EvaluationConfig) -> set[str]:
        """See ``Measure``; none where no network can look at pictures."""
        extractors, samples = extractor_names(dataset, config), config.samples
        if not extractors:
            return set()
        names = {"evaluation/samples", "evaluation/real"}
        for extractor in extractors:
            for measure in ("frechet", "kid", "precision", "recall"):
                names.add(sized(figure_name(measure, extractor), samples))
            names.add(figure_name("authenticity", extractor))
            if extractor.startswith("inception"):
                names.add(sized(figure_name("inception_score", extractor), samples))
        about = _judged(dataset)
        if about is None:
            return names
        if about[0] == "label":  # of factors, the group `factors` tells it
            names |= {"judge/label", "judge/held_out"}
        return names | coverage_names(samples, about[0])

    @property
    def count(self) -> int:
        """Generated pictures."""
        return self.subject.config.samples

    @cached_property
    def extractors(self) -> list[Extractor]:
        """The networks that look at them; the first one says which pictures are near."""
        subject = self.subject
        return load_extractors(subject.dataset, subject.image_size, subject.config)

    @property
    def _judge(self) -> Judge:
        return next(each.judge for each in self.extractors if isinstance(each, JudgeExtractor))

    @cached_property
    def codes(self) -> Codes:
        """What is painted."""
        return self.subject.tied_codes(self.count, _CODES)

    def weights(self) -> Mapping[str, str]:
        """See ``Measure``."""
        return {extractor.name: extractor.key for extractor in self.extractors}

    def oracles(self) -> Mapping[str, str]:
        """See ``Measure``."""
        judged = _judged(self.subject.dataset) is not None
        return {"classifier": self._judge.digest} if judged else {}

    def needs(self) -> Sequence[RealFeatures]:
        """Features of the training pictures, and of held-out ones for comparison."""
        return self._real_features

    @cached_property
    def _real_features(self) -> list[RealFeatures]:
        held_out = len(self.subject.dataset.indices("test")) > 0
        return [
            preparation
            for extractor in self.extractors
            for preparation in (
                RealFeatures(self.subject, extractor),
                *([RealFeatures(self.subject, extractor, "test")] if held_out else []),
            )
        ]

    def observe(self, cases: range) -> Observations:
        """See ``Measure``."""
        images = self._painted(np.arange(cases.start, cases.stop))
        device = self.subject.bundle.device
        seen: Observations = {}
        for extractor in self.extractors:
            features = extractor.features(images, device)
            seen |= {f"{extractor.name}/{name}": values for name, values in features.items()}
            if isinstance(extractor, JudgeExtractor):
                about, _ = _judged(self.subject.dataset) or ("label", 0)
                answers = extractor.judge.classify(images.to(device))
                seen["answers"] = answers[about].cpu().numpy()
        return seen

    def figures(self, seen: Observations) -> Figures:
        """See ``Measure``."""
        figures = {
            "evaluation/samples": Figure(value=float(self.count)),
            "evaluation/real": Figure(value=float(len(self.subject.real_rows))),
        }
        for extractor in self.extractors:
            generated = _of(extractor, seen)
            real, held_out = self._real(extractor)
            figures |= feature_figures(extractor.name, generated["features"], real, held_out)
            if "logits" in generated:
                name = sized(figure_name("inception_score", extractor.name), self.count)
                figures[name] = inception_score(generated["logits"])
        judged = _judged(self.subject.dataset)
        if judged is not None:
            about, categories = judged
            figures |= coverage(seen["answers"], categories, about)
            if about == "label":
                figures |= self._judge.figures()
        return figures

    def exhibits(self, seen: Observations) -> Sequence[Exhibit]:
        """Samples of all fine codes, those nearest to training pictures, and the farthest."""
        extractor = self.extractors[0]
        real, _ = self._real(extractor)
        found = neighbours(_of(extractor, seen)["features"], real)
        ordered = np.argsort(self.codes.c.argmax(dim=1).numpy(), kind="stable")
        spread = np.linspace(0, self.count - 1, min(SHOWN, self.count)).round().astype(int)
        near = np.argsort(-found.closeness, kind="stable")[:NEAREST]
        far = np.argsort(-found.distance, kind="stable")[:NEAREST]
        return [
            Exhibit(
                title="Generated pictures",
                caption=f"{len(spread)} of {self.count}, ordered by fine code; neighbours share "
                "their texture, shape and background codes, and differ in pose.",
                picture=wrapped(
                    self._painted(ordered[spread]), columns=12, name="sample", title="Samples"
                ),
            ),
            Exhibit(
                title="Most like a training picture",
                caption="The samples that are nearest to a training picture, for how near others "
                f"of those are to it, by {extractor.name} features. Copies would mean that the "
                "model has learnt pictures by heart.",
                picture=self._beside(near, found.nearest[near], "Nearest to training pictures"),
            ),
            Exhibit(
                title="Worst samples",
                caption="The samples that are farthest from every training picture, by "
                f"{extractor.name} features, with the nearest one of those.",
                picture=self._beside(far, found.nearest[far], "Farthest from training pictures"),
            ),
        ]

    def _real(
        self, extractor: Extractor
    ) -> tuple[Float[np.ndarray, "M D"], Float[np.ndarray, "T D"] | None]:
        """Features of training pictures, and of held-out ones where there are some."""
        mine = [each for each in self._real_features if each.extractor.name == extractor.name]
        train, *test = (_kept(preparation) for preparation in mine)
        return train, test[0] if test else None

    def _codes_of(self, cases: Int64[np.ndarray, "B"]) -> Codes:
        return Codes(*(code[torch.from_numpy(cases)] for code in self.codes))

    def _painted(self, cases: Int64[np.ndarray, "B"]) -> Float[torch.Tensor, "B 3 S S"]:
        return self.subject.paint(self._codes_of(cases))

    def _beside(
        self, cases: Int64[np.ndarray, "B"], real: Int64[np.ndarray, "B"], title: str
    ) -> Image.Image:
        rows = [
            self._painted(cases),
            self.subject.read(self.subject.real_rows[real]).images,
        ]
        sheet = grid(rows, zoom=zoom_of(self.subject.image_size))
        return labelled(sheet, ["sample", "nearest training\npicture"], title=title)


def _judged(dataset: Dataset) -> tuple[str, int] | None:
    """What the judge is asked for coverage, and how many categories that has."""
    kind = judge_kind(dataset)
    if kind == "factors":
        return "texture", int((dataset.info.factors or {})["texture"])
    return None if kind is None else ("label", int(dataset.info.labels or 0))


def _of(extractor: Extractor, seen: Observations) -> Observations:
    """What one extractor saw."""
    prefix = f"{extractor.name}/"
    return {n.removeprefix(prefix): each for n, each in seen.items() if n.startswith(prefix)}


def _kept(preparation: RealFeatures) -> Float[np.ndarray, "N D"]:
    kept = preparation.load()
    if kept is None:
        raise RunError(
            f"{preparation.file}: features of real pictures that were written there are gone: "
            "evaluate again"
        )
    return kept["features"]
