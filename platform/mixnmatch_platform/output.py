"""Standard output is for results: what Ray says beside them goes to standard error."""

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any, TextIO

__all__ = ["results_alone"]


@contextlib.contextmanager
def results_alone() -> Iterator[None]:
    """Leaves standard output to the calling thread; other threads write to standard error.

    Ray shows what its workers and nodes print from a thread of the driver, at any time: in the
    middle of a command's JSON, for one.
    """
    with contextlib.redirect_stdout(_ByThread(sys.stdout)):
        yield


class _ByThread:
    """A text stream that sends what other threads write to standard error."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._owner = threading.get_ident()

    def __getattr__(self, name: str) -> Any:
        """Everything of the stream that belongs to this thread."""
        return getattr(self._stream if threading.get_ident() == self._owner else sys.stderr, name)
