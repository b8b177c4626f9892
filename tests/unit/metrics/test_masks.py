import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mixnmatch.bundle import ModelBundle, load_bundle
from mixnmatch.config import EvaluationConfig
from mixnmatch.data.batches import EvaluationSet
from mixnmatch.data.records import Record
from mixnmatch.data.store import Dataset
from mixnmatch.data.views import crop_share
from mixnmatch.metrics import localiser
from mixnmatch.metrics.localiser import overlap
from mixnmatch.metrics.masks import MaskMeasure, inside_boxes, mask_contrast
from mixnmatch.metrics.measure import Observations, Subject, join, parts_of
from mixnmatch.networks.generator import Layers

CONFIG = EvaluationConfig(metrics="masks", samples=8, batch_size=3, localiser_steps=2)
WITH_LOCALISER = replace(CONFIG, metrics="masks,keypoints")
CONTRASTS = {"mask_contrast", "mask_contrast_parent"}


@pytest.fixture
def bundle(tiny_bundle: Path) -> ModelBundle:
    return load_bundle(tiny_bundle)


@pytest.fixture(scope="module")
def without_masks(tiny_dataset: Dataset) -> Dataset:
    """The same pictures, of which only the boxes are known."""

    class Bare(Dataset):
        def __getitem__(self, index: int) -> Record:
            return replace(super().__getitem__(index), mask=None)

        @property
        def masked(self) -> np.ndarray:  # type: ignore[override]
            return np.zeros(len(self), dtype=bool)

    bare = copy.copy(tiny_dataset)
    bare.__class__ = Bare
    return bare


def observed(measure: MaskMeasure) -> Observations:
    parts = parts_of(measure.count, measure.subject.config.batch_size)
    return join([measure.observe(part) for part in parts])


def painting(
    bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch, child: Tensor, parent: Tensor
) -> list[int]:
    """Let the model paint pictures one after the other with these masks."""
    done: list[int] = []

    def paint(images: Tensor) -> Layers:
        start = sum(done)
        done.append(len(images))
        part = slice(start, start + len(images))
        return Layers(images, images, parent[part], images, images, child[part], images, images)

    monkeypatch.setattr(bundle.generator, "forward", paint)
    monkeypatch.setattr(bundle.encoders, "forward", lambda images: images)
    return done


# Boxes and contrast


def test_inside_boxes() -> None:
    boxes = torch.tensor([[1.0, 0.0, 3.0, 2.0], [0.4, 1.6, 4.0, 4.0], [0.0, 0.0, 0.0, 0.0]])
    first, second, third = inside_boxes(boxes, 4)
    assert first[0].tolist() == [[0, 1, 1, 0]] * 2 + [[0] * 4] * 2
    assert second[0].tolist() == [[0] * 4, [0] * 4, [1] * 4, [1] * 4]
    assert not third.any()


