"""One training run with its record in MLflow: what a process, a Ray worker or a trial executes."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from mixnmatch.bundle import DESCRIPTION
from mixnmatch.config import RunConfig, flatten
from mixnmatch.data.store import open_dataset
from mixnmatch.errors import RunError
from mixnmatch.recorder import FolderRecorder, Recorder, Recorders
from mixnmatch.training.checkpoints import Checkpoints, FolderCheckpoints
from mixnmatch.training.run import BUNDLE, Run, Worker, train
from mixnmatch_platform.tracking import (
    BOTH_STAGES,
    DATA_TAG,
    STAGES_TAG,
    Tracking,
    environment_tags,
)

RUN_ID_FILE = "mlflow-run-id"
CHECKPOINT_FOLDER = "checkpoints"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run to execute; plain data, so that it travels to Ray workers."""

    config: RunConfig
    """What to train."""
    data: Path
    """Data set folder, as the workers see it."""
    out: Path
    """Folder of the run, as the workers see it."""
    stages: tuple[int, ...]
    """(1,), (2,) or (1, 2)."""
    tracking: Tracking
    """Where the run is recorded."""
    run_id: str
    """Its MLflow run, which is running."""
    begin_from: Path | None = None
    """State of an earlier run to go on from."""

    @property
    def stage_tag(self) -> str:
        """Stages that the model has been through in the end, as its run is tagged."""
        return "1" if self.stages == (1,) else BOTH_STAGES


class OnEvaluation(Recorder):
    """Hands each evaluation's figures to a function, and nothing else.

    Args:
        report: Takes the figures with their step under ``step``.
    """

    def __init__(self, report: Callable[[dict[str, float]], None]) -> None:
        self._report = report

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Report an evaluation."""
        if "evaluation/samples" in values:
            self._report({**values, "step": float(step)})

    def picture(self, name: str, image: Image.Image, step: int) -> None:
        """Pictures are not reported."""

    def artifact(self, path: Path, folder: str = "") -> None:
        """Files are not reported."""


def start_job(
    tracking: Tracking,
    *,
    name: str,
    config: RunConfig,
    data: Path,
    out: Path,
    stages: tuple[int, ...],
    parent_run_id: str | None = None,
    tags: Mapping[str, str] | None = None,
    begin_from: Path | None = None,
) -> Job:
    """Open the MLflow run of a job: a new one, or the one that ``out`` already belongs to.

    Args:
        tracking: Store and experiment.
        name: Name of the run.
        config: What to train.
        data: Data set folder.
        out: Folder of the run.
        stages: (1,), (2,) or (1, 2).
        parent_run_id: Run of the sweep that it belongs to.
        tags: Tags of the run, beside those of code and machine.
        begin_from: State of an earlier run to go on from.

    Raises:
        InputError: If the store is away.
    """
    out.mkdir(parents=True, exist_ok=True)
    file = out / RUN_ID_FILE
    if file.is_file():
        run_id = file.read_text().strip()
        tracking.reopen(run_id)
    else:
        info = open_dataset(data).info
        run_id = tracking.start_run(
            name,
            parent_run_id=parent_run_id,
            params={**flatten(config), "data": str(data), "data_count": info.count},
            tags={**environment_tags(), DATA_TAG: info.fingerprint, **(tags or {})},
        )
        partial = file.with_suffix(".partial")
        partial.write_text(run_id)
        partial.replace(file)
    return Job(
        config=config,
        data=data,
        out=out,
        stages=stages,
        tracking=tracking,
        run_id=run_id,
        begin_from=begin_from,
    )


def execute(
    job: Job,
    *,
    worker: Worker,
    checkpoints: Checkpoints | None = None,
    listener: Recorder | None = None,
) -> dict[str, float]:
    """Train and evaluate one run, recorded in its folder and in MLflow.

    Args:
        job: The run.
        worker: Which of its data-parallel workers this is.
        checkpoints: Where states are kept; files in the run's folder without it.
        listener: A further recorder.

    Returns:
        The last evaluation's figures.
    """
    kept = checkpoints or FolderCheckpoints(job.out / CHECKPOINT_FOLDER)
    run = Run(
        config=job.config,
        dataset=open_dataset(job.data),
        out=job.out,
        recorder=FolderRecorder(job.out),
        checkpoints=kept,
        begin_from=job.begin_from,
        worker=worker,
    )
    if not worker.leads:
        return train(run, job.stages)
    mlflow = job.tracking.recorder(job.run_id)
    others = [listener] if listener else []
    recorder = Recorders(run.recorder, mlflow, *others)
    try:
        metrics = train(replace(run, recorder=recorder), job.stages)
        job.tracking.set_tags(job.run_id, {STAGES_TAG: job.stage_tag})
    finally:
        mlflow.close()
    return metrics


def figures(out: Path) -> dict[str, float]:
    """The figures that the finished run in a folder ended with."""
    description = json.loads((out / BUNDLE / DESCRIPTION).read_text())
    return {name: float(value) for name, value in description["metrics"].items()}


@contextmanager
def finishing(tracking: Tracking, run_id: str) -> Iterator[None]:
    """End an MLflow run with the block: FINISHED, FAILED, or KILLED by hand."""
    try:
        yield
    except BaseException as error:
        by_hand = isinstance(error, KeyboardInterrupt | SystemExit)
        with suppress(RunError):  # the first error is the one to tell
            tracking.finish(run_id, "KILLED" if by_hand else "FAILED")
        raise
    tracking.finish(run_id, "FINISHED")
