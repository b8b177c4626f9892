"""Sessions of a run or a sweep: what it has spent in all of them, and when that is enough."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mixnmatch.errors import InputError
from mixnmatch.files import whole_file
from mixnmatch.training.signals import heard
from mixnmatch_platform.locks import hold, is_held
from mixnmatch_platform.meter import COST, device_seconds
from mixnmatch_platform.periodic import every
from mixnmatch_platform.session_log import logged, note_command
from mixnmatch_platform.stopping import clear_stop, request_stop, stop_reason

__all__ = ["Budget", "elapsed_seconds", "in_session", "session"]

SESSION = ".session"
"""Folder inside that of a run or sweep: the lock of its driver, and its seconds so far."""
ELAPSED = "elapsed.json"
LOOK_SECONDS = 1.0
KEEP_SECONDS = 15.0
"""Between two records of the time; the most of it that a killed driver does not count."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a run or a sweep may take, in all sessions together; none is no limit."""

    max_hours: float | None = None
    """Hours that its driver runs."""
    max_device_hours: float | None = None
    """Hours of devices, GPUs or CPU workers, that its runs take."""

    def __post_init__(self) -> None:
        for name in ("max_hours", "max_device_hours"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                option = f"--{name.replace('_', '-')}"
                raise InputError(f"{option} is {value:g}: it must be more than 0")

    def spent(self, folder: Path, seconds: float) -> str | None:
        """Which limit is reached, in words; None if none is.

        Args:
            folder: Of the run or sweep.
            seconds: That its driver has run in all sessions.
        """
        if self.max_hours is not None and seconds >= 3600 * self.max_hours:
            return f"the budget of {self.max_hours:g} hours (--max-hours) is spent"
        if self.max_device_hours is not None:
            files = [*folder.glob(COST), *folder.glob(f"*/{COST}")]
            if sum(device_seconds(file.parent) for file in files) >= 3600 * self.max_device_hours:
                return (
                    f"the budget of {self.max_device_hours:g} device hours (--max-device-hours) "
                    "is spent"
                )
        return None


def elapsed_seconds(folder: Path) -> float:
    """How long the drivers of a run or sweep have run so far, all sessions together."""
    try:
        text = (folder / SESSION / ELAPSED).read_text(encoding="utf-8")
        return float(json.loads(text)["seconds"])
    except FileNotFoundError:
        return 0.0


def in_session(folder: Path) -> bool:
    """Whether a driver works on the run or sweep in a folder now."""
    return is_held(folder / SESSION)


@contextmanager
def session(folder: Path, budget: Budget | None = None) -> Iterator[None]:
    """Work on the run or sweep in a folder: no other driver does meanwhile.

    What it says is logged, and how it was started is noted. A stop asked for earlier is forgotten.
    A signal to this process (see ``listening``) and a spent budget become a stop of everything in
    the folder.

    Args:
        folder: Made when missing.
        budget: What it may take, in this session and those before.

    Raises:
        InputError: If the budget was spent before.
        RunError: If another driver works on it.
    """
    budget = budget or Budget()
    before, began = elapsed_seconds(folder), time.monotonic()
    if (reason := budget.spent(folder, before)) is not None:
        raise InputError(f"{folder}: {reason}: give more to go on")
    kept = began

    def keep() -> float:
        seconds = before + time.monotonic() - began
        with whole_file(folder / SESSION / ELAPSED) as partial:
            partial.write_text(json.dumps({"seconds": round(seconds, 1)}) + "\n", encoding="utf-8")
        return seconds

    def look() -> None:
        nonlocal kept
        try:
            now = time.monotonic()
            if now - kept >= KEEP_SECONDS:
                keep()
                kept = now
            reason = heard() or budget.spent(folder, before + now - began)
            if reason is not None and stop_reason([folder]) is None:
                request_stop(folder, reason)
        except OSError as error:  # a full disk, for one: the next look may be luckier
            print(f"{folder}: {error.strerror or error}", file=sys.stderr, flush=True)

    with hold(folder / SESSION, wait_seconds=0), logged(folder):
        clear_stop(folder)
        note_command(folder)
        try:
            with every(LOOK_SECONDS, look, "session"):
                yield
        finally:
            keep()
