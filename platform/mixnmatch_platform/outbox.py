"""What a run has to tell MLflow, in a file of its folder that is only ever appended to.

``mlflow-outbox.jsonl`` has one object a line: its ``time`` (Unix milliseconds), and one of

* ``metrics`` (values by name; one that is not finite is the text ``nan``, ``inf`` or ``-inf``)
  with their ``step``,
* ``picture`` (the name of its series) with ``step`` and ``file``,
* ``artifact`` (a file or folder) with the ``folder`` that it goes to among the run's artifacts,
* ``tags`` (text by name), or
* ``status`` (RUNNING, FINISHED, FAILED or KILLED).

Files that lie in the run's folder are named relative to it. ``mlflow-delivered`` says how many
bytes of the outbox MLflow has.
"""

import fcntl
import json
import math
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from mixnmatch.files import whole_file

__all__ = ["DELIVERED", "OUTBOX", "RUN_ID_FILE", "Outbox", "OutboxWriter", "Status"]

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]

OUTBOX = "mlflow-outbox.jsonl"
DELIVERED = "mlflow-delivered"
RUN_ID_FILE = "mlflow-run-id"
"""File of a run's folder with the id of its MLflow run."""
LOCK = ".mlflow-delivery.lock"


class Outbox:
    """The outbox of one run, as whoever delivers it sees it.

    Args:
        out: Folder of the run.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self._file = out / OUTBOX

    @property
    def run_id(self) -> str | None:
        """The MLflow run that it is for, None where there is none yet."""
        with suppress(FileNotFoundError):
            return (self.out / RUN_ID_FILE).read_text(encoding="utf-8").strip()
        return None

    def delivered(self) -> int:
        """Bytes that MLflow has; less than that at worst, as it takes nothing twice."""
        try:
            offset = int((self.out / DELIVERED).read_text(encoding="ascii"))
            return min(offset, self._file.stat().st_size)
        except (FileNotFoundError, ValueError):  # a machine that stopped may leave it empty
            return 0

    def advance(self, offset: int) -> None:
        """Set ``delivered``."""
        with whole_file(self.out / DELIVERED) as partial:
            partial.write_text(f"{offset}\n", encoding="ascii")

    def records(self, offset: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
        """The records from an offset on, each with the offset of its end.

        A line that cannot be read, which a machine that lost its power may leave, is a record of
        ``damaged``. One without an end is still being written, and left out.
        """
        if not self._file.is_file():
            return
        with self._file.open("rb") as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                offset += len(line)
                try:
                    record = json.loads(line)
                except ValueError:
                    record = {"damaged": line[:80].decode(errors="replace")}
                yield record, offset

    def waiting(self) -> int:
        """Number of records that MLflow does not have."""
        return sum(1 for _ in self.records(self.delivered()))

    def last_status(self) -> Status | None:
        """The newest status in it, delivered or not."""
        status = None
        for record, _ in self.records():
            status = record.get("status", status)
        return status

    def written_at(self) -> float:
        """When a record was last added (Unix seconds); 0 if there is none."""
        return self._file.stat().st_mtime if self._file.is_file() else 0.0

    def sync(self) -> None:
        """Have the disk keep what is in it, so that no machine that stops can lose it."""
        if self._file.is_file():
            with self._file.open("rb") as file:
                os.fsync(file.fileno())

    @contextmanager
    def delivering(self) -> Iterator[None]:
        """Keep other processes from delivering from it meanwhile; waits for one that does."""
        with (self.out / LOCK).open("a") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)
            yield


class OutboxWriter:
    """Appends to the outbox of a run that this process holds; any thread may.

    Half a record that a killed process has left is cut off.

    Args:
        out: Folder of the run.
    """

    def __init__(self, out: Path) -> None:
        self._steps: dict[str, int] = {}
        end = 0
        for record, end in Outbox(out).records():  # noqa: B007  the last end is used
            for name in _series(record):
                self._steps[name] = max(self._steps.get(name, 0), record["step"])
        # Unbuffered: what is written is the system's, and outlives this process.
        self._file = (out / OUTBOX).open("ab", buffering=0)
        self._file.truncate(end)
        self._lock = threading.Lock()

    def last_step(self, name: str) -> int:
        """The last step of a metric, or of ``picture:SERIES``, in it when it was opened; or -1."""
        return self._steps.get(name, -1)

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Add those figures whose step it had not yet when it was opened."""
        new = {n: _number(value) for n, value in values.items() if step > self.last_step(n)}
        if new:
            self.append(metrics=new, step=step)

    def append(self, **content: Any) -> None:
        """Add one record, whole or not at all.

        Raises:
            OSError: If the disk is full.
        """
        line = json.dumps({"time": int(time.time() * 1000), **content}).encode() + b"\n"
        with self._lock:
            begin = os.fstat(self._file.fileno()).st_size
            try:
                rest = memoryview(line)
                while rest:  # a full disk takes a part first
                    rest = rest[self._file.write(rest) :]
            except OSError:
                self._file.truncate(begin)
                raise

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def _series(record: Mapping[str, Any]) -> list[str]:
    if "picture" in record:
        return [f"picture:{record['picture']}"]
    return list(record.get("metrics", ()))


def _number(value: float) -> float | str:
    number = float(value)
    return number if math.isfinite(number) else str(number)
