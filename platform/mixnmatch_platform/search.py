"""Ray Tune's interfaces to a sweep's study: Tune executes, the study decides."""

from collections.abc import Callable, Mapping
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from mixnmatch_platform.study import Study

NUMBER = "number"
"""Of the trial, in what Tune hands to it."""
OUTCOME, REASON = "outcome", "reason"
"""Of the last report of a trial: ``finished``, or ``failed``, ``stopped`` or ``early`` with why."""
ITS_FAULT = "its_fault"
"""Of a failed one: whether its settings are to blame."""


FIGURE = "figure/"
"""Before the names of what a finished one ended with; Tune has names of its own."""


def report_of(figures: Mapping[str, float]) -> dict[str, Any]:
    """The last report of a trial that finished."""
    return {OUTCOME: "finished"} | {f"{FIGURE}{name}": v for name, v in figures.items()}


def read_figures(result: Mapping[str, Any]) -> dict[str, float]:
    """The figures in such a report."""
    return {k.removeprefix(FIGURE): v for k, v in result.items() if k.startswith(FIGURE)}


class StudySearch(Searcher):  # type: ignore[misc]  # ray is untyped
    """Hands out what the study proposes, and tells it what came of it.

    Args:
        study: The study.
        stopping: Whether to propose no more.
    """

    def __init__(self, study: Study, stopping: Callable[[], bool]) -> None:
        super().__init__()
        self._study = study
        self._stopping = stopping
        self._numbers: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """The next trial's number and settings."""
        proposal = None if self._stopping() else self._study.next()
        if proposal is None:
            return str(Searcher.FINISHED)
        self._numbers[trial_id] = proposal.number
        return {NUMBER: proposal.number, **proposal.settings}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the study; a trial that was asked to stop stays open in it."""
        number, result = self._numbers[trial_id], result or {}
        if self._study.is_settled(number):
            return
        outcome = result.get(OUTCOME)
        if outcome == "finished":
            self._study.complete(number, read_figures(result))
        elif outcome == "failed" or error:
            reason = result.get(REASON, "Ray gave it up")
            self._study.fail(number, reason, its_fault=result.get(ITS_FAULT, False))

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is saved already."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, likewise."""


class StudyScheduler(FIFOScheduler):  # type: ignore[misc]  # ray is untyped
    """Has trials stopped at the rungs where the study says so.

    They end by themselves. Tune would end the process that waits for their workers instead, which
    is to run the next trial.

    Args:
        study: The study.
        metric: Figure of the evaluations within stage 1 that its rungs compare.
        stop: Asks a trial, by its number, to end.
    """

    def __init__(self, study: Study, metric: str, stop: Callable[[int], None]) -> None:
        super().__init__()
        self._study = study
        self._figure = f"training/{metric}"
        self._stop = stop

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Ask the study, where the report has a figure to compare."""
        number = trial.config[NUMBER]
        if self._figure in result and not self._study.is_settled(number):
            images = int(result["images"])
            if self._study.stop_early(number, images, result[self._figure]):
                self._stop(number)
        return str(TrialScheduler.CONTINUE)
