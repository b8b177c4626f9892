"""How the service ends: what signals do, and what becomes of requests and replicas."""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from mixnmatch.errors import RunError, Stopped
from mixnmatch_platform.store import one_line

__all__ = ["ask", "end_replicas", "end_requests", "end_serve", "told_to_end"]

ANSWER_SECONDS = 60.0
GRACE_SECONDS = 5.0
"""Beyond a request's time, until its answer is no longer waited for."""
DELETE_SECONDS = 1.0
"""For Serve to stop replicas; of one that ends before, it would say that it has failed."""
POLL_SECONDS = 0.2


@contextmanager
def told_to_end() -> Iterator[tuple[threading.Event, threading.Event]]:
    """What SIGTERM and the first Ctrl-C do during a block.

    Yields:
        An event that the caller sets when the service is up, and one that they set from then on.
        Before, they interrupt the block.

    Raises:
        Stopped: If SIGTERM has interrupted it.
    """
    up, over = threading.Event(), threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    interrupted_by = 0

    def told(number: int, _frame: FrameType | None) -> None:
        nonlocal interrupted_by
        signal.signal(signal.SIGTERM, lambda *_: None)  # it is being seen to
        signal.signal(signal.SIGINT, before[signal.SIGINT])
        if not up.is_set():
            interrupted_by = number
            raise KeyboardInterrupt  # of all exceptions the one that Ray heeds where it waits
        if number == signal.SIGINT:
            line = "answering what has begun; Ctrl-C again ends at once"
            print(line, file=sys.stderr, flush=True)
        over.set()

    for number in before:
        signal.signal(number, told)
    try:
        yield up, over
    except KeyboardInterrupt:
        if interrupted_by == signal.SIGTERM:
            raise Stopped("stopped before the service was up") from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_requests(board: Any, seconds: float) -> None:
    """Let no more requests in, and wait until those that have begun are answered.

    Args:
        board: Handle of the actor ``Board``.
        seconds: For a request.

    Raises:
        RunError: If the cluster is gone.
    """
    ask(board.end.remote())
    deadline = time.monotonic() + seconds + GRACE_SECONDS
    while not ask(board.is_idle.remote()) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def end_replicas(application: str) -> None:
    """End all at once: Serve would leave each its time, those that wait for room as well."""
    import ray
    from ray import serve

    deadline = time.monotonic() + ANSWER_SECONDS
    while application in serve.status().applications and time.monotonic() < deadline:
        serve.delete(application, _blocking=False)
        time.sleep(DELETE_SECONDS)
        for actor in ray.util.list_named_actors(all_namespaces=True):
            if actor["name"].startswith(f"SERVE_REPLICA::{application}#"):
                with suppress(ValueError):  # it is gone
                    ray.kill(ray.get_actor(**actor))


def end_serve() -> None:
    """End Ray Serve as ``serve.shutdown``, whose call is never answered: Ray complains of that."""
    import ray
    from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE

    deadline = time.monotonic() + ANSWER_SECONDS
    with suppress(ValueError):  # it is gone
        controller = ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
        ask(controller.graceful_shutdown.remote(wait=False))
        while time.monotonic() < deadline:
            ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
            time.sleep(POLL_SECONDS)


def ask(answer: Any) -> Any:
    """What an actor answers.

    Raises:
        RunError: If the cluster is gone.
    """
    import ray
    from ray.exceptions import RayError

    try:
        return ray.get(answer, timeout=ANSWER_SECONDS)
    except RayError as error:
        raise RunError(f"the cluster that serves is gone ({one_line(error)})") from error
