"""Asking what trains to end early, saved: a file in a folder, SIGTERM, or a node that leaves."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from mixnmatch.errors import RunError
from mixnmatch.files import whole_file
from mixnmatch.training.signals import SIGTERM, heard, install_handler

__all__ = [
    "EARLY",
    "SIGTERM",
    "PreemptedError",
    "Stopping",
    "clear_stop",
    "install_handler",
    "request_stop",
    "stop_reason",
]

STOP_FILE = "stop"
EARLY = "stopped early"
"""Why a trial is asked to end that lies behind the others."""
LOOK_SECONDS = 1.0
"""Between two looks at the files, and at the other workers."""
PREEMPTION_SECONDS = 5.0
"""Between two questions to Ray, whose own watcher looks as often."""
MOST_STEPS = 10
"""Between two questions to the other workers, where steps are short."""
ANOTHER = "another worker was asked to stop"
LEAVING = "the node is being taken away"
_GO_ON, _MOVE, _STOP = 0, 1, 2


class PreemptedError(RunError):
    """The machine goes away; what was done is saved, and is to be gone on with elsewhere."""


def request_stop(folder: Path, reason: str) -> None:
    """Ask what runs in the folder of a run, or of a sweep, to end with its state saved.

    Args:
        folder: It must be there.
        reason: One line, which the run ends with.
    """
    with whole_file(folder / STOP_FILE) as partial:
        partial.write_text(f"{reason}\n", encoding="utf-8")


def clear_stop(folder: Path) -> None:
    """Forget an earlier ``request_stop``."""
    (folder / STOP_FILE).unlink(missing_ok=True)


def stop_reason(folders: Sequence[Path]) -> str | None:
    """Why what runs in one of these folders was asked to end, None if it was not."""
    for folder in folders:
        with suppress(FileNotFoundError):
            return (folder / STOP_FILE).read_text(encoding="utf-8").strip() or "asked to stop"
    return None


class Stopping:
    """Supervisor of one worker: it hears of SIGTERM, of stop files and of nodes that are leaving.

    ``install_handler`` must have been called in the main thread of the process.

    Args:
        folders: Of the run, and of the sweep that it belongs to.
        agree: Whether the run has several workers, which all call ``stop`` at the same steps. They
            answer alike: those of slow steps ask each other before each, others about once a second
            and every ``MOST_STEPS`` at least.
        leaving: Asks whether the node is being taken away, of all workers at the same step.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        agree: bool = False,
        leaving: Callable[[], bool] | None = None,
    ) -> None:
        self.preempted = False
        """Whether the answer was this machine's end, or another worker's, and not a wish."""
        self._folders = folders
        self._agree = agree
        self._leaving = leaving
        self._looked = self._asked_ray = -float("inf")
        self._asked_others: float | None = None
        self._steps_to_next = 0
        self._steps = 1

    def look_again(self) -> None:
        """Look at the files before the next step, however short the time since the last look."""
        self._looked = -float("inf")

    def stop(self) -> str | None:
        """Why to end: the file's text, the signal, or what the node or another worker was told."""
        if self._steps_to_next > 0:
            self._steps_to_next -= 1
            return None
        own, reason = self._own()
        ask_ray = self._leaving is not None and (
            time.monotonic() - self._asked_ray >= PREEMPTION_SECONDS
        )
        answer = own
        if self._agree:
            answer, ask_ray = self._together(own, ask_ray)
        if answer == _GO_ON and ask_ray and self._leaving is not None:
            self._asked_ray = time.monotonic()
            if self._leaving():
                answer, reason = _MOVE, LEAVING
        self.preempted = answer == _MOVE
        return None if answer == _GO_ON else reason or ANOTHER

    def _own(self) -> tuple[int, str | None]:
        signalled = heard()
        if signalled or time.monotonic() - self._looked >= LOOK_SECONDS:
            self._looked = time.monotonic()
            if (reason := stop_reason(self._folders)) is not None:
                return _STOP, reason
        if signalled == SIGTERM:  # the machine's, not the user's
            return _MOVE, SIGTERM
        return (_STOP, signalled) if signalled else (_GO_ON, None)

    def _together(self, own: int, ask_ray: bool) -> tuple[int, bool]:
        """The strongest answer of any worker, and whether one of them asks Ray.

        The steps to the next time are agreed upon as well: the fewest that any of them finds right.
        """
        import torch
        from torch import distributed

        now = time.monotonic()
        seconds = None if self._asked_others is None else (now - self._asked_others) / self._steps
        self._asked_others = now
        steps = 1 if not seconds else min(MOST_STEPS, max(1, int(LOOK_SECONDS / seconds)))
        device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        # The greatest of all: so the steps, of which the fewest count, are negative.
        said = torch.tensor([own, int(ask_ray), -steps], device=device)
        distributed.all_reduce(said, distributed.ReduceOp.MAX)
        answer, asks, fewest = said.tolist()
        self._steps = -fewest
        self._steps_to_next = self._steps - 1
        return answer, bool(asks)
