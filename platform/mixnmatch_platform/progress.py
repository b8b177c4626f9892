"""One line on stderr for each thing that happens in a sweep, instead of Tune's tables."""

import math
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ray.tune import Callback

from mixnmatch_platform.search import NUMBER, OUTCOME, REASON, read_figures
from mixnmatch_platform.space import Objective


class SweepProgress(Callback):  # type: ignore[misc]  # ray is untyped
    """Tells when trials start, are evaluated, end or fail.

    Args:
        total: Number of trials of the sweep.
        objectives: The figures that it optimises.
        before: Trials by what became of them before this session.
    """

    def __init__(
        self, total: int, objectives: Sequence[Objective], before: Mapping[str, int]
    ) -> None:
        self._total = total
        self._objectives = objectives
        self._ended = sum(before.values()) - before["running"]
        self._began = time.monotonic()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Name what was proposed."""
        settings = {key: value for key, value in trial.config.items() if key != NUMBER}
        told = ", ".join(f"{key} {_short(value)}" for key, value in settings.items())
        self._say(f"{trial} starts: {told}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Tell what became of a trial."""
        last = trial.last_result
        if last.get(OUTCOME) == "stopped":
            self._say(f"{trial}: {last[REASON]}")
        elif last.get(OUTCOME) == "failed":
            self._end(f"{trial} failed: {last[REASON]}")
        elif last.get(OUTCOME) == "early":
            self._end(f"{trial} {last[REASON].partition(';')[0]}")
        elif last.get(OUTCOME) == "finished":
            figures = read_figures(last)
            values = [f"{o.metric} {figures.get(o.metric, math.nan):.3f}" for o in self._objectives]
            self._end(f"{trial} finished: {', '.join(values)}")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Count a trial that failed for good, with its reason."""
        lines = str(trial.get_error() or "").strip().splitlines()
        self._end(f"{trial} failed: {lines[-1] if lines else 'no reason given'}")

    def _end(self, text: str) -> None:
        self._ended += 1
        self._say(f"{text} ({self._ended} of {self._total})")

    def _say(self, text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        print(f"[{minutes:2d}:{seconds:02d}] {text}", file=sys.stderr, flush=True)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
