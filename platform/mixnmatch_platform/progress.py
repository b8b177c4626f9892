"""One line on stderr for each thing that happens in a sweep, instead of Tune's tables."""

import sys
import time
from typing import Any

from ray.tune import Callback


class SweepProgress(Callback):  # type: ignore[misc]  # ray is untyped
    """Tells when trials start, are evaluated, end or fail.

    Args:
        total: Number of trials of the sweep.
        metric: The figure that the sweep optimises.
    """

    def __init__(self, total: int, metric: str) -> None:
        self._total = total
        self._metric = metric
        self._ended = 0
        self._began = time.monotonic()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Name what was proposed."""
        settings = ", ".join(f"{key} {_short(value)}" for key, value in trial.config.items())
        self._say(f"{trial} starts: {settings}")

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Give the figure that a trial ends with."""
        self._say(f"{trial}: {self._metric} {result.get(self._metric, float('nan')):.3f}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Count a trial."""
        self._end(f"{trial} finished")

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
