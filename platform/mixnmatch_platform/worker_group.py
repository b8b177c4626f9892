"""What runs on the workers of a Ray Train group."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ray.train
import ray.train.torch
import torch
from ray.train.collective import broadcast_from_rank_zero

from mixnmatch.errors import MixNMatchError, Stopped
from mixnmatch.metrics.figures import Figure
from mixnmatch.training.checkpoints import KeptStates, State
from mixnmatch.training.run import Worker
from mixnmatch_platform.job import Job, execute
from mixnmatch_platform.stopping import PreemptedError, Stopping

__all__ = ["GroupStates", "WorkerTask", "train_on_worker"]


@dataclass(frozen=True, kw_only=True)
class WorkerTask:
    """What each worker is given."""

    job: Job
    """The run."""
    states: KeptStates
    """Of the run."""
    threads: int
    """Of a worker without a GPU."""
    stop_folders: Sequence[Path]
    """Where a stop may be asked for."""
    reports: bool
    """Whether a trial of Tune's wants to hear of the figures that come with the states."""


class GroupStates:
    """The states of a run, of which all workers of a group load the same one.

    Args:
        states: Where they are.
        reports: Whether Ray hears of the figures that come with them.
    """

    def __init__(self, states: KeptStates, *, reports: bool) -> None:
        self._states = states
        self._reports = reports

    def load(self) -> State | None:
        """The one that was the latest when worker 0 looked."""
        name = broadcast_from_rank_zero(self._states.latest())
        return None if name is None else self._states.read(name)

    def save(self, state: State | None, metrics: dict[str, float]) -> None:
        """Keep a state of worker 0."""
        self._states.save(state, metrics)
        if self._reports:
            ray.train.report(metrics)

    def save_best(self, state: State, name: str, figure: Figure) -> None:
        """Keep a state of worker 0 if it is the best one."""
        self._states.save_best(state, name, figure)


def train_on_worker(task: WorkerTask) -> MixNMatchError | None:
    """Train on one worker of the group.

    Args:
        task: What it is given.

    Returns:
        ``Stopped`` if all of it was asked to end, ``PreemptedError`` if a machine of the group goes
        away; the error of ours that ended a worker without others. What is raised is one of several
        workers, whom Ray then ends at once, wherever they are: the others wait for this one.
    """
    logging.getLogger("ray.train").setLevel(logging.WARNING)  # it tells of each report in full
    device = ray.train.torch.get_device()
    if device.type == "cpu":
        torch.set_num_threads(task.threads)
    context = ray.train.get_context()
    worker = Worker(
        device=device, rank=context.get_world_rank(), world_size=context.get_world_size()
    )
    supervisor = Stopping(task.stop_folders, agree=worker.world_size > 1, leaving=_leaving)
    try:
        execute(
            task.job,
            worker=worker,
            checkpoints=GroupStates(task.states, reports=task.reports),
            supervisor=supervisor,
        )
    except Stopped as stopped:  # on all workers, at the same step
        return PreemptedError(str(stopped)) if supervisor.preempted else stopped
    except MixNMatchError as error:
        if worker.world_size == 1:
            return error
        raise
    return None


def _leaving() -> bool:
    """Whether Ray knows that a node of the group is being drained; asked by all workers at once."""
    return ray.train.get_preemption_info() is not None
