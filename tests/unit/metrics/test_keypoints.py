import copy
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mixnmatch.bundle import load_bundle
from mixnmatch.config import EvaluationConfig
from mixnmatch.data.batches import evaluation_pictures
from mixnmatch.data.drawn.keypoints import KEYPOINT_NAMES
from mixnmatch.data.factors import FactorSpec, draw_factor_dataset, draw_picture
from mixnmatch.data.store import Dataset, open_dataset, write_dataset
from mixnmatch.data.views import centre_crop, prepare_views
from mixnmatch.metrics.colour import chi_squared, patch_histograms
from mixnmatch.metrics.figures import Figures
from mixnmatch.metrics.keypoints import KeypointMeasure
from mixnmatch.metrics.localiser import Localiser
from mixnmatch.metrics.measure import Observations, Subject, join, parts_of

CONFIG = EvaluationConfig(metrics="keypoints", samples=120, batch_size=16, localiser_steps=110)


@pytest.fixture(scope="module")
def parted_spec(spec: FactorSpec) -> FactorSpec:
    return replace(spec, count=120, judge_count=300)


@pytest.fixture(scope="module")
def parted(parted_spec: FactorSpec, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Enough pictures to teach a localiser."""
    out = tmp_path_factory.mktemp("parted") / "set"
    write_dataset(draw_factor_dataset(parted_spec), out, kind="factors", parts=KEYPOINT_NAMES)
    return open_dataset(out)


@pytest.fixture(scope="module")
def subject(parted: Dataset, tiny_bundle: Path) -> Subject:
    return Subject(bundle=load_bundle(tiny_bundle), dataset=parted, config=CONFIG)


@pytest.fixture(scope="module")
def localiser(subject: Subject) -> Localiser:
    """Taught once for all tests of this module; half a minute."""
    return KeypointMeasure(subject).localiser


class KnowingMixer:
    """Mixes by what it knows of the pictures that it is given."""

    def __init__(self, dataset: Dataset, spec: FactorSpec, way: str) -> None:
        self.way, self.spec, self.dataset = way, spec, dataset
        rows = dataset.indices("test")
        images = evaluation_pictures(dataset, rows, 32).images
        self.rows = {
            image.numpy().tobytes(): int(row) for image, row in zip(images, rows, strict=True)
        }

    def mix_tensors(self, *, mode: str, **sources: Tensor) -> Tensor:
        assert torch.equal(sources["background"], sources["texture"])
        assert torch.equal(sources["pose"], sources["shape"])
        if self.way in sources:
            return sources[self.way]
        pairs = zip(sources["texture"], sources["shape"], strict=True)
        return torch.cat([self.drawn(a, b) for a, b in pairs])

    def drawn(self, a: Tensor, b: Tensor) -> Tensor:
        of_a, of_b = (self.dataset[self.rows[x.numpy().tobytes()]].factors for x in (a, b))
        assert of_a is not None
        assert of_b is not None
        mixed = replace(of_b, background=of_a.background, texture=of_a.texture)
        drawing = draw_picture(self.spec, mixed, np.random.default_rng(0))
        views = prepare_views(drawing.image, drawing.box, 32)
        pixels = centre_crop(views.object_pixels, views.object_box, 32).pixels
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1


def observed(measure: KeypointMeasure) -> Observations:
    parts = parts_of(measure.count, measure.subject.config.batch_size)
    return join([measure.observe(part) for part in parts])


@pytest.fixture(scope="module")
def measured(subject: Subject, localiser: Localiser, parted_spec: FactorSpec) -> Any:
    """Figures of mixers whose errors are known."""

    def measure(way: str) -> Figures:
        other = copy.copy(subject)
        other.__dict__["mixer"] = KnowingMixer(subject.dataset, parted_spec, way)
        measure = KeypointMeasure(other)
        return measure.figures(observed(measure))

    return {way: measure(way) for way in ("perfect", "texture", "shape")}


def test_the_localiser_is_good_enough_to_judge_by(localiser: Localiser) -> None:
    pck = localiser.worth["pck"]
    assert pck.value > 0.85
    assert pck.chance is not None
    assert pck.chance < 0.2
    assert localiser.worth["mask_iou"].value > 0.8


@pytest.mark.parametrize("mode", ["", "feature_"])
def test_a_perfect_mixer_errs_as_its_localiser_does(
    measured: dict[str, Figures], mode: str
) -> None:
    figures = measured["perfect"]
    shape, texture = (figures[f"keypoints/{mode}{name}_error"] for name in ("shape", "texture"))
    assert shape.chance is not None
    assert texture.chance is not None
    assert shape.value < figures["keypoints/shape_floor"].value + 0.03 < 0.4 * shape.chance
    assert texture.value < 0.7 * texture.chance
    assert shape.better == texture.better == "lower"
    assert shape.low is not None
    assert shape.low < shape.value


def test_a_copier_of_the_texture_has_the_shape_of_chance(measured: dict[str, Figures]) -> None:
    figures = measured["texture"]
    shape, texture = figures["keypoints/shape_error"], figures["keypoints/texture_error"]
    assert shape.value == pytest.approx(shape.chance, abs=0.05)
    assert texture.value == pytest.approx(figures["keypoints/texture_floor"].value)
    assert texture.chance is not None
    assert texture.value < 0.3 * texture.chance


def test_a_copier_of_the_shape_has_the_texture_of_chance(measured: dict[str, Figures]) -> None:
    figures = measured["shape"]
    shape, texture = figures["keypoints/shape_error"], figures["keypoints/texture_error"]
    assert shape.value == pytest.approx(figures["keypoints/shape_floor"].value)
    assert shape.chance is not None
    assert shape.value < 0.3 * shape.chance
    assert texture.value == pytest.approx(texture.chance, abs=0.08)


def test_cases_are_the_same_in_any_parts_and_any_process(
    subject: Subject, localiser: Localiser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Dataset, "__reduce__", lambda self: (open_dataset, (self.path,)))
    measure = KeypointMeasure(subject)
    assert not measure.needs()
    sent = pickle.loads(pickle.dumps(measure))
    whole = observed(measure)
    parts = parts_of(measure.count, CONFIG.batch_size)
    again = join([sent.observe(part) for part in reversed(parts)][::-1])
    assert whole.keys() == again.keys()
    assert all(np.array_equal(whole[name], again[name], equal_nan=True) for name in whole)
    assert all(len(values) == CONFIG.samples for values in whole.values())
    assert (whole["pair"][:, 0] != whole["pair"][:, 1]).all()
    assert set(whole["pair"].ravel()) <= set(subject.dataset.indices("test"))
    figures = measure.figures(whole)
    assert figures.keys() == KeypointMeasure.names(subject.dataset, CONFIG)
    assert all(np.isfinite(figure.value) for figure in figures.values())
    assert figures == sent.figures(again)
    (exhibit,) = measure.exhibits(whole)
    assert exhibit.picture is not None
    assert exhibit.picture.size == (4 * (160 + 2) - 2 + 70, 6 * (160 + 2) - 2)


def test_other_seeds_draw_other_pairs(subject: Subject) -> None:
    pairs = [KeypointMeasure(replace(subject, seed=seed)) for seed in (0, 0, 1)]
    assert np.array_equal(pairs[0]._a, pairs[1]._a)
    assert not np.array_equal(pairs[0]._a, pairs[2]._a)


def test_without_stage_2_there_is_no_feature_mode(
    subject: Subject, stage1_bundle: Path, localiser: Localiser
) -> None:
    measure = KeypointMeasure(replace(subject, bundle=load_bundle(stage1_bundle)))
    figures = measure.figures(observed(measure))
    names = KeypointMeasure.names(subject.dataset, CONFIG)
    assert figures.keys() == {name for name in names if "feature" not in name}


def test_what_no_annotator_saw_is_left_out(subject: Subject, localiser: Localiser) -> None:
    measure = KeypointMeasure(subject)
    seen = observed(measure)
    before = measure.figures(seen)
    blind = {name: values.copy() for name, values in seen.items()}
    blind["truth"][1::2, 3:] = np.nan
    blind["truth"][0] = np.nan
    after = measure.figures(blind)
    assert all(np.isfinite(figure.value) for figure in after.values())
    assert after["keypoints/shape_error"].count == CONFIG.samples - 1
    errors = np.linalg.norm(blind["code_found"] - blind["truth"], axis=2) / 32
    assert after["keypoints/shape_error"].value == pytest.approx(np.nanmean(errors), rel=1e-5)
    assert after["keypoints/texture_error"] == before["keypoints/texture_error"]
    assert measure.exhibits(blind)


def test_it_does_not_apply_without_keypoints(tiny_dataset: Dataset, parted: Dataset) -> None:
    assert not tiny_dataset.info.parts
    assert KeypointMeasure.names(tiny_dataset, CONFIG) == set()
    unseen = copy.copy(parted)
    column = parted.column
    unseen.column = lambda name: (  # type: ignore[method-assign]
        [[] for _ in range(len(parted))] if name == "parts" else column(name)
    )
    assert KeypointMeasure.names(unseen, CONFIG) == set()


# Colours


def test_histograms_by_hand() -> None:
    images = torch.full((1, 3, 32, 32), -1.0)
    images[:, 0, :, 16:] = 1.0
    images[:, 2] = 0.0
    points = torch.tensor([[[24.0, 9.0], [6.0, 20.0], [16.0, 16.0], [torch.nan, 3.0]]])
    red, green, blue = np.split(patch_histograms(images, points)[0], 3, axis=1)
    assert red[0] * 3 == pytest.approx([0] * 7 + [1])
    assert red[1] * 3 == pytest.approx([1] + [0] * 7)
    assert red[2] * 3 == pytest.approx([0.5] + [0] * 6 + [0.5], abs=1e-6)
    assert green[0] * 3 == pytest.approx([1] + [0] * 7)
    assert blue[0] * 3 == pytest.approx([0, 0, 0, 0.5, 0.5, 0, 0, 0])
    assert np.isnan(red[3]).all()


def test_a_patch_at_the_edge_sees_the_edge_go_on() -> None:
    images = torch.zeros(1, 3, 64, 64)
    images[..., :5, :5] = 1.0
    corner = patch_histograms(images, torch.tensor([[[0.0, 0.0]]]))[0, 0]
    assert corner.reshape(3, 8)[:, 7] * 3 == pytest.approx([1, 1, 1])


def test_chi_squared_by_hand() -> None:
    a, b = np.array([0.5, 0.5, 0.0]), np.array([0.25, 0.5, 0.25])
    ends = np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0])
    distances = chi_squared(np.stack([a, a, a * np.nan, ends[0]]), np.stack([b, a, b, ends[1]]))
    assert distances[:2] == pytest.approx([0.5 * (0.0625 / 0.75 + 0.25), 0])
    assert np.isnan(distances[2])
    assert distances[3] == 1
