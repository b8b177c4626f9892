"""What a stage in training is watched by: its losses, its speed, its pictures, its masks."""

import math
import time
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mixnmatch.bundle import ModelBundle, bundle_of
from mixnmatch.codes import sample_tied
from mixnmatch.config import Stage1Config, Stage2Config
from mixnmatch.data.batches import Batch, evaluation_pictures
from mixnmatch.data.store import Dataset
from mixnmatch.errors import DivergenceError
from mixnmatch.metrics.masks import mask_contrast
from mixnmatch.recorder import Recorder
from mixnmatch.sheets import training_sheet
from mixnmatch.training.state import TrainingStage

SHEET_PICTURES = 12


class Journal:
    """The record of one stage, on one scale of steps for both stages.

    Args:
        recorder: Takes figures and pictures.
        stage: The stage.
        schedule: Its configuration.
        dataset: Its pictures; some of the test split (or of the whole) are watched.
        world_size: Number of data-parallel workers.
    """

    def __init__(
        self,
        recorder: Recorder,
        stage: TrainingStage,
        schedule: Stage1Config | Stage2Config,
        dataset: Dataset,
        world_size: int,
    ) -> None:
        self._recorder = recorder
        self._stage = stage
        self._images_per_step = schedule.batch_size * world_size
        self._dataset = dataset
        self._lap = (stage.steps_done, time.monotonic())
        self._waited_seconds = 0.0

    @property
    def step(self) -> int:
        """Steps of the whole run: stage 2 counts on from the end of stage 1."""
        before = self._stage.config.stage1.steps if self._stage.number == 2 else 0
        return before + self._stage.steps_done

    @property
    def images(self) -> int:
        """Training pictures that the stage has seen, by all workers together."""
        return self._stage.steps_done * self._images_per_step

    def next_batch(self, batches: Iterator[Batch]) -> Batch:
        """Take the next batch; the wait for it is recorded with the next losses."""
        began = time.monotonic()
        batch = next(batches)
        self._waited_seconds += time.monotonic() - began
        return batch

    def losses(self, values: dict[str, float]) -> None:
        """Record losses, images seen, and the seconds a step has taken since the last time.

        ``data_wait_seconds`` are those of ``step_seconds`` in which the step waited for its batch.
        """
        done, now = self._stage.steps_done, time.monotonic()
        last_done, last_time = self._lap
        self._lap = (done, now)
        figures = {
            **values,
            "images": float(self.images),
            "step_seconds": (now - last_time) / max(1, done - last_done),
            "data_wait_seconds": self._waited_seconds / max(1, done - last_done),
        }
        self._waited_seconds = 0.0
        prefix = f"stage{self._stage.number}/"
        self._recorder.metrics({prefix + name: v for name, v in figures.items()}, self.step)

    def sample_sheet(self) -> None:
        """Record what the model makes of some pictures, and whether its masks are inverted."""
        began = time.monotonic()
        stage, config = self._stage, self._stage.config
        rows = self._dataset.held_out_rows()[:SHEET_PICTURES]
        pictures = evaluation_pictures(self._dataset, rows, config.model.image_size)
        random = torch.Generator().manual_seed(config.seed)
        codes = sample_tied(config.model, len(rows), random).to(stage.device)
        bundle = current_bundle(stage, self._dataset)
        with stage.evaluating():
            sheet = training_sheet(bundle, pictures.images.to(stage.device), codes)
            contrast = mask_contrast(bundle, pictures, SHEET_PICTURES)
        self._recorder.picture("samples", sheet, self.step)
        self._recorder.metrics({f"watch/{n}": value for n, value in contrast.items()}, self.step)
        self.pause(time.monotonic() - began)

    def pause(self, seconds: float) -> None:
        """Leave out of the time of a step what went into looking at the model."""
        done, since = self._lap
        self._lap = (done, since + seconds)


def finite(losses: dict[str, Float[Tensor, ""]], stage: TrainingStage) -> dict[str, float]:
    """Read losses, and refuse to go on from one that is not a number before it is saved.

    Raises:
        DivergenceError: Naming the term.
    """
    read = torch.stack([loss.float() for loss in losses.values()]).tolist()  # waits but once
    values = dict(zip(losses, read, strict=True))
    bad = [f"{name} = {value}" for name, value in values.items() if not math.isfinite(value)]
    if bad:
        raise DivergenceError(
            f"stage {stage.number}, step {stage.steps_done}: {', '.join(bad)}; the last checkpoint "
            f"is good: resume with a smaller learning rate (--set stage{stage.number}.lr=…)"
        )
    return values


def current_bundle(stage: TrainingStage, dataset: Dataset) -> ModelBundle:
    """The model that a stage holds, with the data that it was trained on, and how."""
    info = dataset.info
    data: dict[str, Any] = {
        "kind": info.kind,
        "count": info.count,
        "fingerprint": info.fingerprint,
        "licence": info.licence,
        "trained_on": stage.device.type,
        "precision": "bfloat16" if stage.bfloat16 else "float32",
    }
    return bundle_of(stage, metrics={}, data=data)
