"""A recorder that fills one MLflow run, and outlives a store that fails for a while."""

import math
import sys
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from PIL import Image

from mixnmatch.errors import RunError
from mixnmatch.recorder import Recorder, check_series
from mixnmatch_platform.store import new_client, one_line, probe

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["MLflowRecorder"]

WAITING_PICTURES = 32  # a grid of pictures takes megabytes of memory
CATCH_UP_SECONDS = 5.0
WAIT_FACTOR = 20.0


@dataclass(frozen=True, slots=True, eq=False)
class _Metrics:
    kind: ClassVar[str] = "metric batch(es)"
    batch: list[Any]

    def send(self, client: "MlflowClient", run_id: str) -> None:
        client.log_batch(run_id, metrics=self.batch, synchronous=True)

    def finite(self) -> "_Metrics | None":
        """The batch without its values that are not finite; None if it has none of them."""
        kept = [metric for metric in self.batch if math.isfinite(metric.value)]
        return None if len(kept) == len(self.batch) else _Metrics(kept)


@dataclass(frozen=True, slots=True, eq=False)
class _Picture:
    kind: ClassVar[str] = "picture(s)"
    name: str
    image: Image.Image
    step: int
    time_ms: int

    def send(self, client: "MlflowClient", run_id: str) -> None:
        where = {"key": self.name, "step": self.step, "timestamp": self.time_ms}
        client.log_image(run_id, self.image, synchronous=True, **where)


@dataclass(frozen=True, slots=True, eq=False)
class _Artifact:
    kind: ClassVar[str] = "artifact(s)"
    path: Path
    folder: str

    def send(self, client: "MlflowClient", run_id: str) -> None:
        if self.path.is_dir():
            folder = f"{self.folder}/{self.path.name}".lstrip("/")
            client.log_artifacts(run_id, str(self.path), folder)
        else:
            client.log_artifact(run_id, str(self.path), self.folder or None)


_Item = _Metrics | _Picture | _Artifact


class MLflowRecorder(Recorder):
    """Writes to one MLflow run, each call synchronous.

    While the store fails, what it did not take waits in memory, in order, and goes out with a later
    call and its first time stamp. An attempt that fails puts the next one off by 20 times what it
    cost, so that an outage slows training by a twentieth at most.

    Args:
        uri: Tracking URI.
        run_id: The run.
    """

    def __init__(self, uri: str, run_id: str) -> None:
        self._uri, self._run_id = uri, run_id
        self._client = new_client(uri)
        self._waiting: deque[_Item] = deque()
        self._lost: Counter[str] = Counter()
        self._said: set[str] = set()
        self._failing = False
        self._retry_at = -math.inf

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Log figures as one batch."""
        from mlflow.entities import Metric

        now = _now_ms()
        self._deliver(_Metrics([Metric(name, float(v), now, step) for name, v in values.items()]))

    def picture(self, name: str, image: Image.Image, step: int) -> None:
        """Log a picture where MLflow's image grid shows it by step."""
        check_series(name)
        pictures = [item for item in self._waiting if isinstance(item, _Picture)]
        if len(pictures) >= WAITING_PICTURES:
            self._waiting.remove(pictures[0])
            self._lost[_Picture.kind] += 1
        self._deliver(_Picture(name, image, step, _now_ms()))

    def artifact(self, path: Path, folder: str = "") -> None:
        """Log a file or folder; it must stay in place until ``close``."""
        if not path.exists():
            raise RunError(f"{path} cannot be recorded: it does not exist")
        self._deliver(_Artifact(path, folder))

    def close(self) -> None:
        """Deliver what still waits.

        Raises:
            RunError: If something could not be delivered.
        """
        self._flush(math.inf)
        missing = self._lost + Counter(item.kind for item in self._waiting)
        if missing:
            what = ", ".join(f"{count} {kind}" for kind, count in missing.items())
            raise RunError(
                f"{what} of MLflow run {self._run_id} could not be delivered to {self._uri}: the "
                "run's folder has all of them, the figures in metrics.jsonl"
            )

    def _deliver(self, item: _Item) -> None:
        self._waiting.append(item)
        if time.monotonic() >= self._retry_at:
            self._flush(CATCH_UP_SECONDS)

    def _flush(self, seconds: float) -> None:
        began = time.monotonic()
        try:
            if self._failing:
                probe(self._uri)  # a dead machine costs seconds here, a minute in the client
            while self._waiting and time.monotonic() - began <= seconds:
                self._send(self._waiting[0])
                self._waiting.popleft()
        except Exception as error:  # whatever a store does, training goes on
            now = time.monotonic()
            self._retry_at = now + WAIT_FACTOR * (now - began)
            self._failing = True
            self._say("failing", f"fails: training goes on, records wait ({one_line(error)})")
        else:
            if self._failing and not self._waiting:
                self._failing = False
                self._say("back", "answers again: all that waited is delivered")
                self._said -= {"failing", "back"}

    def _send(self, item: _Item) -> None:
        from mlflow.exceptions import MlflowException

        try:
            item.send(self._client, self._run_id)
        except FileNotFoundError as error:
            self._leave_out(item, error)
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            self._leave_out(item, error)

    def _leave_out(self, item: _Item, error: Exception) -> None:
        # What is refused for good would hold up all that comes after it.
        finite = item.finite() if isinstance(item, _Metrics) else None
        if finite is not None:
            self._say(
                "refused", f"refuses figures that are not finite: left out ({one_line(error)})"
            )
            self._send(finite)
        else:
            self._say("refused", f"refuses {item.kind}: left out ({one_line(error)})")
            self._lost[item.kind] += 1

    def _say(self, topic: str, text: str) -> None:
        if topic not in self._said:
            self._said.add(topic)
            print(f"MLflow at {self._uri} {text}", file=sys.stderr, flush=True)


def _now_ms() -> int:
    return int(time.time() * 1000)
