"""Delivery of an outbox to MLflow: in order, and once whatever fails in between."""

import math
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, UnidentifiedImageError

from mixnmatch.errors import RunError
from mixnmatch_platform.outbox import Outbox
from mixnmatch_platform.store import cut_tags, new_client, one_line, probe

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

__all__ = ["BATCH_METRICS", "Delivery", "deliver"]

BATCH_METRICS = 1000  # the most that MLflow takes at once
FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 30.0
THUMBNAIL_SIDE = 256
PICTURES = uuid.UUID("6d9c2b1e-5f0a-4c1b-9d0e-3a7f8e4b2c11")


class Delivery:
    """Sends one outbox's records, a batch a call.

    What the store has already is not told twice: metrics of equal name, time, step and value are
    one to MLflow, pictures and artifacts have the same names again.

    Args:
        outbox: Where the records wait.
        uri: Tracking URI.
        run_id: The MLflow run.
    """

    def __init__(self, outbox: Outbox, uri: str, run_id: str) -> None:
        self.outbox, self.uri, self.run_id = outbox, uri, run_id
        self.left_out: Counter[str] = Counter()
        """What was refused for good, by kind."""
        self.uploading = False
        """Whether files are on their way now, which may take its time."""
        self._failures = 0
        self._connected: MlflowClient | None = None
        self._said: set[str] = set()

    def send_next(self) -> int:
        """Send what waits first: records of up to 1,000 metrics, or one of another kind.

        Returns:
            Number of records; 0 if none waits.

        Raises:
            Exception: Whatever the store gives. Nothing is lost then, and the next call sends the
                same again.
        """
        try:
            # First: so no machine that stops has lost what MLflow has, and writes it again.
            self.outbox.sync()
            if self._failures:
                probe(self.uri)  # a dead machine costs seconds here, a minute in the client
            with self.outbox.delivering():
                records, end = self._take()
                if records:
                    self._send(records)
                    self.outbox.advance(end)
        except Exception as error:
            self._failures += 1
            self._say("failing", f"fails: records wait in {self.outbox.out} ({one_line(error)})")
            raise
        self._failures = 0
        if "failing" in self._said and not records:
            self._said.discard("failing")
            self._say("back", "answers again: all that waited is delivered")
            self._said.discard("back")
        return len(records)

    @property
    def wait_seconds(self) -> float:
        """How long to leave a store alone after so many failures in a row."""
        doubled = FIRST_WAIT_SECONDS * 2.0 ** min(self._failures - 1, 10)
        return min(LONGEST_WAIT_SECONDS, doubled)

    def _take(self) -> tuple[list[dict[str, Any]], int]:
        taken: list[dict[str, Any]] = []
        end = count = 0
        for record, after in self.outbox.records(self.outbox.delivered()):
            size = len(record.get("metrics", ()))
            alone = not (size and taken and "metrics" in taken[0])
            if taken and (alone or count + size > BATCH_METRICS):
                break
            taken.append(record)
            end, count = after, count + size
        return taken, end

    @property
    def _client(self) -> "MlflowClient":
        if self._connected is None:
            self._connected = new_client(self.uri)
        return self._connected

    def _send(self, records: Sequence[Mapping[str, Any]]) -> None:
        client = self._client
        match records[0]:
            case {"metrics": _}:
                points = _points(records)
                for first in range(0, len(points), BATCH_METRICS):
                    self._send_metrics(points[first : first + BATCH_METRICS])
            case {"picture": name, "step": step, "time": time_ms, "file": file}:
                self._upload("picture(s)", self._send_picture, name, step, time_ms, file)
            case {"artifact": path, "folder": folder}:
                self._upload("artifact(s)", self._send_artifact, path, folder)
            case {"tags": tags}:
                pairs = {"tags": cut_tags(tags), "synchronous": True}
                self._unless_refused("tag(s)", client.log_batch, self.run_id, **pairs)
            case {"status": "RUNNING"}:
                self._unless_refused("status", client.update_run, self.run_id, "RUNNING")
            case {"status": status, "time": time_ms}:
                self._unless_refused("status", client.set_terminated, self.run_id, status, time_ms)
            case record:
                self._leave_out("damaged record(s)", f"{dict(record)}")

    def _send_metrics(self, points: "list[Metric]") -> None:
        try:
            self._client.log_batch(self.run_id, metrics=points, synchronous=True)
        except Exception as error:
            self._check_refused(error)
            if len(points) == 1:
                name, value = points[0].key, points[0].value
                self._leave_out("figure(s)", f"{name!r} = {value}: {one_line(error)}")
                return
            # What is refused is found by halves, beginning with the usual suspects.
            finite = [point for point in points if math.isfinite(point.value)]
            if 0 < len(finite) < len(points):
                halves = [finite, [point for point in points if not math.isfinite(point.value)]]
            else:
                halves = [points[: len(points) // 2], points[len(points) // 2 :]]
            for half in halves:
                self._send_metrics(half)

    def _send_picture(self, name: str, step: int, time_ms: int, file: str) -> None:
        # As ``MlflowClient.log_image`` does, but under a name that is the same the next time.
        unique = uuid.uuid5(PICTURES, f"{self.run_id} {name} {step} {time_ms}")
        stem = f"{name}+step+{step}+timestamp+{time_ms}+{unique}"
        with tempfile.TemporaryDirectory() as folder, Image.open(self.outbox.out / file) as image:
            image.save(Path(folder) / f"{stem}.png")
            image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
            image.save(Path(folder) / f"{stem}+compressed.webp")
            self._client.log_artifacts(self.run_id, folder, "images")
        self._client.set_tag(self.run_id, "mlflow.loggedImages", "True", synchronous=True)

    def _send_artifact(self, path: str, folder: str) -> None:
        file = self.outbox.out / path
        if file.is_dir():
            whole = f"{folder}/{file.name}".lstrip("/")
            self._client.log_artifacts(self.run_id, str(file), whole)
        else:
            self._client.log_artifact(self.run_id, str(file), folder or None)

    def _upload(self, kind: str, send: Callable[..., None], *arguments: Any) -> None:
        self.uploading = True
        try:
            try:
                self._unless_refused(kind, send, *arguments)
            except FileNotFoundError:
                # A newer one may just have taken its place.
                self._unless_refused(kind, send, *arguments)
        except (FileNotFoundError, UnidentifiedImageError) as error:
            self._leave_out(kind, one_line(error))
        finally:
            self.uploading = False

    def _unless_refused(
        self, kind: str, send: Callable[..., Any], *arguments: Any, **named: Any
    ) -> None:
        try:
            send(*arguments, **named)
        except Exception as error:
            self._check_refused(error)
            self._leave_out(kind, one_line(error))

    def _check_refused(self, error: Exception) -> None:
        """Return where the store refuses this record for good; raise what is worth another try."""
        from mlflow.exceptions import MlflowException

        if not isinstance(error, MlflowException) or error.error_code != "INVALID_PARAMETER_VALUE":
            raise error
        # A deleted run refuses everything, until it is restored.
        if self._client.get_run(self.run_id).info.lifecycle_stage == "deleted":
            raise RunError(
                f"MLflow run {self.run_id} was deleted: restore it (mlflow runs restore --run-id "
                f"{self.run_id}), or delete {self.outbox.out}"
            ) from error

    def _leave_out(self, kind: str, why: str) -> None:
        # What is refused for good would hold up all that comes after it.
        self._say(f"refused {kind}", f"refuses {kind}: left out ({why})")
        self.left_out[kind] += 1

    def _say(self, topic: str, text: str) -> None:
        if topic not in self._said:
            self._said.add(topic)
            print(f"MLflow at {self.uri} {text}", file=sys.stderr, flush=True)


def deliver(delivery: Delivery, seconds: float = 0.0) -> str | None:
    """Deliver all that waits.

    Args:
        delivery: From where, to where.
        seconds: How long to try again, from the last success on, where the store fails.

    Returns:
        Why something still waits; None if nothing does.
    """
    last_success = time.monotonic()
    while True:
        try:
            if not delivery.send_next():
                return None
            last_success = time.monotonic()
        except Exception as error:  # stores raise errors of their own libraries
            if time.monotonic() - last_success >= seconds:
                return one_line(error)
            time.sleep(min(delivery.wait_seconds, max(0.1, seconds / 4)))


def _points(records: Sequence[Mapping[str, Any]]) -> "list[Metric]":
    from mlflow.entities import Metric

    return [
        Metric(name, float(value), record["time"], record["step"])
        for record in records
        for name, value in record["metrics"].items()
    ]
