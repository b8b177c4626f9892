"""One training run with its record in MLflow: what a process, a Ray worker or a trial executes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from mixnmatch.bundle import bundle_metrics
from mixnmatch.config import RunConfig
from mixnmatch.data.store import open_dataset
from mixnmatch.errors import RunError
from mixnmatch.recorder import FolderRecorder, Recorders
from mixnmatch.settings import flatten
from mixnmatch.training.checkpoints import (
    FILE_NAME,
    Checkpoints,
    FolderCheckpoints,
    State,
    load_state,
)
from mixnmatch.training.run import BUNDLE, Run, Worker, train
from mixnmatch.training.supervision import Supervisor, Unsupervised
from mixnmatch_platform.tracking import (
    BOTH_STAGES,
    DATA_TAG,
    STAGES_TAG,
    Tracking,
    environment_tags,
)

RUN_ID_FILE = "mlflow-run-id"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run to execute; plain data, so that it travels to Ray workers."""

    config: RunConfig
    """What to train."""
    data: Path | str
    """Data set folder or URL, as the workers see it."""
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


class JobCheckpoints(FolderCheckpoints):
    """States in the folder of a run, of which the newest may be one that Ray Train has kept.

    Args:
        out: Folder of the run.
    """

    def __init__(self, out: Path) -> None:
        super().__init__(out / "checkpoints")
        self._out = out

    def load(self) -> State | None:
        """The newest state, whether the run was in one process or on workers when it was saved."""
        on_workers = self._out.glob(f"ray/*/stage?-step*/{FILE_NAME}")
        kept = {path.parent.name: path for path in on_workers}
        kept |= {path.stem: path for path in self.files()}
        return load_state(kept[max(kept)]) if kept else None


def start_job(
    tracking: Tracking,
    *,
    name: str,
    config: RunConfig,
    data: Path | str,
    out: Path,
    stages: tuple[int, ...],
    parent_run_id: str | None = None,
    tags: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    begin_from: Path | None = None,
) -> Job:
    """Open the MLflow run of a job: a new one, or the one that ``out`` already belongs to.

    Args:
        tracking: Store and experiment.
        name: Name of the run.
        config: What to train.
        data: Data set folder or URL.
        out: Folder of the run.
        stages: (1,), (2,) or (1, 2).
        parent_run_id: Run of the sweep that it belongs to.
        tags: Tags of the run, beside those of code and machine.
        environment: Those of code and machine, where they are not this process's.
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
            tags={
                **(environment or environment_tags()),
                DATA_TAG: info.fingerprint,
                **(tags or {}),
            },
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
    supervisor: Supervisor | None = None,
) -> dict[str, float]:
    """Train and evaluate one run, recorded in its folder and in MLflow.

    Args:
        job: The run.
        worker: Which of its data-parallel workers this is.
        checkpoints: Where states are kept; files in the run's folder without it.
        supervisor: May end it early, and hears of its evaluations.

    Returns:
        The last evaluation's figures.
    """
    run = Run(
        config=job.config,
        dataset=open_dataset(job.data),
        out=job.out,
        recorder=FolderRecorder(job.out),
        checkpoints=checkpoints or JobCheckpoints(job.out),
        begin_from=job.begin_from,
        worker=worker,
        supervisor=supervisor or Unsupervised(),
    )
    if not worker.leads:
        return train(run, job.stages)
    mlflow = job.tracking.recorder(job.run_id)
    recorder = Recorders(run.recorder, mlflow)
    try:
        metrics = train(replace(run, recorder=recorder), job.stages)
    finally:
        mlflow.close()
    job.tracking.set_tags(job.run_id, {STAGES_TAG: job.stage_tag})
    return metrics


def figures(out: Path) -> dict[str, float]:
    """The figures that the finished run in a folder ended with."""
    return bundle_metrics(out / BUNDLE)


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
