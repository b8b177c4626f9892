"""A recorder whose records wait in the run's outbox, from where a thread sends them to MLflow."""

import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from mixnmatch.errors import RunError
from mixnmatch.files import whole_file
from mixnmatch.recorder import Recorder, check_series
from mixnmatch_platform.delivery import Delivery
from mixnmatch_platform.outbox import Outbox, OutboxWriter, Status

__all__ = ["OutboxRecorder"]

PACE_SECONDS = 0.5
"""Time between two calls of the store, in which records gather."""
CLOSE_SECONDS = 30.0
"""How long ``close`` waits for a store that is away, or says nothing."""
CLOSING_WAIT_SECONDS = 2.0


class OutboxRecorder(Recorder):
    """Records to a file at once, and to MLflow as soon as the store takes it.

    What the outbox has of an earlier process, step by step of each metric, is not recorded again.
    The run's folder must be held by this process.

    Args:
        out: Folder of the run.
        uri: Tracking URI.
        run_id: The MLflow run.
    """

    def __init__(self, out: Path, uri: str, run_id: str) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self._out = out
        self._writer = OutboxWriter(out)
        self._outbox = Outbox(out)
        self._delivery = Delivery(self._outbox, uri, run_id)
        self._news = threading.Event()
        self._closing = threading.Event()
        self._over = threading.Event()
        self._last_success = time.monotonic()
        self._thread = threading.Thread(target=self._send, name="mlflow-outbox", daemon=True)
        self._thread.start()

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Record figures."""
        self._writer.metrics(values, step)
        self._news.set()

    def next_step(self, name: str) -> int:
        """The step after the last one that an earlier process has recorded of a metric."""
        return self._writer.last_step(name) + 1

    def picture(self, name: str, image: Image.Image, step: int) -> None:
        """Record a picture: the one that ``FolderRecorder`` has written, else written here."""
        check_series(name)
        if step <= self._writer.last_step(f"picture:{name}"):
            return
        file = Path("samples") / f"{name}-{step:07d}.png"
        if not (self._out / file).is_file():
            with whole_file(self._out / file) as partial:
                image.save(partial, format="PNG")
        self._append(picture=name, step=step, file=str(file))

    def artifact(self, path: Path, folder: str = "") -> None:
        """Record a file or folder; what is in its place when it is sent is what MLflow gets."""
        if not path.exists():
            raise RunError(f"{path} cannot be recorded: it does not exist")
        where, out = path.resolve(), self._out.resolve()
        inside = where.is_relative_to(out)
        self._append(artifact=str(where.relative_to(out) if inside else where), folder=folder)

    def tags(self, tags: Mapping[str, str]) -> None:
        """Record tags."""
        self._append(tags=dict(tags))

    def status(self, status: Status) -> None:
        """Record that the run is in progress or has ended."""
        self._append(status=status)

    def close(self) -> None:
        """Deliver what waits, for half a minute after the store has last taken something.

        What it does not take stays in the outbox, and one line on stderr says so.
        """
        if self._closing.is_set():
            return
        self._last_success = time.monotonic()
        self._closing.set()
        self._news.set()
        while self._thread.is_alive() and (
            self._delivery.uploading or time.monotonic() - self._last_success < CLOSE_SECONDS
        ):
            self._thread.join(0.1)
        self._over.set()
        self._writer.close()
        self._tell()

    def _append(self, **content: object) -> None:
        self._writer.append(**content)
        self._news.set()

    def _send(self) -> None:
        while not self._over.is_set():
            self._news.clear()
            closing = self._closing.is_set()  # before the look: nothing is recorded after it
            try:
                sent = self._delivery.send_next()
            except Exception:  # the delivery has said it; training goes on
                self._rest(self._delivery.wait_seconds)
                continue
            self._last_success = time.monotonic()
            if sent:
                self._rest(0 if closing else PACE_SECONDS)
            elif closing:
                return
            else:
                self._news.wait()

    def _rest(self, seconds: float) -> None:
        if self._closing.is_set():
            self._over.wait(min(seconds, CLOSING_WAIT_SECONDS))
        else:
            self._closing.wait(seconds)

    def _tell(self) -> None:
        delivery = self._delivery
        if delivery.left_out:
            what = ", ".join(f"{count} {kind}" for kind, count in delivery.left_out.items())
            print(
                f"MLflow at {delivery.uri} has refused {what} of run {delivery.run_id}: the run's "
                f"folder {self._out} has all of them, the figures in metrics.jsonl",
                file=sys.stderr,
                flush=True,
            )
        if waiting := self._outbox.waiting():
            print(
                f"MLflow at {delivery.uri} stays away: {waiting} record(s) wait in {self._out}; "
                f"`platform sync {self._out}` delivers them",
                file=sys.stderr,
                flush=True,
            )
