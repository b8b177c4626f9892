import copy
import pickle
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from mixnmatch.bundle import load_bundle
from mixnmatch.config import EvaluationConfig
from mixnmatch.data.factors import FactorSpec, draw_picture
from mixnmatch.data.records import Factors
from mixnmatch.data.store import Dataset
from mixnmatch.data.views import centre_crop, prepare_views
from mixnmatch.metrics.disentanglement import FACTORS, SHOWN_MIXES, FactorMeasure, _largest
from mixnmatch.metrics.encoded import EncodedPictures
from mixnmatch.metrics.figures import Figure, Figures
from mixnmatch.metrics.judge import chance_level
from mixnmatch.metrics.measure import Measure, Observations, Observer, Subject, join, parts_of
from mixnmatch.mixer import Mode

MODES: dict[Mode, str] = {"code": "", "feature": "feature_"}
TAUGHT = EvaluationConfig(samples=200, batch_size=50, classifier_steps=100)
UNTAUGHT = EvaluationConfig(samples=1500, batch_size=100, classifier_steps=2)


def observed(measure: Measure) -> Observations:
    def seen(observer: Observer) -> Observations:
        parts = parts_of(observer.count, measure.subject.config.batch_size)
        return join([observer.observe(part) for part in parts])

    for preparation in measure.needs():
        preparation.keep(seen(preparation))
    return seen(measure)


def near(figure: Figure, expected: float, *, count: int | None = None) -> bool:
    """Within four standard errors of a share."""
    error = np.sqrt(expected * (1 - expected) / (count or figure.count or 1))
    return abs(figure.value - expected) <= 4 * error + 1e-12


def interval(figure: Figure) -> tuple[float, float]:
    assert figure.low is not None
    assert figure.high is not None
    return figure.low, figure.high


def off_diagonal(figures: Figures, prefix: str) -> dict[str, Figure]:
    start = f"{prefix}leak/"
    return {name.removeprefix(start): f for name, f in figures.items() if name.startswith(start)}


# Mixers whose mixes are known, and a judge that sees all


class KnownMixer:
    """Knows the factors of the held-out pictures; says of each mix what it is to show."""

    def __init__(self, subject: Subject, choose: Callable[..., Iterable[np.ndarray]]) -> None:
        self.choose = choose
        self.known = [subject.dataset[int(row)].factors for row in subject.held_out_rows]

    def factors(self, sources: np.ndarray) -> dict[str, list[Factors]]:
        return {
            name: [factors for i in pictures if (factors := self.known[i]) is not None]
            for name, pictures in zip(FACTORS, sources.T, strict=True)
        }

    def painted(self, sources: np.ndarray, mode: str) -> Tensor:
        table = {
            name: np.array([[getattr(f, factor) for factor in FACTORS] for f in factors])
            for name, factors in self.factors(sources).items()
        }
        mixed = np.stack(list(self.choose(mode=mode, **table)), axis=1)
        # Pictures whose first pixels are their factors.
        painted = torch.zeros(len(mixed), 3, 32, 32)
        painted[:, 0, 0, :4] = torch.from_numpy(mixed) / 100
        return painted


def all_seeing(images: Tensor) -> dict[str, Tensor]:
    values = (images[:, 0, 0, :4] * 100).round().long()
    return dict(zip(FACTORS, values.T, strict=True))


def known_measure(
    bundle: Path, dataset: Dataset, choose: Callable[..., Iterable[np.ndarray]]
) -> FactorMeasure:
    subject = Subject(bundle=load_bundle(bundle), dataset=dataset, config=UNTAUGHT)
    measure = FactorMeasure(subject)
    measure.judge = SimpleNamespace(  # type: ignore[assignment]
        network=torch.nn.Identity(), classify=all_seeing, figures=measure.judge.figures
    )
    measure._painted = KnownMixer(subject, choose).painted  # type: ignore[method-assign]
    return measure


def perfect(mode: str, **given: np.ndarray) -> Iterable[np.ndarray]:
    for i, factor in enumerate(FACTORS):
        source = "shape" if (mode, factor) == ("feature", "pose") else factor
        yield given[source][:, i]


