"""States of a run in an object store, or behind any other URL."""

import io
import uuid
from contextlib import suppress

import torch

from mixnmatch.data.places import Place
from mixnmatch.errors import MixNMatchError
from mixnmatch.training.checkpoints import BEST_NAME, KeptStates, State, read_state

__all__ = ["StoredCheckpoints"]


class StoredCheckpoints(KeptStates):
    """The states as objects below a URL.

    An object is written under a temporary key and moved to its own: a writer that dies leaves none
    that looks whole. It can be sent to other processes, with the credentials of this one.

    Args:
        place: Where; nothing else may be there.
        keep: Number of the last states that are kept.
    """

    def __init__(self, place: Place, keep: int = 2) -> None:
        super().__init__(keep)
        self.place = place

    def names(self) -> list[str]:
        """Names of the objects there."""
        return list(self.place.files()) if self.place.is_folder() else []

    def read(self, name: str) -> State:
        """The state in an object."""
        return read_state(io.BytesIO(self.place.read(name)), self.place.full(name))

    def write(self, name: str, state: State) -> None:
        """Write a state."""
        content = io.BytesIO()
        torch.save(state, content)
        self._write(name, content.getvalue())

    def remove(self, name: str) -> None:
        """Remove an object."""
        self.place.remove(name)

    def read_note(self) -> str | None:
        """The text of ``best.json``."""
        return self.place.read(BEST_NAME).decode() if BEST_NAME in self.names() else None

    def write_note(self, text: str) -> None:
        """Write ``best.json``."""
        self._write(BEST_NAME, text.encode())

    def _write(self, name: str, content: bytes) -> None:
        partial = f".{uuid.uuid4().hex[:8]}-{name}"  # hidden: ``Place.files`` leaves it out
        try:
            self.place.write(partial, content)
            self.place.move(partial, name)
        except BaseException:
            with suppress(MixNMatchError, OSError):  # the first error is the one to tell
                self.place.remove(partial)
            raise
