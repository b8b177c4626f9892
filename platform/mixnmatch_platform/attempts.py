"""How often a run may die without getting on: any number of times, but not thrice at one place."""

import json
from pathlib import Path

from mixnmatch.errors import RunError
from mixnmatch.files import whole_file

__all__ = ["MOST_DEATHS", "count_attempt", "forget_attempts"]

MOST_DEATHS = 3
"""In a row, without a newer checkpoint."""
ATTEMPTS = "attempts.json"


def count_attempt(out: Path, step: int | str | None, reason: str = "") -> None:
    """Take note that a run is about to begin, or to go on from a checkpoint.

    Args:
        out: Folder of the run.
        step: Where its newest checkpoint is: a number or a name; None without one.
        reason: Why the last attempt ended, where that is known.

    Raises:
        RunError: If that many attempts from this very checkpoint have died already.
    """
    died = 0
    if (file := out / ATTEMPTS).is_file():
        last = json.loads(file.read_text(encoding="utf-8"))
        died = last["attempts"] if last["step"] == step else 0
    if died >= MOST_DEATHS:
        where = "before the first checkpoint" if step is None else f"after checkpoint {step}"
        raise RunError(f"{out} died {died} times in a row {where}{f': {reason}' if reason else ''}")
    with whole_file(file) as partial:
        partial.write_text(json.dumps({"step": step, "attempts": died + 1}) + "\n", "utf-8")


def forget_attempts(out: Path) -> None:
    """Begin to count anew: the run has ended, or is taken up by hand."""
    (out / ATTEMPTS).unlink(missing_ok=True)
