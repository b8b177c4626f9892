import copy
import gc
import os
import re
import sys
import threading
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from made_data import MakeCub, read_cub
from plain_crops import plain_crop

from mixnmatch.data import batches as batches_module
from mixnmatch.data.batches import Batch, TrainingSet, evaluation_pictures
from mixnmatch.data.drawn.keypoints import KEYPOINT_NAMES
from mixnmatch.data.pictures import decode_picture
from mixnmatch.data.records import Part, Split
from mixnmatch.data.store import Dataset, open_dataset, write_dataset
from mixnmatch.data.views import Crop, prepare_views
from mixnmatch.errors import DataError


def equal(left: Batch, right: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def take(pictures: TrainingSet, count: int, **options: int) -> list[Batch]:
    batches = pictures.batches(options.pop("batch_size", 4), **{"seed": 0, **options})
    try:
        return list(islice(batches, count))
    finally:
        batches.close()


def slow_batch(
    dataset: Dataset,
    split: Split | None,
    image_size: int,
    step: int,
    *,
    batch_size: int,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
) -> Batch:
    """A batch made picture by picture out of the data set itself."""
    rows = dataset.indices(split)
    whole = batch_size * world_size
    mine = slice(rank * batch_size, (rank + 1) * batch_size)
    epoch, position = divmod(step, len(rows) // whole)
    order = np.random.default_rng([seed, 0, epoch]).permutation(rows)
    chances = np.random.default_rng([seed, 1, step]).random((whole, 2, 3))[mine]
    sides = (image_size, image_size - 2)
    crops: tuple[list[Crop], list[Crop]] = ([], [])
    for row, of_views in zip(order[position * whole :][mine], chances, strict=True):
        record = dataset[int(row)]
        views = prepare_views(decode_picture(record.image, ""), record.box, image_size)
        pairs = ((views.object_pixels, views.object_box), views[2:])
        for made, (pixels, box), side, (x, y, flip) in zip(
            crops, pairs, sides, of_views, strict=True
        ):
            height, width = pixels.shape[:2]
            offset_x, offset_y = int(x * (width - side + 1)), int(y * (height - side + 1))
            made.append(plain_crop(pixels, box, side, offset_x, offset_y, flip=bool(flip < 0.5)))
    parts: list[torch.Tensor] = []
    for made in crops:
        pixels = np.stack([crop.pixels for crop in made]).transpose(0, 3, 1, 2)
        scaled = np.ascontiguousarray(pixels, np.float32) / np.float32(127.5) - np.float32(1)
        parts += [torch.from_numpy(scaled), torch.from_numpy(np.stack([c.box for c in made]))]
    return Batch(*parts)


@pytest.fixture
def streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches as for a GPU that the views do not fit on: a thread gathers ahead."""
    monkeypatch.setattr(batches_module, "_is_resident", lambda *_: False)


@pytest.mark.parametrize("image_size", [32, 64])
@pytest.mark.parametrize("split", ["train", None])
def test_batches_are_those_made_picture_by_picture(
    drawn: Dataset, split: Split | None, image_size: int
) -> None:
    ours = take(TrainingSet(drawn, image_size, split), 15, seed=3)
    for step, batch in enumerate(ours):
        assert equal(batch, slow_batch(drawn, split, image_size, step, batch_size=4, seed=3))


def test_batches_of_photographs_of_all_sizes(make_cub: MakeCub) -> None:
    root = make_cub()
    write_dataset(read_cub(root), root / "set", kind="cub")
    dataset = open_dataset(root / "set")
    ours = take(TrainingSet(dataset, 32), 60, batch_size=2)
    for step, batch in enumerate(ours):
        assert equal(batch, slow_batch(dataset, None, 32, step, batch_size=2, seed=0))
    boxes = torch.cat([batch.background_box for batch in ours])
    assert (boxes == 0).all(dim=1).any(), "no crop that misses its object"


def test_batches_of_ranks_are_those_made_picture_by_picture(drawn: Dataset) -> None:
    ranks = {"batch_size": 3, "seed": 5, "rank": 1, "world_size": 2}
    ours = take(TrainingSet(drawn, 32), 4, start_step=6, **ranks)
    for step, batch in enumerate(ours, start=6):
        assert equal(batch, slow_batch(drawn, None, 32, step, **ranks))


def test_batches_made_ahead_are_the_same(drawn: Dataset, streamed: None) -> None:
    for step, batch in enumerate(take(TrainingSet(drawn, 32), 15, start_step=5), start=5):
        assert equal(batch, slow_batch(drawn, None, 32, step, batch_size=4, seed=0))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("share", [0.25, 0.0])
def test_batches_on_a_gpu_are_the_same(
    drawn: Dataset, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches_module, "RESIDENT_SHARE", share)
    for step, batch in enumerate(take(TrainingSet(drawn, 32, device="cuda"), 15)):
        assert all(part.is_cuda for part in batch)
        here = Batch(*(part.cpu() for part in batch))
        assert equal(here, slow_batch(drawn, None, 32, step, batch_size=4, seed=0))


def test_batches_go_to_the_device_that_trains(drawn: Dataset) -> None:
    (batch,) = take(TrainingSet(drawn, 32, device="meta"), 1)
    assert all(part.is_meta for part in batch)
    assert batch.image.shape == (4, 3, 32, 32)


def test_shapes_and_ranges(drawn: Dataset) -> None:
    (batch,) = take(TrainingSet(drawn, 32), 1)
    assert batch.image.shape == (4, 3, 32, 32)
    assert batch.background.shape == (4, 3, 30, 30)
    for pixels, boxes in ((batch.image, batch.image_box), (batch.background, batch.background_box)):
        assert pixels.dtype == boxes.dtype == torch.float32
        assert pixels.is_contiguous()
        assert -1 <= pixels.min() < -0.3
        assert 0.3 < pixels.max() <= 1
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert boxes.min() >= 0
        assert boxes.max() <= pixels.shape[-1]


@pytest.mark.parametrize("start", [1, 9, 10, 17])
def test_a_resumed_run_sees_what_an_undisturbed_one_sees(drawn: Dataset, start: int) -> None:
    undisturbed = take(TrainingSet(drawn, 32), 20)
    resumed = take(TrainingSet(drawn, 32), 20 - start, start_step=start)
    assert all(map(equal, undisturbed[start:], resumed))


def test_seeds_and_epochs_differ(drawn: Dataset) -> None:
    pictures = TrainingSet(drawn, 32)
    first = take(pictures, 13)
    assert not equal(first[0], take(pictures, 1, seed=1)[0])
    assert not equal(first[0], first[12])


def test_ranks_share_what_one_rank_would_see(drawn: Dataset) -> None:
    whole = take(TrainingSet(drawn, 32), 8, batch_size=8)
    halves = [
        take(TrainingSet(drawn, 32), 8, batch_size=4, rank=rank, world_size=2) for rank in (0, 1)
    ]
    for batch, first, second in zip(whole, *halves, strict=True):
        joined = Batch(*(torch.cat(parts) for parts in zip(first, second, strict=True)))
        assert equal(batch, joined)


def test_an_epoch_shows_each_picture_once_and_drops_the_rest(drawn: Dataset) -> None:
    pictures = TrainingSet(drawn, 32)
    assert pictures.steps_per_epoch(5) == 9
    numbers = np.stack([pictures._draw(step, 5, 0, 0, 1)[0] for step in range(18)])
    first, second = numbers[:9].ravel().tolist(), numbers[9:].ravel().tolist()
    assert len(set(first)) == len(set(second)) == 45
    assert first != second


def test_splits_are_kept_apart(drawn: Dataset) -> None:
    assert len(TrainingSet(drawn, 32, "train")) == len(drawn.indices("train"))


def threads() -> int:
    return sum("mixnmatch-batches" in thread.name for thread in threading.enumerate())


@pytest.mark.parametrize("end", ["close", "forget"])
def test_the_thread_ends_with_the_iterator(drawn: Dataset, end: str, streamed: None) -> None:
    before = threads()
    batches = TrainingSet(drawn, 32).batches(4, seed=0)
    next(batches)
    assert threads() == before + 1
    if end == "close":
        batches.close()
    del batches
    gc.collect()
    deadline = time.monotonic() + 5
    while threads() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threads() == before


def test_training_on_a_cpu_takes_no_thread(drawn: Dataset) -> None:
    before = threads()
    batches = TrainingSet(drawn, 32).batches(4, seed=0)
    next(batches)
    assert threads() == before
    batches.close()


def mapped(cache: Path) -> int:
    """Files of the cache that this process has in its memory."""
    return len(re.findall(re.escape(str(cache)), Path("/proc/self/maps").read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/self/maps is Linux's")
def test_closing_lets_go_of_the_file(
    drawn: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIXNMATCH_CACHE", str(tmp_path))
    pictures = TrainingSet(drawn, 32)
    batches = pictures.batches(4, seed=0)
    next(batches)
    assert mapped(tmp_path) == 1
    open_files = [os.path.realpath(entry) for entry in Path("/proc/self/fd").iterdir()]
    batches.close()
    del batches
    gc.collect()
    assert mapped(tmp_path) == 0
    assert sum("prepared" in name for name in open_files) <= 1  # the one of the mapping


def test_too_few_pictures_are_refused_at_once(drawn: Dataset) -> None:
    with pytest.raises(DataError, match=r"48 pictures are too few for batches of 25 on 2 worker"):
        TrainingSet(drawn, 32).batches(25, seed=0, world_size=2)


def test_looking_whether_pictures_suffice_prepares_none(
    drawn: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIXNMATCH_CACHE", str(tmp_path / "cache"))
    TrainingSet(drawn, 32).check_batches(24, world_size=2)
    with pytest.raises(DataError, match=r"48 pictures are too few for batches of 49 on 1 worker"):
        TrainingSet(drawn, 32).check_batches(49)
    assert not (tmp_path / "cache").exists()


def test_a_split_without_pictures_is_refused(make_cub: MakeCub) -> None:
    root = make_cub()
    write_dataset(read_cub(root), root / "set", kind="cub")
    with pytest.raises(DataError, match="no picture of split 'judge'"):
        TrainingSet(open_dataset(root / "set"), 32, "judge")


def test_a_picture_that_cannot_be_read_is_named(make_cub: MakeCub) -> None:
    root = make_cub()
    broken = (replace(record, image=record.image[:200]) for record in read_cub(root))
    write_dataset(broken, root / "set", kind="cub")
    dataset = open_dataset(root / "set")
    with pytest.raises(DataError, match=r"\.jpg: corrupt or truncated"):
        take(TrainingSet(dataset, 32), 1, batch_size=2)
    with pytest.raises(DataError, match=r"one/a\.jpg: corrupt or truncated"):
        evaluation_pictures(dataset, [0], 32)


def test_evaluation_pictures_of_drawn_ones(drawn: Dataset) -> None:
    rows = [5, 0, 7]
    pictures = evaluation_pictures(drawn, rows, 32)
    assert pictures.images.shape == (3, 3, 32, 32)
    assert pictures.boxes.shape == (3, 4)
    assert pictures.factors is not None
    assert set(pictures.factors) == {"background", "shape", "texture", "pose"}
    assert pictures.labels is not None
    assert pictures.labels.dtype == torch.int64
    assert pictures.labels.tolist() == [drawn[row].label for row in rows]
    assert pictures.factors["texture"].tolist() == pictures.labels.tolist()
    assert pictures.masks is not None
    assert pictures.masks.shape == (3, 1, 32, 32)
    for mask, (x1, y1, x2, y2) in zip(pictures.masks[:, 0], pictures.boxes, strict=True):
        assert mask.max() == 1
        ys, xs = np.nonzero(mask.numpy() > 0.5)
        assert abs(xs.min() - x1) < 2
        assert abs(xs.max() + 1 - x2) < 2
        assert abs(ys.min() - y1) < 2
        assert abs(ys.max() + 1 - y2) < 2


def test_evaluation_pictures_of_photographs(make_cub: MakeCub) -> None:
    root = make_cub()
    write_dataset(read_cub(root), root / "set", kind="cub")
    dataset = open_dataset(root / "set")
    pictures = evaluation_pictures(dataset, dataset.indices(), 32)
    assert pictures.labels is not None
    assert pictures.labels.tolist() == [0, 0, 1]
    assert pictures.factors is None
    assert pictures.masks is None
    with pytest.raises(DataError, match="no picture to evaluate"):
        evaluation_pictures(dataset, [], 32)


def test_keypoints_of_an_evaluation_lie_on_their_objects(drawn: Dataset) -> None:
    assert evaluation_pictures(drawn, [0], 32).keypoints is None, "the data set names none"
    named = copy.copy(drawn)
    named.info = replace(drawn.info, parts=(*KEYPOINT_NAMES, "antler"))
    for side in (32, 64):
        pictures = evaluation_pictures(named, drawn.indices(), side)
        assert pictures.keypoints is not None
        assert pictures.masks is not None
        assert pictures.keypoints.shape == (48, 11, 2)
        assert pictures.keypoints[:, -1].isnan().all()
        away = []
        for mask, points in zip(pictures.masks[:, 0], pictures.keypoints, strict=True):
            ys, xs = np.nonzero(mask.numpy() > 0.2)
            for x, y in points[~points.isnan().any(dim=1)].tolist():
                away.append(np.hypot(xs + 0.5 - x, ys + 0.5 - y).min())
        assert len(away) > 0.9 * 48 * 10
        assert max(away) < 1.5 * side / 32


def test_keypoints_of_a_photograph_by_hand(make_cub: MakeCub) -> None:
    root = make_cub()
    parts = (Part(2, 16.5, 12.0), Part(0, 39.0, 29.0))
    records = [replace(read_cub(root)[0], parts=parts)]
    write_dataset(records, root / "set", kind="cub", parts=("tail", "wing", "beak"))
    pictures = evaluation_pictures(open_dataset(root / "set"), [0], 32)
    # Of 40×30 pixels the object view is 38×30, resized to 48×38; 8 and 3 are cut off.
    assert pictures.keypoints is not None
    tail, wing, beak = pictures.keypoints[0]
    assert beak.tolist() == pytest.approx([16.5 * 48 / 38 - 8, 12 * 38 / 30 - 3])
    assert wing.isnan().all(), "not annotated"
    assert tail.isnan().all(), "cut off"