def leaky(mode: str, **given: np.ndarray) -> Iterable[np.ndarray]:
    """The pose comes from the shape's picture, every second background from the texture's."""
    background, _, shape, texture = perfect(mode, **given)
    stolen = np.arange(len(background)) % 2 == 0
    yield np.where(stolen, given["texture"][:, 0], background)
    yield from (given["shape"][:, 1], shape, texture)


@pytest.mark.parametrize("copied", FACTORS)
def test_a_mixer_that_copies_one_picture_gets_what_theory_says(
    copied: str, judged: Dataset, tiny_bundle: Path
) -> None:
    def copier(mode: str, **given: np.ndarray) -> Iterable[np.ndarray]:
        assert mode in MODES
        return given[copied].T

    measure = known_measure(tiny_bundle, judged, copier)
    figures = measure.figures(observed(measure))
    given = dict(zip(FACTORS, measure.truth[measure.sources.T], strict=True))
    for i, factor in enumerate(FACTORS):
        figure = figures[f"accuracy/{factor}"]
        assert figure.chance is not None
        if factor == copied:
            assert figure.value == 1
        else:
            assert figure.value == (given[factor][:, i] == given[copied][:, i]).mean()
            assert near(figure, figure.chance)
            assert figures[f"leak/{factor}_from_{copied}"].value == 1
        assert figures[f"reconstruction_accuracy/{factor}"].value == 1
    others = [f for name, f in off_diagonal(figures, "").items() if not name.endswith(copied)]
    assert len(others) == 9
    assert all(near(figure, figure.chance or 0) for figure in others)
    assert figures["leak"].value == 1
    right = [figures[f"accuracy/{factor}"].value for factor in FACTORS]
    assert figures["disentanglement_accuracy"].value == pytest.approx(np.mean(right))
    # Feature mode looks for the pose in the picture of the shape.
    pose = figures["feature_accuracy/pose"].value
    assert pose == (given["shape"][:, 1] == given[copied][:, 1]).mean()
    assert (pose == 1) == (copied == "shape")


def test_planted_leaks_are_found_and_no_others(judged: Dataset, tiny_bundle: Path) -> None:
    measure = known_measure(tiny_bundle, judged, leaky)
    figures = measure.figures(observed(measure))
    chance = dict(zip(FACTORS, measure.chance, strict=True))
    half = 0.5 + chance["background"] / 2
    assert near(figures["accuracy/pose"], chance["pose"])
    assert near(figures["accuracy/background"], half)
    assert figures["accuracy/shape"].value == figures["accuracy/texture"].value == 1
    leaks = off_diagonal(figures, "")
    assert len(leaks) == 12
    for name, leak in leaks.items():
        factor = name.split("_")[0]
        assert leak.better is None, "chance is right"
        assert leak.chance == chance[factor]
        planted = {"pose_from_shape": 1.0, "background_from_texture": half}
        assert near(leak, planted.get(name, chance[factor])), name
    assert figures["leak"].value == 1
    assert figures["leak"].high == 1
    # In feature mode the pose is meant to come with the shape, so only the background leaks.
    in_feature_mode = off_diagonal(figures, "feature_")
    assert len(in_feature_mode) == 8
    assert "pose_from_shape" not in in_feature_mode
    assert not any(name.endswith("_from_pose") for name in in_feature_mode)
    assert figures["feature_accuracy/pose"].value == 1
    low, high = interval(figures["feature_leak"])
    assert low < 0.5 < high
    assert figures["feature_leak"].value == pytest.approx(0.5, abs=0.06)


def test_without_leaks_the_largest_is_within_its_interval_of_none(
    judged: Dataset, tiny_bundle: Path
) -> None:
    measure = known_measure(tiny_bundle, judged, perfect)
    figures = measure.figures(observed(measure))
    for prefix in MODES.values():
        assert figures[f"{prefix}disentanglement_accuracy"].value == 1
        low, _ = interval(figures[f"{prefix}leak"])
        assert low < 0 < figures[f"{prefix}leak"].value < 0.1


