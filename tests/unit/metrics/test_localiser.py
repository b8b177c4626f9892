import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mixnmatch.data.drawn.keypoints import KEYPOINT_NAMES
from mixnmatch.data.factors import FactorSpec, draw_factor_dataset
from mixnmatch.data.store import Dataset, open_dataset, write_dataset
from mixnmatch.errors import DataError
from mixnmatch.metrics import localiser
from mixnmatch.metrics.lessons import Lesson, Maps, jittered, localiser_loss, mirrored_parts
from mixnmatch.metrics.localiser import (
    CELLS,
    LocaliserNetwork,
    constant_overlap,
    load_localiser,
    localiser_rows,
    overlap,
    places,
)


@pytest.fixture(scope="module")
def parted(spec: FactorSpec, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A few drawn pictures that name their keypoints, 24 of them for judges."""
    out = tmp_path_factory.mktemp("parted") / "set"
    write_dataset(draw_factor_dataset(spec), out, kind="factors", parts=KEYPOINT_NAMES)
    return open_dataset(out)


def gaussian(x: float, y: float, spread: float = 1.0) -> Tensor:
    middle = torch.arange(CELLS) + 0.5
    return -((middle - x) ** 2 + (middle[:, None] - y) ** 2) / (2 * spread**2)


def test_soft_argmax_finds_places_between_cells() -> None:
    wanted = torch.tensor([[[10.5, 20.5], [7.8, 3.2]], [[1.0, 16.0], [30.5, 31.5]]])
    heat = torch.stack([torch.stack([gaussian(x, y) for x, y in row.tolist()]) for row in wanted])
    away = (places(heat) - wanted).abs()
    assert away[0].max() < 0.05
    assert away[1].max() < 0.6, "at an edge half of the peak is missing"
    # A lesser peak elsewhere does not draw it away.
    second = torch.logaddexp(heat[:1], heat[:1].flip(3) - 0.5)
    assert (places(second) - places(heat[:1])).abs().max() < 0.1


@pytest.mark.parametrize("side", [32, 64])
def test_the_network_gives_maps_of_one_size(side: int) -> None:
    maps = LocaliserNetwork(3, side)(torch.zeros(2, 3, side, side))
    assert maps.heat.shape == (2, 3, CELLS, CELLS)
    assert maps.visible.shape == (2, 3)
    assert maps.mask.shape == (2, 1, CELLS, CELLS)


def test_left_and_right_change_places() -> None:
    names = ["back", "left eye", "tail", "right eye", "right_leg", "left wing"]
    assert mirrored_parts(names) == [0, 3, 2, 1, 4, 5]
    assert mirrored_parts(KEYPOINT_NAMES) == list(range(10))


def test_keypoints_and_masks_move_with_the_picture() -> None:
    # The mask is a dot at keypoint 0, which keypoint 1 becomes in a mirror.
    side, count = 64, 60
    random = torch.Generator().manual_seed(0)
    points = 0.6 * (2 * torch.rand(count, 2, 2, generator=random) - 1)
    middle = 2 * (torch.arange(side) + 0.5) / side - 1
    x, y = points[:, 0, :, None, None].unbind(dim=1)
    dots = torch.exp(-((x - middle) ** 2 + (y - middle[:, None]) ** 2)[:, None] / 0.02)
    lesson = Lesson(dots.repeat(1, 3, 1, 1), points, dots)
    seen = jittered(lesson, [1, 0], random)
    assert seen.masks is not None
    index = seen.masks.flatten(1).argmax(dim=1)
    dot = torch.stack([middle[index % side], middle[index // side]], dim=1)
    away = (seen.keypoints - dot[:, None]).norm(dim=2)
    inside = ~seen.keypoints.isnan().any(dim=(1, 2))
    assert inside.sum() > 30
    assert away[inside].amin(dim=1).max() < 2 / side
    mirrored = away[inside].argmin(dim=1).float().mean()
    assert 0.25 < mirrored < 0.75
    for new, mask in zip(seen.images, seen.masks, strict=True):
        pair = torch.stack([new.mean(dim=0).flatten(), mask.flatten()])
        assert torch.corrcoef(pair)[0, 1] > 0.4, "pictures move as their masks do"
    # A keypoint that leaves the view is no longer seen.
    edge = jittered(lesson._replace(keypoints=torch.full_like(points, 0.95)), [1, 0], random)
    unseen = edge.keypoints.isnan().any(dim=2)
    assert 0.1 < unseen.float().mean() < 0.95
    assert edge.keypoints[~unseen].abs().max() <= 1


def test_the_loss_is_least_at_the_truth() -> None:
    points = torch.tensor([[[0.0, 0.5], [torch.nan, torch.nan]]])
    masks = torch.zeros(1, 1, 64, 64)
    masks[..., 20:40, 10:50] = 1
    lesson = Lesson(torch.zeros(1, 3, 64, 64), points, masks)
    coarse = torch.nn.functional.avg_pool2d(masks, 2)
    right = Maps(
        torch.stack([gaussian(16, 24), gaussian(1, 1)])[None],
        torch.tensor([[9.0, -9.0]]),
        20 * (coarse - 0.5),
    )
    least = localiser_loss(right, lesson)
    elsewhere = right._replace(heat=torch.stack([gaussian(17, 24), gaussian(1, 1)])[None])
    assert localiser_loss(elsewhere, lesson) > least + 0.3
    hidden = right._replace(heat=torch.stack([gaussian(16, 24), gaussian(9, 9)])[None])
    assert localiser_loss(hidden, lesson) == least, "what cannot be seen teaches nothing"
    assert localiser_loss(right._replace(visible=-right.visible), lesson) > least + 5
    assert localiser_loss(right._replace(mask=-right.mask), lesson) > least + 5
    without = lesson._replace(masks=None)
    assert localiser_loss(right._replace(mask=-right.mask), without) < least


def test_overlap() -> None:
    masks = torch.zeros(3, 1, 4, 4, dtype=torch.bool)
    masks[0, 0, :2], masks[1, 0, 1:3] = True, True
    assert overlap(masks[:2], masks[[1, 1]]).tolist() == pytest.approx([1 / 3, 1])
    assert overlap(masks[:1], masks).tolist() == pytest.approx([1, 1 / 3, 0])
    assert overlap(masks[2:], masks[2:]).tolist() == [0], "finding nothing is no success"


def test_the_best_constant_mask_is_not_always_that_of_the_majority() -> None:
    truths = torch.zeros(4, 1, 4, 4, dtype=torch.bool)
    for row in range(4):
        truths[row, 0, row] = True  # each pixel is the object's in a quarter of the pictures
    often = truths.float().mean(dim=0, keepdim=True)
    assert constant_overlap(often, truths) == pytest.approx(0.25)


def test_it_is_taught_on_other_pictures_than_it_is_measured_on(parted: Dataset) -> None:
    taught, held_out = localiser_rows(parted, 0)
    assert sorted([*taught, *held_out]) == parted.indices("judge").tolist()
    assert len(held_out) == int(0.2 * len(parted.indices("judge")))
    bare = copy.copy(parted)
    monkey = {"judge": np.empty(0, np.int64)}
    bare.indices = lambda split=None: monkey.get(split, parted.indices(split))  # type: ignore
    taught, held_out = localiser_rows(bare, 0)
    assert sorted(taught) == parted.indices("train").tolist()
    assert held_out.tolist() == parted.indices("test").tolist()
    monkey["test"] = monkey["judge"]
    taught, held_out = localiser_rows(bare, 0)
    assert not set(taught) & set(held_out)
    assert len(taught) + len(held_out) == len(parted)


def test_a_cached_localiser_is_the_trained_one(
    parted: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIXNMATCH_CACHE", str(tmp_path))
    monkeypatch.setattr(localiser, "BATCH_SIZE", 8)
    trained = load_localiser(parted, 64, steps=2)
    torch.manual_seed(3)
    cached = load_localiser(parted, 64, steps=2)
    assert len(list(tmp_path.iterdir())) == 1
    assert cached.worth == trained.worth
    assert cached.pck_of_part == trained.pck_of_part
    assert trained.worth.keys() == {"pck", "error", "mask_iou"}
    assert trained.pck_of_part.keys() == set(KEYPOINT_NAMES)
    random = torch.Generator().manual_seed(0)
    images = 2 * torch.rand(2, 3, 128, 128, generator=random) - 1
    ours, theirs = trained.locate(images), cached.locate(images)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert ours.masks.shape == (2, 1, 128, 128)
    assert 0 <= ours.keypoints.min() <= ours.keypoints.max() <= 128
    for name, chance in (("pck", 0.3), ("mask_iou", 1.0)):
        assert 0 <= (trained.worth[name].chance or 0) <= chance
    # Larger pictures are reduced to the same side first.
    assert load_localiser(parted, 128, steps=2).worth == trained.worth
    assert len(list(tmp_path.iterdir())) == 1


def test_nothing_to_find_is_refused(parted: Dataset) -> None:
    unseen = copy.copy(parted)
    unseen.info = replace(parted.info, parts=("antler",), fingerprint="other")
    rows = {row: replace(parted[row], parts=(), mask=None) for row in range(len(parted))}

    class Bare(Dataset):
        def __getitem__(self, index: int):  # type: ignore
            return rows[int(index)]

    unseen.__class__ = Bare
    with pytest.raises(DataError, match=r"of 20 pictures .* none shows a keypoint"):
        load_localiser(unseen, 32, steps=1)
    unseen.info = replace(parted.info, parts=(), fingerprint="another")
    with pytest.raises(DataError, match="has neither keypoints nor masks"):
        load_localiser(unseen, 32, steps=1)
