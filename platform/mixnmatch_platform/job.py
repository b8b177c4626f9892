"""One training run with its record in MLflow: what a process, a Ray worker or a trial executes."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from mixnmatch.bundle import bundle_metrics
from mixnmatch.config import RunConfig
from mixnmatch.data.store import open_dataset
from mixnmatch.recorder import FolderRecorder, Recorder, Recorders
from mixnmatch.settings import flatten
from mixnmatch.training.checkpoints import Checkpoints
from mixnmatch.training.run import BUNDLE, Run, Worker, train
from mixnmatch.training.supervision import Supervisor, Unsupervised
from mixnmatch_platform.ending import ending, settle
from mixnmatch_platform.environment import environment_tags, machine_tags
from mixnmatch_platform.locks import hold
from mixnmatch_platform.meter import metered
from mixnmatch_platform.notes import NOTE_TAG, run_note
from mixnmatch_platform.outbox import RUN_ID_FILE, Outbox
from mixnmatch_platform.protocols import protocol_tags
from mixnmatch_platform.states import job_states
from mixnmatch_platform.tracking import BOTH_STAGES, DATA_TAG, REASON_TAG, STAGES_TAG, Tracking

__all__ = [
    "RUN_ID_FILE",
    "Job",
    "execute",
    "figures",
    "hold",
    "settle",
    "start_job",
]

SEED_TAG = "mixnmatch.seed"


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
    patience_seconds: float = 0,
) -> Job:
    """Open the MLflow run of a job: a new one, or the one that ``out`` already belongs to.

    A job that goes on does so without the store as well: its records wait then.

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
        patience_seconds: How long a new run waits for a store that is away.

    Raises:
        InputError: If the store is away and the run is a new one.
        RunError: If the run that ``out`` belongs to was deleted, or is of another store.
    """
    out.mkdir(parents=True, exist_ok=True)
    run_id = tracking.resume_run(out)
    if run_id is None:
        info = open_dataset(data).info
        run_id = tracking.start_run(
            name,
            parent_run_id=parent_run_id,
            params={**flatten(config), "data": str(data), "data_count": info.count},
            tags={
                **(environment or environment_tags()),
                DATA_TAG: info.fingerprint,
                SEED_TAG: str(config.seed),
                NOTE_TAG: run_note(tracking.experiment, name, config, data),
                **(tags or {}),
            },
            folder=out,
            patience_seconds=patience_seconds,
        )
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
        supervisor: May end it early.

    Returns:
        The last evaluation's figures.

    Raises:
        RunError: If another process has the run's folder, or the training fails.
        Stopped: If the supervisor ended it.
    """
    with _recorded(job, worker) as recorder:
        return train(
            Run(
                config=job.config,
                dataset=open_dataset(job.data),
                out=job.out,
                recorder=recorder,
                checkpoints=checkpoints or job_states(job.out, job.config),
                begin_from=job.begin_from,
                worker=worker,
                supervisor=supervisor or Unsupervised(),
            ),
            job.stages,
        )


@contextmanager
def _recorded(job: Job, worker: Worker) -> Iterator[Recorder]:
    """Where a worker records; worker 0 holds the run's folder, and begins and ends the run."""
    if not worker.leads:
        yield Recorders()
        return
    ended_before = Outbox(job.out).last_status() not in (None, "RUNNING")
    with hold(job.out), closing(job.tracking.recorder(job.run_id, job.out)) as mlflow:
        mlflow.status("RUNNING")
        mlflow.tags(machine_tags() | ({REASON_TAG: ""} if ended_before else {}))
        with ending(mlflow, {STAGES_TAG: job.stage_tag}), metered(mlflow, job.out, worker):
            yield Recorders(FolderRecorder(job.out), mlflow)
            mlflow.tags(protocol_tags(job.out))


def figures(out: Path) -> dict[str, float]:
    """The figures that the finished run in a folder ended with."""
    return bundle_metrics(out / BUNDLE)
