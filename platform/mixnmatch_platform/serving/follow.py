"""Following an alias: a new version is tried before any replica hears of it."""

import sys
import time
from collections.abc import Callable

from mixnmatch.errors import MixNMatchError
from mixnmatch_platform.serving.models import Served, resolve
from mixnmatch_platform.store import one_line

__all__ = ["AGAIN_SECONDS", "Follower"]

AGAIN_SECONDS = 60.0
"""Until a version that could not be loaded is tried again."""


class Follower:
    """Sees to it that what is wanted is what an alias stands for, if that can be loaded.

    Args:
        model: ``models:/NAME@ALIAS``.
        store: Tracking URI.
        current: What it stands for now.
        want: Told of another version.
    """

    def __init__(
        self, model: str, store: str, current: Served, want: Callable[[Served], None]
    ) -> None:
        self._model = model
        self._store = store
        self._current = current
        self._want = want
        self._refused: Served | None = None
        self._again = 0.0
        self._said = ""

    def look(self) -> None:
        """Look once; what is wrong is said in a line, and the version stays."""
        try:
            found = resolve(self._model, self._store)
            if found == self._current:
                self._refused, self._said = None, ""
                return
            if found == self._refused and time.monotonic() < self._again:
                return
            self._refused, self._again = found, time.monotonic() + AGAIN_SECONDS
            found.load("cpu", 1)
            self._want(found)
        except (MixNMatchError, OSError, RuntimeError, MemoryError) as error:  # of PyTorch, too
            self._say(f"{self._model} is not followed: {one_line(error)}; {self._current} stays")
            return
        self._say(f"{self._model} is {found} now, it was {self._current}")
        self._current, self._refused = found, None

    def _say(self, line: str) -> None:
        if line != self._said:
            print(line, file=sys.stderr, flush=True)
        self._said = line