@pytest.mark.parametrize("planted", [0.0, 0.3])
def test_the_interval_of_the_largest_leak_covers_it(planted: float) -> None:
    random, chance, hits = np.random.default_rng(0), np.full(8, 0.25), 0
    truth = chance + 0.75 * planted * (np.arange(8) == 3)
    for _ in range(60):
        low, high = interval(_largest(random.random((150, 8)) < truth, chance))
        hits += low <= planted <= high
    assert hits >= 56  # it is a little too wide, so 95 % is the least


def test_what_never_differs_cannot_leak() -> None:
    leaks = np.ones((50, 2), dtype=bool)
    leaks[:, 1] = np.arange(50) % 2
    assert _largest(leaks, np.array([1.0, 0.5])).value == 0
    assert _largest(leaks[:, :1], np.array([1.0])) == Figure(
        value=0.0, low=0.0, high=0.0, count=50, better="lower"
    )


# The true judge


class Painter(KnownMixer):
    """Draws the mixes with the renderer of the data set."""

    def __init__(self, subject: Subject, spec: FactorSpec) -> None:
        super().__init__(subject, perfect)
        self.spec = spec

    def painted(self, sources: np.ndarray, mode: str) -> Tensor:
        rng = np.random.default_rng(0)
        known = self.factors(sources)
        if mode == "feature":
            known["pose"] = known["shape"]
        mixed = []
        for background, pose, shape, texture in zip(*(known[f] for f in FACTORS), strict=True):
            wanted = replace(
                pose,
                background=background.background,
                shape=shape.shape,
                texture=texture.texture,
            )
            mixed.append(self.draw(wanted, rng))
        return torch.cat(mixed)

    def draw(self, factors: Factors, rng: np.random.Generator) -> Tensor:
        # The object view: its surroundings, as the judge has learnt pictures.
        drawing = draw_picture(self.spec, factors, rng)
        views = prepare_views(drawing.image, drawing.box, 32)
        crop = centre_crop(views.object_pixels, views.object_box, 32)
        return torch.from_numpy(crop.pixels.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1


def test_a_perfect_mixer_is_as_good_as_its_judge(
    judged: Dataset, tiny_bundle: Path, spec: FactorSpec
) -> None:
    subject = Subject(bundle=load_bundle(tiny_bundle), dataset=judged, config=TAUGHT)
    measure = FactorMeasure(subject)
    measure._painted = Painter(subject, spec).painted  # type: ignore[method-assign]
    figures = measure.figures(observed(measure))
    for factor in FACTORS:
        for group in ("accuracy", "feature_accuracy", "reconstruction_accuracy"):
            figure = figures[f"{group}/{factor}"]
            assert figure.value >= 0.97, (group, factor)
            assert figure.chance is not None
            assert interval(figure)[0] > figure.chance + 0.2
        assert figures[f"judge/{factor}"].value >= 0.95
    for name in ("", "feature_"):
        overall = figures[f"{name}disentanglement_accuracy"]
        assert overall.value >= 0.97
        low, high = interval(overall)
        assert low <= overall.value <= high
        assert interval(figures[f"{name}leak"])[0] < 0


def test_an_untrained_model_is_at_chance(judged: Dataset, tiny_bundle: Path) -> None:
    config = replace(TAUGHT, samples=400)
    measure = FactorMeasure(Subject(bundle=load_bundle(tiny_bundle), dataset=judged, config=config))
    seen = observed(measure)
    figures = measure.figures(seen)
    for mode, prefix in MODES.items():
        for i, factor in enumerate(FACTORS):
            # Answers that know nothing of the sources are right as often as categories meet.
            answers = np.bincount(seen[mode][:, i], minlength=8) / measure.count
            shares = np.bincount(measure.truth[:, i], minlength=8) / len(measure.truth)
            figure = figures[f"{prefix}accuracy/{factor}"]
            assert near(figure, float(answers @ shares)), (mode, factor)
            assert figure.chance == pytest.approx(shares @ shares)
            assert figure.value == pytest.approx(figure.chance, abs=0.12), (mode, factor)
    overall = figures["disentanglement_accuracy"]
    assert overall.value == pytest.approx(overall.chance, abs=0.06)
    assert figures["leak"].value < 0.25


# Names, parts and pictures


@pytest.fixture(scope="module")
def measure(tiny_bundle: Path, tiny_dataset: Dataset) -> FactorMeasure:
    config = EvaluationConfig(samples=21, batch_size=8, classifier_steps=2)
    return FactorMeasure(
        Subject(bundle=load_bundle(tiny_bundle), dataset=tiny_dataset, config=config)
    )


@pytest.fixture(scope="module")
def seen(measure: FactorMeasure) -> Observations:
    return observed(measure)


def test_names_are_those_of_the_figures(
    measure: FactorMeasure, seen: Observations, stage1_bundle: Path
) -> None:
    dataset, config = measure.subject.dataset, measure.subject.config
    names = FactorMeasure.names(dataset, config)
    assert measure.figures(seen).keys() == names
    assert "leak/pose_from_shape" in names
    early = FactorMeasure(
        Subject(bundle=load_bundle(stage1_bundle), dataset=dataset, config=config)
    )
    figures = early.figures(observed(early))
    assert figures.keys() == {name for name in names if not name.startswith("feature_")}
    assert not any("feature" in exhibit.title for exhibit in early.exhibits(observed(early)))


@pytest.mark.parametrize("factors", [None, {"shape": 2, "pose": 4, "texture": 4}])
def test_data_without_all_factors_has_no_figures(
    factors: dict[str, int] | None, tiny_dataset: Dataset
) -> None:
    dataset = copy.copy(tiny_dataset)
    dataset.info = replace(tiny_dataset.info, factors=factors)
    assert FactorMeasure.names(dataset, UNTAUGHT) == set()


def test_every_share_has_its_chance_and_interval(
    measure: FactorMeasure, seen: Observations
) -> None:
    truth = dict(zip(FACTORS, torch.from_numpy(measure.truth).T, strict=True))
    for name, figure in measure.figures(seen).items():
        if name == "judge/held_out":
            continue
        low, high = interval(figure)
        assert low <= figure.value <= high, name
        assert figure.count, name
        group, _, last = name.partition("/")
        if last and group != "judge":
            assert figure.chance == chance_level(truth[last.split("_")[0]]), name
        elif not name.endswith("leak"):
            assert figure.chance is not None, name


def test_parts_observe_what_the_whole_does(measure: FactorMeasure, seen: Observations) -> None:
    sent = pickle.loads(pickle.dumps(measure))
    parts = parts_of(sent.count, sent.subject.config.batch_size)
    assert len(parts[-1]) < len(parts[0])
    backwards = [sent.observe(part) for part in reversed(parts)]
    again = join(backwards[::-1])
    assert again.keys() == seen.keys()
    assert all(np.array_equal(again[name], seen[name]) for name in seen)
    fresh = FactorMeasure(measure.subject)
    assert fresh.figures(again) == measure.figures(seen)


@pytest.mark.parametrize("mode", MODES)
def test_mixes_of_known_codes_are_those_of_the_mixer(
    mode: Mode, measure: FactorMeasure, seen: Observations
) -> None:
    assert seen, "codes are kept by now"
    sources = measure.sources[:8]

    def mixed(sources: np.ndarray) -> Tensor:
        images = measure.subject.held_out.images
        given = {name: images[rows] for name, rows in zip(FACTORS, sources.T, strict=True)}
        return measure.subject.mixer.mix_tensors(**given, mode=mode)

    painted = measure._painted(sources, mode)
    assert torch.allclose(painted, mixed(sources), atol=1e-5)
    for column, factor in enumerate(FACTORS):
        changed = sources.copy()
        changed[:, column] = np.roll(changed[:, column], 1)
        taken = not (mode == "feature" and factor == "pose")
        assert torch.allclose(painted, mixed(changed), atol=1e-5) != taken, factor


def test_each_picture_is_encoded_once(measure: FactorMeasure) -> None:
    (encoded,) = measure.needs()
    used = {*measure.sources.ravel().tolist(), *measure.repeated.tolist()}
    assert isinstance(encoded, EncodedPictures)
    assert encoded.pictures.tolist() == sorted(used)
    assert encoded.count == len(used) < 5 * measure.count
    subject, asked = measure.subject, np.array([4, 1, 4, 3])
    few = EncodedPictures(subject, asked)
    assert few.count == 3
    few.keep(pickle.loads(pickle.dumps(few)).observe(range(3)))
    codes = subject.mixer.encode(subject.held_out.images[asked])
    for ours, theirs in zip(few.codes(asked), codes, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)
        assert not torch.allclose(ours, theirs.roll(1, dims=0), atol=1e-6)


def test_another_seed_mixes_other_pictures_and_more_samples_begin_with_the_same(
    measure: FactorMeasure,
) -> None:
    subject = measure.subject
    more = FactorMeasure(replace(subject, config=replace(subject.config, samples=40)))
    assert np.array_equal(more.sources[:21], measure.sources)
    assert np.array_equal(more.repeated[: len(measure.repeated)], measure.repeated)
    other = FactorMeasure(replace(subject, seed=1))
    assert not np.array_equal(other.sources, measure.sources)


def test_each_picture_is_reconstructed_once(measure: FactorMeasure, seen: Observations) -> None:
    pictures = len(measure.subject.held_out_rows)
    assert pictures < measure.count
    assert sorted(measure.repeated) == list(range(pictures))
    answers = seen["reconstruction"]
    assert (answers[:pictures] >= 0).all()
    assert (answers[pictures:] == -1).all()
    assert measure.figures(seen)["reconstruction_accuracy"].count == pictures
    few = replace(measure.subject, config=replace(measure.subject.config, samples=8))
    assert len(FactorMeasure(few).repeated) == min(8, pictures)


def test_the_exhibits_show_who_gave_what_and_the_worst(judged: Dataset, tiny_bundle: Path) -> None:
    def poor(mode: str, **given: np.ndarray) -> Iterable[np.ndarray]:
        """Wrong in everything for the last five mixes of each batch, else perfect."""
        wrong = np.arange(len(given["pose"])) >= len(given["pose"]) - 5
        for values in perfect(mode, **given):
            yield np.where(wrong, 9, values)

    measure = known_measure(tiny_bundle, judged, poor)
    seen = observed(measure)
    shown: list[np.ndarray] = []
    sheet = measure._sheet

    def spy(title: str, caption: str, cases: np.ndarray, modes: tuple[str, ...]) -> object:
        shown.append(cases)
        return sheet(title, caption, cases, modes)  # type: ignore[arg-type]

    measure._sheet = spy  # type: ignore[assignment,method-assign]
    code, feature, worst, worst_feature, random = measure.exhibits(seen)
    assert code.table is not None
    assert feature.table is not None
    assert code.table.values.shape == (4, 4)
    assert list(feature.table.columns) == [
        f"{s} source" for s in ("background", "shape", "texture")
    ]
    figures = measure.figures(seen)
    assert code.table.values[1, 2] == figures["leak/pose_from_shape"].value
    assert feature.table.values[1, 1] == figures["feature_accuracy/pose"].value
    assert np.diag(code.table.values) == pytest.approx(0.95)
    assert code.table.chance is not None
    assert code.table.chance[:, 0] == pytest.approx(measure.chance)
    assert "4 down to 4 of 4" in worst.caption
    assert [case % 100 for case in shown[0]] == [95, 96, 97, 98, 99, 95, 96, 97]
    assert len(set(shown[2])) == SHOWN_MIXES
    for exhibit, rows in ((worst, 5), (worst_feature, 5), (random, 6)):
        assert exhibit.picture is not None
        assert exhibit.picture.height == rows * 66 - 2
