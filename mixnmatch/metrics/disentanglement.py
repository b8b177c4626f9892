"""Factor accuracy: do mixes show of each source picture what was taken from it, and no more?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mixnmatch.codes import Codes
from mixnmatch.config import EvaluationConfig
from mixnmatch.data.store import Dataset
from mixnmatch.metrics.encoded import EncodedPictures
from mixnmatch.metrics.figures import Figure, Figures, bootstrap, mean, share
from mixnmatch.metrics.judge import chance_level, load_judge
from mixnmatch.metrics.measure import Exhibit, Measure, Observations, Preparation, Subject, Table
from mixnmatch.mixer import Mode
from mixnmatch.recipes import Recipe
from mixnmatch.sheets import grid, labelled, zoom_of

FACTORS = ("background", "pose", "shape", "texture")
"""What a mix takes, each from a picture of its own."""
MODE_SOURCES: dict[Mode, tuple[str, ...]] = {
    "code": FACTORS,
    "feature": ("background", "shape", "texture"),
}
"""The sources of each mode: feature mode takes the pose with the shape."""
MIXED, REPEATED, SHOWN = 300, 301, 302
"""Purposes of random numbers: sources of mixes, pictures to reconstruct, the exhibit."""
SHOWN_MIXES = 8
_PREFIX: dict[Mode, str] = {"code": "", "feature": "feature_"}
_UNSEEN = -1  # answer on reconstructions beyond the number of pictures


class FactorMeasure(Measure):
    """Mixes of four random pictures each, whose factors a judge names.

    Each case is one mix in code mode, one of the same sources in feature mode (once there is a
    shape extractor), and one picture mixed with itself, as long as there are pictures left. All are
    held-out pictures with known factors.

    * ``accuracy/<factor>``: share of mixes that show the factor of its source;
      ``disentanglement_accuracy`` is their mean over factors.
    * ``leak/<factor>_from_<source>``: share of mixes that show the factor of a source which should
      not give it; ``leak`` is the largest excess over chance, as a share of what chance leaves.
    * ``feature_…``: the same of feature mode.
    * ``reconstruction_accuracy/…``: share of pictures that keep a factor when mixed with
      themselves.
    * ``judge/…``: how often the judge itself is right, on real pictures it was not taught.

    Chance levels are the probability that two random pictures agree.

    Args:
        subject: What is measured. Its judge is trained now if the cache has none.
    """

    group = "factors"

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.judge = load_judge(
            subject.dataset, subject.image_size, steps=subject.config.classifier_steps
        )

    @classmethod
    def names(cls, dataset: Dataset, config: EvaluationConfig) -> set[str]:
        """All or none: it applies to data whose four factors are known."""
        if not set(FACTORS) <= set(dataset.info.factors or {}):
            return set()
        named = {"reconstruction_accuracy", "judge/held_out"}
        named |= {f"{group}/{f}" for group in ("reconstruction_accuracy", "judge") for f in FACTORS}
        for mode, prefix in _PREFIX.items():
            named |= {f"{prefix}disentanglement_accuracy", f"{prefix}leak"}
            named |= {f"{prefix}accuracy/{factor}" for factor in FACTORS}
            named |= {f"{prefix}leak/{f}_from_{source}" for f, source, _ in _off_diagonal(mode)}
        return named

    @property
    def count(self) -> int:
        """Number of mixes of each mode."""
        return self.subject.config.samples

    @cached_property
    def modes(self) -> tuple[Mode, ...]:
        """Those that the model has learnt."""
        return ("code",) if self.subject.bundle.extractor is None else ("code", "feature")

    @cached_property
    def sources(self) -> Int[np.ndarray, "N 4"]:
        """Of each mix, the held-out pictures that give the factors, in the order of ``FACTORS``."""
        pictures, random = len(self.subject.held_out_rows), self.subject.random(MIXED)
        return torch.randint(pictures, (self.count, len(FACTORS)), generator=random).numpy()

    @cached_property
    def repeated(self) -> Int[np.ndarray, "R"]:
        """The held-out pictures that are mixed with themselves; at most one a case."""
        pictures, random = len(self.subject.held_out_rows), self.subject.random(REPEATED)
        return torch.randperm(pictures, generator=random)[: self.count].numpy()

    @cached_property
    def truth(self) -> Int[np.ndarray, "P 4"]:
        """The factors of the held-out pictures."""
        columns = [np.array(self.subject.dataset.column(factor)) for factor in FACTORS]
        return np.stack(columns, axis=1)[self.subject.held_out_rows]

    @cached_property
    def chance(self) -> Float[np.ndarray, "4"]:
        """Probability that two random held-out pictures agree in each factor."""
        return np.array([chance_level(torch.from_numpy(column)) for column in self.truth.T])

    @cached_property
    def encoded(self) -> EncodedPictures:
        """The codes of all pictures that give to a mix."""
        return EncodedPictures(self.subject, np.append(self.sources, self.repeated))

    def oracles(self) -> Mapping[str, str]:
        """See ``Measure``."""
        return {"classifier": self.judge.digest}

    def needs(self) -> Sequence[Preparation]:
        """The codes that mixes are made of."""
        return (self.encoded,)

    def observe(self, cases: range) -> Observations:
        """What the judge sees in some mixes.

        Returns:
            ``code``, ``feature`` and ``reconstruction``, each with a row a case and a category a
            factor; reconstructions end with rows of -1.
        """
        mixed = self.sources[cases.start : cases.stop]
        seen: Observations = {}
        for mode in self.modes:
            seen[mode] = self._judged(self._painted(mixed, mode))
        again = np.full((len(cases), len(FACTORS)), _UNSEEN)
        rows = self.repeated[cases.start : cases.stop]
        if len(rows):
            again[: len(rows)] = self._judged(self._painted(np.stack([rows] * 4, axis=1), "code"))
        return seen | {"reconstruction": again}

    def figures(self, seen: Observations) -> Figures:
        """See the class."""
        figures: Figures = {}
        for mode in self.modes:
            prefix, agree = _PREFIX[mode], self._agreement(seen[mode])
            # In feature mode the picture of the shape is where the pose is looked for.
            given = [_giver(factor, mode) for factor in FACTORS]
            right = agree[:, range(len(FACTORS)), given]
            figures |= self._accuracy(
                f"{prefix}accuracy", right, overall=f"{prefix}disentanglement_accuracy"
            )
            figures |= self._leaks(f"{prefix}leak", agree, mode)
        known = seen["reconstruction"][: len(self.repeated)]
        figures |= self._accuracy(
            "reconstruction_accuracy",
            known == self.truth[self.repeated],
            overall="reconstruction_accuracy",
        )
        judge = self.judge.figures()
        names = [*(f"judge/{factor}" for factor in FACTORS), "judge/held_out"]
        return figures | {name: judge[name] for name in names}

    def exhibits(self, seen: Observations) -> Sequence[Exhibit]:
        """Who gave what, and the mixes behind it: the worst of each mode, and a few random ones."""
        shown: list[Exhibit] = [self._matrix(mode, seen[mode]) for mode in self.modes]
        for mode in self.modes:
            agree = self._agreement(seen[mode])
            given = [_giver(factor, mode) for factor in FACTORS]
            wrong = (~agree[:, range(len(FACTORS)), given]).sum(axis=1)
            worst = np.argsort(-wrong, kind="stable")[:SHOWN_MIXES]
            most, least = wrong[worst[0]], wrong[worst[-1]]
            shown.append(
                self._sheet(
                    f"Worst mixes, {mode} mode",
                    f"Those with most factors wrong: {most} down to {least} of {len(FACTORS)} by "
                    "the judge. Look for the factor that several of them miss.",
                    worst,
                    (mode,),
                )
            )
        order = torch.randperm(self.count, generator=self.subject.random(SHOWN))
        random = order[:SHOWN_MIXES].numpy()
        caption = "Chosen blindly: what the accuracy looks like."
        return [*shown, self._sheet("Random mixes", caption, random, self.modes)]

    def _painted(self, sources: Int[np.ndarray, "B 4"], mode: Mode) -> Float[Tensor, "B 3 S S"]:
        """The mixes of ``Mixer.mix_tensors``, from codes that are known already."""
        mixer, feature = self.subject.mixer, None
        background, pose, shape, texture = (self.encoded.codes(rows) for rows in sources.T)
        if mode == "feature":  # the pose comes with the shape
            pose = shape
            outlined = sources[:, FACTORS.index("shape")]
            feature = mixer.shape_feature(self.subject.held_out.images[outlined])
        codes = Codes(z=pose.z, b=background.b, p=shape.p, c=texture.c)
        return mixer.paint(Recipe(codes, background.z, feature))

    def _judged(self, images: Float[Tensor, "B 3 S S"]) -> Int[np.ndarray, "B 4"]:
        self.judge.network.to(self.subject.bundle.device)
        answers = self.judge.classify(images)
        return np.stack([answers[factor].numpy() for factor in FACTORS], axis=1)

    def _agreement(self, answers: Int[np.ndarray, "N 4"]) -> Bool[np.ndarray, "N 4 4"]:
        """Whether a factor of a mix (second axis) is that of a source of it (third axis)."""
        given = self.truth[self.sources]  # case, source, factor
        return answers[:, :, None] == given.transpose(0, 2, 1)

    def _accuracy(self, prefix: str, right: Bool[np.ndarray, "N 4"], *, overall: str) -> Figures:
        figures = {
            f"{prefix}/{factor}": share(right[:, i], chance=float(self.chance[i]))
            for i, factor in enumerate(FACTORS)
        }
        chance = float(self.chance.mean())
        shares = right.astype(np.float64)
        return figures | {overall: mean(shares, chance=chance, better="higher")}

    def _leaks(self, prefix: str, agree: Bool[np.ndarray, "N 4 4"], mode: Mode) -> Figures:
        figures: Figures = {}
        factors: list[int] = []
        leaks: list[np.ndarray] = []
        for factor, source, (row, column) in _off_diagonal(mode):
            # Chance is right: less is as odd as more.
            figures[f"{prefix}/{factor}_from_{source}"] = replace(
                share(agree[:, row, column], chance=float(self.chance[row])), better=None
            )
            factors.append(row)
            leaks.append(agree[:, row, column])
        return figures | {prefix: _largest(np.stack(leaks, axis=1), self.chance[factors])}

    def _matrix(self, mode: Mode, answers: Int[np.ndarray, "N 4"]) -> Exhibit:
        columns = [FACTORS.index(source) for source in MODE_SOURCES[mode]]
        shares = self._agreement(answers).mean(axis=0)[:, columns]
        intended = "the diagonal" if mode == "code" else "the diagonal, and pose from shape,"
        return Exhibit(
            title=f"Which source gives which factor, {mode} mode",
            caption=f"Share of mixes that show the factor (row) of the source (column): {intended} "
            "should be 1, all else at chance.",
            table=Table(
                rows=FACTORS,
                columns=[f"{source} source" for source in MODE_SOURCES[mode]],
                values=shares,
                chance=np.repeat(self.chance[:, None], len(columns), axis=1),
                corner="factor of the mix",
            ),
        )

    def _sheet(
        self, title: str, caption: str, cases: Int[np.ndarray, "N"], modes: Sequence[Mode]
    ) -> Exhibit:
        sources = self.sources[cases]
        images = self.subject.held_out.images
        rows = {f"{n} of": images[given] for n, given in zip(FACTORS, sources.T, strict=True)}
        rows |= {f"{mode} mix": self._painted(sources, mode) for mode in modes}
        zoom = zoom_of(self.subject.image_size)
        picture = labelled(grid(list(rows.values()), zoom=zoom), list(rows))
        return Exhibit(title=title, caption=caption, picture=picture)


def _giver(factor: str, mode: Mode) -> int:
    """Which source a factor is taken from, as an index of ``FACTORS``."""
    return FACTORS.index("shape" if (factor, mode) == ("pose", "feature") else factor)


def _off_diagonal(mode: Mode) -> Iterator[tuple[str, str, tuple[int, int]]]:
    """Factors and the sources that should not give them, with the indices of both."""
    for row, factor in enumerate(FACTORS):
        for source in MODE_SOURCES[mode]:
            column = FACTORS.index(source)
            if column != _giver(factor, mode):
                yield factor, source, (row, column)


def _largest(leaks: Bool[np.ndarray, "N L"], chance: Float[np.ndarray, "L"]) -> Figure:
    """The largest of several excesses over chance, each a share of what chance leaves.

    The largest of many estimates is too large, and so are resampled ones. Hence the interval
    reaches as far to both sides as resampling moves *any* of the excesses.

    Args:
        leaks: Whether there is each of L agreements in each of N cases.
        chance: Its probability by chance; where that is 1, nothing can leak.
    """
    left = 1 - chance

    def excess(index: Int[np.ndarray, "N"]) -> Float[np.ndarray, "L"]:
        beyond = leaks[index].mean(axis=0) - chance
        return np.divide(beyond, left, out=np.zeros_like(left), where=left > 0)

    found = excess(np.arange(len(leaks)))
    _, reach = bootstrap(lambda index: float(np.abs(excess(index) - found).max()), len(leaks))
    value = float(found.max())
    return Figure(
        value=value,
        low=value - reach,
        high=min(1.0, value + reach),
        count=len(leaks),
        better="lower",
    )
