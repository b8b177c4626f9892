import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from PIL import Image

from mixnmatch.config import RunConfig
from mixnmatch.data.batches import Batch
from mixnmatch.data.store import Dataset
from mixnmatch.training.journal import Journal
from mixnmatch.training.stage1 import CodeStage


class Figures:
    """A recorder of figures alone."""

    def __init__(self) -> None:
        self.seen: list[Mapping[str, float]] = []

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        self.seen.append(values)

    def picture(self, name: str, image: Image.Image, step: int) -> None:
        raise NotImplementedError

    def artifact(self, path: Path, folder: str = "") -> None:
        raise NotImplementedError


def test_the_wait_for_data_is_part_of_a_steps_time(
    tiny: RunConfig, tiny_dataset: Dataset, make_batch: Callable[..., Batch]
) -> None:
    def slow_then_quick() -> Iterator[Batch]:
        for seconds in (0.03, 0.03, 0.0):
            time.sleep(seconds)
            yield make_batch()

    figures, stage = Figures(), CodeStage(tiny)
    journal = Journal(figures, stage, tiny.stage1, tiny_dataset, world_size=1)
    batches = slow_then_quick()
    for _ in range(2):
        assert journal.next_batch(batches).image.shape == (4, 3, 32, 32)
        stage.steps_done += 1
    journal.losses({})
    journal.next_batch(batches)
    stage.steps_done += 1
    time.sleep(0.03)
    journal.losses({})
    waits = [values["stage1/data_wait_seconds"] for values in figures.seen]
    steps = [values["stage1/step_seconds"] for values in figures.seen]
    assert waits[0] == pytest.approx(steps[0], abs=0.01)
    assert waits[0] >= 0.03
    assert waits[1] < 0.01 < 0.03 <= steps[1]
