"""SIGTERM and Ctrl-C as a notice: what trains ends after its step, saved, instead of dying."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from mixnmatch.training.supervision import Unsupervised

__all__ = ["SIGTERM", "OnNotice", "heard", "install_handler", "listening"]

SIGTERM = "SIGTERM"
"""The reason for an end by it."""

_heard: str | None = None


def install_handler() -> None:
    """Take note of SIGTERM from now on, where it ended the process.

    Raises:
        ValueError: In another thread than the main one.
    """
    signal.signal(signal.SIGTERM, _take_note)


@contextmanager
def listening() -> Iterator[None]:
    """Take note of SIGTERM, and of the first SIGINT, in a block; forgotten with its end."""
    global _heard
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def interrupted(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, before[signal.SIGINT])
        print("saving what there is; Ctrl-C again ends at once", file=sys.stderr, flush=True)
        _take_note(number, frame)

    install_handler()
    signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _heard = None


def heard() -> str | None:
    """Name of the signal that this process was sent since the handler is there."""
    return _heard


class OnNotice(Unsupervised):
    """Lets a run go on until this process is sent a signal."""

    def stop(self) -> str | None:
        """The signal, once it has come."""
        return heard()


def _take_note(number: int, _frame: FrameType | None) -> None:
    # No lock: a second signal may come while this runs.
    global _heard
    _heard = signal.Signals(number).name
