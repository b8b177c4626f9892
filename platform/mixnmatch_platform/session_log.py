"""What a driver says, kept beside its run: the text of ``platform logs``, and how to go on."""

import io
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mixnmatch.errors import InputError, MixNMatchError
from mixnmatch.files import whole_file

__all__ = ["LOG", "logged", "note_command", "noted_command"]

LOG = "log.txt"
COMMAND = "command.json"
"""In the folder of a run or sweep: the arguments that its last session began with, and where."""


def note_command(folder: Path) -> None:
    """Keep how this process was started, for ``platform resume``."""
    command = {"arguments": sys.orig_argv, "folder": str(Path.cwd())}
    with whole_file(folder / COMMAND) as partial:
        partial.write_text(json.dumps(command, indent=2) + "\n", encoding="utf-8")


def noted_command(folder: Path) -> tuple[list[str], Path]:
    """Arguments of the process that last worked on a run or sweep, and its working folder.

    Raises:
        InputError: If they were not noted, or the working folder is gone.
    """
    file = folder / COMMAND
    if not file.is_file():
        raise InputError(f"{folder} does not say how it was started: run its command again")
    command = json.loads(file.read_text(encoding="utf-8"))
    where = Path(command["folder"])
    if not where.is_dir():
        raise InputError(
            f"{folder} was started in {where}, which is gone: run its command again "
            "(a submitted job is submitted again)"
        )
    return command["arguments"], where


@contextmanager
def logged(folder: Path) -> Iterator[None]:
    """Write what goes to stderr into the folder's log as well, each line with its time (UTC)."""
    before = sys.stderr
    with (folder / LOG).open("a", encoding="utf-8", buffering=1) as file:
        tee = _Tee(before, file)
        sys.stderr = tee
        try:
            yield
        except MixNMatchError as error:
            tee.note(f"ended: {error}")
            raise
        except BaseException as error:
            tee.note(f"ended: {type(error).__name__}: {error}")
            raise
        finally:
            sys.stderr = before


class _Tee(io.TextIOBase):
    """A stream, and a file that gets its whole lines; of a progress bar the last state.

    Args:
        stream: What people see.
        file: The log.
    """

    def __init__(self, stream: Any, file: io.TextIOBase) -> None:
        self._stream, self._file, self._line = stream, file, ""

    def write(self, text: str) -> int:
        """To both; a log that cannot be written keeps nothing from going on."""
        self._stream.write(text)
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self.note(line)
        self._line = self._line.rpartition("\r")[2]
        return len(text)

    def note(self, line: str) -> None:
        """One line to the log alone."""
        if line := line.rstrip("\r").rpartition("\r")[2].strip():
            with suppress(OSError, ValueError):  # a full disk, or a thread that outlives the block
                self._file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())} {line}\n")

    def flush(self) -> None:
        """Of the stream."""
        self._stream.flush()

    def isatty(self) -> bool:
        """Of the stream."""
        return bool(self._stream.isatty())

    def fileno(self) -> int:
        """Of the stream."""
        return int(self._stream.fileno())

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Of the stream."""
        return self._stream.encoding or "utf-8"