@pytest.mark.parametrize(
    ("child", "parent", "expected"),
    [
        ("box", "box", (1.0, 1.0)),
        ("inverted", "box", (-1.0, 1.0)),
        ("box", "inverted", (1.0, -1.0)),
        ("all", "nothing", (0.0, 0.0)),
        ("half", "all", (0.5, 0.0)),
    ],
)
def test_mask_contrast(
    child: str,
    parent: str,
    expected: tuple[float, float],
    bundle: ModelBundle,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    boxes = torch.tensor([[4.0, 6.0, 20.0, 30.0], [1.0, 1.0, 9.0, 5.0], [0.0, 8.0, 32.0, 16.0]])
    inside = inside_boxes(boxes, 32)
    masks = {
        "box": inside,
        "inverted": 1 - inside,
        "all": torch.ones_like(inside),
        "nothing": torch.zeros_like(inside),
        "half": inside / 2 + 0.25,
    }
    done = painting(bundle, monkeypatch, masks[child], masks[parent])
    pictures = EvaluationSet(torch.zeros(3, 3, 32, 32), boxes, None, None, None)
    figures = mask_contrast(bundle, pictures, 2)
    assert done == [2, 1]
    assert figures["mask_contrast"] == pytest.approx(expected[0], abs=1e-6)
    assert figures["mask_contrast_parent"] == pytest.approx(expected[1], abs=1e-6)


def test_a_box_of_all_or_nothing_has_no_contrast(
    bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = torch.tensor([[0.0, 0.0, 32.0, 32.0], [4.0, 6.0, 20.0, 30.0], [0.0] * 4])
    inside = inside_boxes(boxes, 32)
    painting(bundle, monkeypatch, inside, 1 - inside)
    pictures = EvaluationSet(torch.zeros(3, 3, 32, 32), boxes, None, None, None)
    assert mask_contrast(bundle, pictures, 3) == pytest.approx(
        {"mask_contrast": 1, "mask_contrast_parent": -1}
    )
    none = EvaluationSet(torch.zeros(2, 3, 32, 32), boxes[[0, 2]], None, None, None)
    painting(bundle, monkeypatch, inside[[0, 2]], inside[[0, 2]])
    assert mask_contrast(bundle, none, 2) == {}


# The measure


@pytest.mark.parametrize("config", [CONFIG, WITH_LOCALISER])
@pytest.mark.parametrize("known", ["masks", "boxes"])
def test_names_are_those_of_the_figures(
    config: EvaluationConfig,
    known: str,
    bundle: ModelBundle,
    tiny_dataset: Dataset,
    without_masks: Dataset,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(localiser, "BATCH_SIZE", 8)
    dataset = tiny_dataset if known == "masks" else without_masks
    measure = MaskMeasure(Subject(bundle=bundle, dataset=dataset, config=config))
    assert not measure.needs()
    assert ("localiser" in measure.__dict__) == (known == "masks" and config is WITH_LOCALISER)
    seen = observed(measure)
    assert all(len(values) == measure.count for values in seen.values())
    figures = measure.figures(seen)
    assert figures.keys() == MaskMeasure.names(dataset, config)
    assert figures.keys() >= CONTRASTS
    for name, figure in figures.items():
        assert -1 <= figure.value <= 1, name
        assert figure.chance is not None, name
        assert figure.low is not None
        assert figure.low <= figure.value
        assert figure.better == "higher"
    (exhibit,) = measure.exhibits(seen)
    assert exhibit.picture is not None
    assert exhibit.picture.width == 175 + 8 * 66 - 2


def test_a_model_without_stage_2_has_no_feature_mode(
    stage1_bundle: Path, tiny_dataset: Dataset
) -> None:
    subject = Subject(bundle=load_bundle(stage1_bundle), dataset=tiny_dataset, config=CONFIG)
    measure = MaskMeasure(subject)
    figures = measure.figures(observed(measure))
    assert figures.keys() == {*CONTRASTS, "mask_iou/encoded"}


def test_observations_depend_on_the_case_alone(bundle: ModelBundle, tiny_dataset: Dataset) -> None:
    subject = Subject(bundle=bundle, dataset=tiny_dataset, config=CONFIG)
    whole, sent = MaskMeasure(subject), MaskMeasure(replace(subject))
    parts = parts_of(whole.count, CONFIG.batch_size)
    again = join([sent.observe(part) for part in reversed(parts)][::-1])
    for name, values in observed(whole).items():
        assert np.array_equal(values, again[name]), name


def masks_of(measure: MaskMeasure) -> EvaluationSet:
    return measure.subject.read(measure._rows)


@pytest.mark.parametrize("painted", ["truth", "inverted", "nothing", "constant"])
def test_overlap_with_true_masks(
    painted: str,
    bundle: ModelBundle,
    tiny_dataset: Dataset,
    stage1_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bundle = load_bundle(stage1_bundle)
    measure = MaskMeasure(Subject(bundle=bundle, dataset=tiny_dataset, config=CONFIG))
    truth = masks_of(measure).masks
    assert truth is not None
    often = (truth > 0.5).float().mean(dim=0, keepdim=True)
    constants = [(often >= least).float() for least in torch.linspace(0.05, 1, 20)]
    constant = max(constants, key=lambda mask: overlap(mask > 0.5, truth > 0.5).mean())
    masks = {
        "truth": truth,
        "inverted": 1 - truth,
        "nothing": torch.zeros_like(truth),
        "constant": constant.expand_as(truth),
    }
    painting(bundle, monkeypatch, masks[painted], masks[painted])
    figure = measure.figures(observed(measure))["mask_iou/encoded"]
    assert figure.count == measure.count
    assert figure.chance is not None
    assert 0.2 < figure.chance < 0.9
    expected = {"truth": 1, "inverted": 0, "nothing": 0, "constant": figure.chance}[painted]
    assert figure.value == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("painted", ["box", "inverted", "nothing", "all", "half"])
def test_purity_and_coverage_of_boxes(
    painted: str, bundle: ModelBundle, without_masks: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = MaskMeasure(Subject(bundle=bundle, dataset=without_masks, config=CONFIG))
    inside = inside_boxes(masks_of(measure).boxes, 32)
    share = inside.mean().item()
    anywhere = inside.mean(dim=0, keepdim=True)
    by_chance = (anywhere * inside).sum(dim=(1, 2, 3)).mean().item() / anywhere.sum().item()
    assert by_chance > share, "boxes are about the middle"
    masks: dict[str, Any] = {
        "box": (inside, 1, 1, share),
        "inverted": (1 - inside, 0, 0, 1 - share),
        "nothing": (0 * inside, 0, 0, 0),
        "all": (torch.ones_like(inside), share, 1, 1),
        "half": (inside / 2, 1, 0.5, share / 2),
    }
    mask, purity, coverage, mass = masks[painted]
    painting(bundle, monkeypatch, mask, mask)
    figures = measure.figures(observed(measure))
    assert figures["mask_purity"].value == pytest.approx(purity, abs=1e-5)
    assert figures["mask_purity"].chance == pytest.approx(by_chance, abs=1e-5)
    assert figures["mask_coverage"].value == pytest.approx(coverage, abs=1e-5)
    assert figures["mask_coverage"].chance == pytest.approx(mass, abs=1e-5)


def test_generated_masks_are_held_against_those_found(
    bundle: ModelBundle, tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(localiser, "BATCH_SIZE", 8)
    subject = Subject(bundle=bundle, dataset=tiny_dataset, config=WITH_LOCALISER)
    measure = MaskMeasure(subject)

    class Seer:
        worth = measure.localiser.worth

        def locate(self, images: Tensor) -> SimpleNamespace:
            layers = bundle.generator(type(codes)(*(code[: len(images)] for code in codes)))
            assert torch.equal(layers.child_image, images)
            return SimpleNamespace(masks=layers.child_mask > 0.5)

    codes = subject.tied_codes(measure.count, 501)
    measure.__dict__["localiser"] = Seer()
    with torch.no_grad():
        seen = measure.observe(range(3))
    figures = measure.figures(seen)
    assert figures["mask_iou/generated"].value == 1
    assert figures["mask_iou/localiser"] == Seer.worth["mask_iou"]


def boxed(dataset: Dataset, box: tuple[float, float, float, float]) -> Dataset:
    """The same pictures with this box."""
    values = dict(zip(("box_x", "box_y", "box_width", "box_height"), box, strict=True))
    other = copy.copy(dataset)
    column = dataset.column
    other.column = lambda name: (  # type: ignore[method-assign]
        [values[name]] * len(dataset) if name in values else column(name)
    )
    return other


def test_boxes_that_fill_the_view_leave_no_contrast(without_masks: Dataset) -> None:
    whole = boxed(without_masks, (2.0, 2.0, 36.0, 36.0))
    assert MaskMeasure.names(whole, CONFIG) == {"mask_purity", "mask_coverage"}
    thin = boxed(without_masks, (2.0, 5.0, 36.0, 1.0))
    assert MaskMeasure.names(thin, CONFIG) == set()
    part = boxed(without_masks, (12.0, 12.0, 10.0, 20.0))
    assert MaskMeasure.names(part, CONFIG) > CONTRASTS


def test_cases_are_spread_over_the_held_out_pictures(
    bundle: ModelBundle, tiny_dataset: Dataset
) -> None:
    test = tiny_dataset.indices("test")
    everything = MaskMeasure(
        Subject(bundle=bundle, dataset=tiny_dataset, config=replace(CONFIG, samples=100))
    )
    assert everything._rows.tolist() == test.tolist()
    some = MaskMeasure(Subject(bundle=bundle, dataset=tiny_dataset, config=CONFIG))
    assert some.count == min(8, len(test))
    assert set(some._rows) <= set(test)


def test_shares_of_boxes_are_those_of_the_views(tiny_dataset: Dataset) -> None:
    rows = np.arange(20)
    boxes = Subject.read(
        SimpleNamespace(dataset=tiny_dataset, image_size=128),
        rows,  # type: ignore[arg-type]
    ).boxes
    for row, box in zip(rows, boxes, strict=True):
        record = tiny_dataset[int(row)]
        share = crop_share(record.box, record.width, record.height)
        assert np.allclose(share, box / 128, atol=2 / 128)
