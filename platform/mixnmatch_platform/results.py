"""What a sweep ended with."""

from dataclasses import dataclass
from typing import Any

from mixnmatch.errors import RunError
from mixnmatch_platform.study import Study
from mixnmatch_platform.sweep import Sweep

__all__ = ["SweepResult", "TrialResult", "best_words", "counted", "sweep_result"]


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """A trial that is through."""

    name: str
    """Of its run and its folder."""
    values: list[float]
    """Its figures, in the order of the objectives."""
    settings: dict[str, Any]
    """What was proposed for it."""


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """What a sweep ended with."""

    best: list[TrialResult]
    """The best trial; of several objectives the Pareto front."""
    finished: int
    """Trials that came to their end."""
    pruned: int
    """Trials that were stopped early."""
    failed: int
    """Trials that came to nothing."""
    refit_value: float | None = None
    """The figure after the long training."""


def sweep_result(sweep: Sweep, study: Study) -> SweepResult:
    """What the trials so far come to.

    Raises:
        RunError: If none of them finished.
    """
    counts = study.counts()
    best = [
        TrialResult(name=proposal.name, values=list(values), settings=proposal.settings)
        for proposal, values in study.best()
    ]
    if not best:
        reasons = study.reasons()
        wanted = " that satisfies all constraints" if sweep.constraints else ""
        raise RunError(
            f"no trial of sweep {sweep.name} came to its end{wanted} ({counted(study)})"
            + (f": {reasons[0]}" if reasons else "")
        )
    return SweepResult(
        best=best, finished=counts["finished"], pruned=counts["pruned"], failed=counts["failed"]
    )


def counted(study: Study) -> str:
    """Trials by what became of them, in words."""
    return ", ".join(f"{n} {state}" for state, n in study.counts().items() if n) or "no trials"


def best_words(sweep: Sweep, result: SweepResult) -> str:
    """The best trials with their figures, in words."""

    def told(trial: TrialResult) -> str:
        pairs = zip(sweep.objectives, trial.values, strict=True)
        return f"{trial.name}, " + ", ".join(f"{o.metric} {value:.3f}" for o, value in pairs)

    if len(sweep.objectives) == 1:
        return f"best of {result.finished} trials: {told(result.best[0])}"
    front = "\n".join(f"  {told(trial)}" for trial in result.best)
    return f"Pareto front of {result.finished} trials:\n{front}"
