import gc
import threading
import time
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from conftest import MakeCub

from mixnmatch.data.batches import Batch, TrainingSet, evaluation_pictures
from mixnmatch.data.cub import read_cub
from mixnmatch.data.store import Dataset, open_dataset, write_dataset
from mixnmatch.errors import DataError


def equal(left: Batch, right: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def take(pictures: TrainingSet, count: int, **options: int) -> list[Batch]:
    batches = pictures.batches(options.pop("batch_size", 4), **{"seed": 0, **options})
    try:
        return list(islice(batches, count))
    finally:
        batches.close()


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
    rows: list[int] = []
    read = pictures._views
    pictures._views = lambda row: rows.append(row) or read(row)  # type: ignore[method-assign,func-returns-value]
    assert pictures.steps_per_epoch(5) == 9
    for step in range(18):
        pictures._batch(step, 5, 0, 0, 1)
    first, second = rows[:45], rows[45:]
    assert len(set(first)) == len(set(second)) == 45
    assert first != second


def test_splits_are_kept_apart(drawn: Dataset) -> None:
    assert len(TrainingSet(drawn, 32, "train")) == len(drawn.indices("train"))


def test_memory_is_bounded_and_does_not_change_what_is_seen(drawn: Dataset) -> None:
    kept, read_again = (TrainingSet(drawn, 32, memory_limit_bytes=m) for m in (2**30, 50_000))
    assert all(map(equal, take(kept, 26), take(read_again, 26)))
    assert len(kept._prepared) == len(drawn)
    assert 0 < read_again._prepared_bytes <= 50_000
    assert len(read_again._prepared) < len(drawn)


def threads() -> int:
    return sum("mixnmatch-batches" in thread.name for thread in threading.enumerate())


@pytest.mark.parametrize("end", ["close", "forget"])
def test_the_thread_ends_with_the_iterator(drawn: Dataset, end: str) -> None:
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


def test_too_few_pictures_are_refused_at_once(drawn: Dataset) -> None:
    with pytest.raises(DataError, match=r"48 pictures are too few for batches of 25 on 2 worker"):
        TrainingSet(drawn, 32).batches(25, seed=0, world_size=2)


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
