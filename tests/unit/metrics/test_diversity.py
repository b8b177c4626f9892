import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import torch
from torch import Tensor

from mixnmatch.bundle import load_bundle
from mixnmatch.codes import Codes
from mixnmatch.config import EvaluationConfig
from mixnmatch.data.store import Dataset
from mixnmatch.metrics.diversity import DiversityMeasure, classes_with_pairs, distance
from mixnmatch.metrics.measure import Observations, Subject, join, parts_of
from mixnmatch.metrics.ms_ssim import SCALE_WEIGHTS, ms_ssim

CONFIG = EvaluationConfig(samples=24, batch_size=5)


def pictures(count: int, side: int, seed: int = 0) -> Tensor:
    return 2 * torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed)) - 1


def slow_ms_ssim(left: np.ndarray, right: np.ndarray) -> float:
    """Of one pair (C, S, S) with pixels in [0, 1], window by window."""
    value = 1.0
    for scale, weight in enumerate(SCALE_WEIGHTS):
        side = left.shape[-1]
        size = min(11, side)
        places = np.arange(size) - (size - 1) / 2
        window = np.exp(-(places[:, None] ** 2 + places**2) / (2 * (1.5 * size / 11) ** 2))
        window /= window.sum()
        scores = []
        for x, y in zip(left, right, strict=True):

            def blurred(image: np.ndarray, window: np.ndarray = window) -> np.ndarray:
                return scipy.signal.correlate2d(image, window, mode="valid")

            mean_x, mean_y = blurred(x), blurred(y)
            variances = blurred(x * x) - mean_x**2 + blurred(y * y) - mean_y**2
            shared = blurred(x * y) - mean_x * mean_y
            score = (2 * shared + 0.0009) / (variances + 0.0009)
            if scale == 4:
                score *= (2 * mean_x * mean_y + 0.0001) / (mean_x**2 + mean_y**2 + 0.0001)
            scores.append(score.mean())
        value *= max(0.0, np.mean(scores)) ** weight
        left, right = (
            image.reshape(3, side // 2, 2, side // 2, 2).mean(axis=(2, 4))
            for image in (left, right)
        )
    return value


@pytest.mark.parametrize("side", [32, 64, 128])
def test_ms_ssim_is_that_of_a_slow_reference(side: int) -> None:
    left = pictures(2, side)
    right = (left + 0.5 * pictures(2, side, seed=1)).clamp(-1, 1)
    for x, y, value in zip(left, right, ms_ssim(left, right).tolist(), strict=True):
        expected = slow_ms_ssim(*(((image.double() + 1) / 2).numpy() for image in (x, y)))
        assert 0.3 < expected < 0.99
        assert value == pytest.approx(expected, rel=1e-9)


def test_ms_ssim_is_that_of_a_library() -> None:
    # pytorch-msssim 1.0.0, ms_ssim(left, right, data_range=1), on pictures large enough for it.
    y, x = torch.meshgrid(torch.arange(192.0), torch.arange(192.0), indexing="ij")
    left = (0.5 + 0.25 * torch.sin(x / 7) + 0.2 * torch.cos(y / 11))[None, None].double()
    waves = 0.25 * torch.sin((x + 3) / 7) + 0.2 * torch.cos(y / 11)
    right = (0.5 + waves + 0.05 * torch.sin(x * y / 50))[None, None].double()
    value = ms_ssim(2 * left - 1, 2 * right - 1).item()
    assert value == pytest.approx(0.9060811388614376, abs=2e-6)


@pytest.mark.parametrize(("side", "count"), [(32, 64), (64, 24), (128, 6)])
def test_known_answers_of_ms_ssim(side: int, count: int) -> None:
    left, right = pictures(count, side), pictures(count, side, seed=1)
    torch.testing.assert_close(ms_ssim(left, left), torch.ones(count).double())
    noise = ms_ssim(left, right)
    assert noise.shape == (count,)
    assert noise.mean() < 0.1
    assert ((noise >= 0) & (noise <= 1)).all()
    torch.testing.assert_close(ms_ssim(right, left), noise)
    # A negative is as unlike as can be, and no root of a negative score makes it NaN.
    assert ms_ssim(left, -left).tolist() == [0] * count
    closer = ms_ssim(left, 0.9 * left + 0.1 * right)
    assert (closer > ms_ssim(left, 0.6 * left + 0.4 * right)).all()


def test_distance_is_a_share_of_the_range() -> None:
    black, white = -torch.ones(2, 3, 32, 32), torch.ones(2, 3, 32, 32)
    assert distance(black, white).tolist() == [1, 1]
    assert distance(black, black).tolist() == [0, 0]
    # Of two independent uniform pixels a third of the range.
    assert distance(pictures(1, 256), pictures(1, 256, seed=1))[0] == pytest.approx(1 / 3, abs=0.01)


@pytest.fixture
def measure(tiny_bundle: Path, tiny_dataset: Dataset) -> DiversityMeasure:
    return DiversityMeasure(
        Subject(bundle=load_bundle(tiny_bundle), dataset=tiny_dataset, config=CONFIG)
    )


def observed(measure: DiversityMeasure) -> Observations:
    return join([measure.observe(part) for part in parts_of(measure.count, CONFIG.batch_size)])


def test_figures_are_those_promised(measure: DiversityMeasure, tiny_dataset: Dataset) -> None:
    figures = measure.figures(observed(measure))
    assert figures.keys() == DiversityMeasure.names(tiny_dataset, CONFIG)
    assert len(figures) == 4
    for figure in figures.values():
        assert figure.count == 12
        assert figure.low is not None
        assert figure.high is not None
        assert 0 <= figure.low <= figure.value <= figure.high <= 1
    bare = copy.copy(tiny_dataset)
    bare.info = replace(tiny_dataset.info, labels=None)
    fewer = DiversityMeasure(replace(measure.subject, dataset=bare))
    again = fewer.figures(observed(fewer))
    assert again.keys() == DiversityMeasure.names(bare, CONFIG)
    assert again == {name: figures[name] for name in ("diversity/ms_ssim", "diversity/pixel")}


def test_any_part_is_observed_alike(measure: DiversityMeasure) -> None:
    whole = observed(measure)
    other = DiversityMeasure(measure.subject)
    late = other.observe(range(10, 12))
    for name, values in late.items():
        np.testing.assert_array_equal(values, whole[name][10:12])
    changed = DiversityMeasure(replace(measure.subject, seed=1)).observe(range(10, 12))
    assert all((changed[name] != late[name]).any() for name in late)


def test_generated_pairs_share_all_but_the_noise(
    measure: DiversityMeasure, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Codes] = []

    def paint(subject: Subject, codes: Codes) -> Tensor:
        asked.append(codes)
        return codes.c.argmax(dim=1).view(-1, 1, 1, 1).expand(-1, 3, 32, 32) / 2 - 0.5

    monkeypatch.setattr(Subject, "paint", paint)
    seen = observed(measure)
    # A generator that looks at nothing but the category has collapsed.
    assert seen["ms_ssim"] == pytest.approx(np.ones(12))
    assert seen["pixel"].tolist() == [0] * 12
    categories = []
    for first, second in zip(asked[::2], asked[1::2], strict=True):
        for name in ("b", "p", "c"):
            assert torch.equal(getattr(first, name), getattr(second, name))
        assert not (first.z == second.z).any()
        categories += first.c.argmax(dim=1).tolist()
    assert categories == [0, 1, 2, 3] * 3


def test_real_pairs_are_two_pictures_of_one_class(
    measure: DiversityMeasure, tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = tiny_dataset.column("label")
    train = set(tiny_dataset.indices("train").tolist())
    read: list[np.ndarray] = []
    whole = Subject.read

    def noted(subject: Subject, rows: np.ndarray) -> object:
        read.append(rows)
        return whole(subject, rows)

    monkeypatch.setattr(Subject, "read", noted)
    observed(measure)
    pairs = np.concatenate([rows.reshape(2, -1).T for rows in read])
    assert pairs.shape == (12, 2)
    for first, second in pairs.tolist():
        assert first != second
        assert labels[first] == labels[second]
        assert {first, second} <= train
    counts = np.bincount([labels[row] for row in pairs[:, 0]])
    assert counts.max() - counts.min() <= 1


def test_only_classes_with_two_pictures_give_pairs(tiny_dataset: Dataset) -> None:
    dataset = copy.copy(tiny_dataset)
    train = dataset.indices("train")
    labels: list[int | None] = [None] * len(dataset)
    labels[train[0]], labels[train[1]], labels[train[2]] = 5, 7, 7
    dataset.column = lambda name: labels if name == "label" else []  # type: ignore[method-assign]
    dataset.indices = lambda *_: train  # type: ignore[method-assign]
    (rows,) = classes_with_pairs(dataset)
    assert rows.tolist() == train[1:3].tolist()
    labels[train[2]] = 8
    assert classes_with_pairs(dataset) == []
    assert DiversityMeasure.names(dataset, CONFIG) == {"diversity/ms_ssim", "diversity/pixel"}


def test_exhibit_has_a_row_for_each_category(
    measure: DiversityMeasure, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Codes] = []
    paint = Subject.paint

    def noted(subject: Subject, codes: Codes) -> Tensor:
        asked.append(codes)
        return paint(subject, codes)

    monkeypatch.setattr(Subject, "paint", noted)
    (exhibit,) = measure.exhibits({})
    assert exhibit.picture is not None
    assert [codes.c.argmax(dim=1).unique().tolist() for codes in asked] == [[0], [1], [2], [3]]
    assert all(len(codes.z) == 8 and torch.equal(codes.z, asked[0].z) for codes in asked)
