"""A trial of a sweep, as Ray Tune's actor executes it."""

import functools
from collections.abc import Callable
from typing import Any

import torch

from mixnmatch.device import choose_device
from mixnmatch.errors import DivergenceError, MixNMatchError, Stopped
from mixnmatch.metrics.figures import Figure
from mixnmatch.training.checkpoints import KeptStates, State
from mixnmatch.training.run import Worker
from mixnmatch.training.signals import install_handler
from mixnmatch_platform.attempts import count_attempt
from mixnmatch_platform.job import Job, execute
from mixnmatch_platform.notes import NOTE_TAG, trial_note
from mixnmatch_platform.search import ITS_FAULT, NUMBER, OUTCOME, REASON, report_of
from mixnmatch_platform.states import job_states
from mixnmatch_platform.stopping import EARLY, PreemptedError, Stopping
from mixnmatch_platform.study import Proposal
from mixnmatch_platform.sweep import Sweep
from mixnmatch_platform.trainers import run_job

__all__ = ["trainable"]


def trainable(sweep: Sweep, start: Callable[..., Job]) -> type:
    """The class that Tune makes an actor of for each trial.

    Args:
        sweep: The sweep.
        start: Opens the MLflow run of a trial: ``start_job`` with what all of them share.
    """
    from ray.tune.trainable import wrap_function

    # Tune runs the function in a thread; only the main one, which sets it up, may handle signals.
    class Trial(wrap_function(functools.partial(_run, sweep=sweep, start=start))):  # type: ignore[misc]
        def setup(self, config: dict[str, Any]) -> None:
            install_handler()
            super().setup(config)

    return Trial


def _run(config: dict[str, Any], *, sweep: Sweep, start: Callable[..., Job]) -> None:
    from ray import tune

    try:
        figures = _train(config, sweep, start)
    except PreemptedError:
        raise  # this machine goes away: Tune starts the trial again on another one
    except Stopped as stopped:
        outcome = "early" if str(stopped).startswith(EARLY) else "stopped"
        tune.report({OUTCOME: outcome, REASON: str(stopped)})
    except MixNMatchError as error:
        diverged = isinstance(error, DivergenceError)
        tune.report({OUTCOME: "failed", REASON: str(error), ITS_FAULT: diverged})
    else:
        tune.report(report_of(figures))


def _train(config: dict[str, Any], sweep: Sweep, start: Callable[..., Job]) -> dict[str, float]:
    settings = {**config}
    proposal = Proposal(number=settings.pop(NUMBER), settings=settings)
    job = start(
        name=proposal.name,
        config=sweep.trial_config(settings),
        out=sweep.folder / proposal.name,
        tags={
            "mixnmatch.kind": "trial",
            NOTE_TAG: trial_note(sweep.name, proposal.name, settings),
        },
    )
    if sweep.workers:
        return run_job(
            job,
            workers=sweep.workers,
            gpus_per_worker=sweep.gpus_per_worker,
            cpus_per_worker=sweep.cpus_per_worker,
            supervisor_folders=[sweep.folder],
            checkpoints=sweep.checkpoints,
        )
    states = job_states(job.out, job.config, sweep.checkpoints)
    count_attempt(job.out, states.latest())
    torch.set_num_threads(max(1, int(sweep.cpus_per_worker)))
    supervisor = Stopping([job.out, sweep.folder])
    try:
        return execute(
            job,
            worker=Worker(device=choose_device("cuda" if sweep.gpus_per_worker else "cpu")),
            checkpoints=ReportedStates(states, supervisor),
            supervisor=supervisor,
        )
    except Stopped as stopped:
        if supervisor.preempted:
            raise PreemptedError(str(stopped)) from stopped
        raise


class ReportedStates:
    """States of a trial; Tune hears of the figures that come with them.

    Args:
        states: Where they are.
        supervisor: Of the trial, which may be asked to end on what Tune has heard.
    """

    def __init__(self, states: KeptStates, supervisor: Stopping) -> None:
        self._states = states
        self._supervisor = supervisor

    def load(self) -> State | None:
        """The latest state."""
        return self._states.load()

    def save(self, state: State | None, metrics: dict[str, float]) -> None:
        """Write a state, then report."""
        from ray import tune

        self._states.save(state, metrics)
        tune.report(metrics)
        self._supervisor.look_again()

    def save_best(self, state: State, name: str, figure: Figure) -> None:
        """Keep a state if it is the best one."""
        self._states.save_best(state, name, figure)
