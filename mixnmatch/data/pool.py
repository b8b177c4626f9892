"""Shards made by this process, or by several."""

import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from types import FrameType

from mixnmatch.data.places import Place
from mixnmatch.data.plan import Plan, make_shard
from mixnmatch.errors import RunError

_LISTENING_SECONDS = 0.2
"""Between looks for an interrupt."""


def quietly(plan: Plan, out: Place, shard: int) -> int:
    """``make_shard`` without Pillow's warnings: what matters of damage is in our own errors."""
    log = logging.getLogger("PIL")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            return make_shard(plan, out, shard)
    finally:
        log.setLevel(level)


def make_in_pool(plan: Plan, out: Place, shards: Sequence[int], *, workers: int) -> Iterator[int]:
    """Make shards.

    Args:
        plan: What to read.
        out: Where the shards are written.
        shards: Numbers of those to make.
        workers: Processes; with one it is this one.

    Yields:
        The number of pictures of each shard that is done.

    Raises:
        DataError: If the plan is strict and a picture cannot be used.
        RunError: If a worker is killed.
    """
    if workers == 1 or len(shards) < 2:
        for shard in shards:
            yield quietly(plan, out, shard)
        return
    with (
        _noted_interrupts() as raise_noted,
        ProcessPoolExecutor(
            min(workers, len(shards)), get_context("spawn"), _begin_worker, (plan, out)
        ) as pool,
    ):
        futures: set[Future[int]] = set()
        try:
            with _without_interrupts():
                futures.update(pool.submit(_in_worker, shard) for shard in shards)
            while futures:
                raise_noted()
                done, futures = wait(futures, _LISTENING_SECONDS, FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        except BrokenProcessPool as error:
            raise RunError(
                "a worker process was killed, perhaps for want of memory: run the same command "
                "again, with fewer --workers, to go on"
            ) from error
        finally:
            for future in futures:
                future.cancel()


@contextmanager
def _noted_interrupts() -> Iterator[Callable[[], None]]:
    """Raise the first interrupt of a block only where this is asked to.

    One that lands while the pool holds a lock of its own would leave it held, and hang the end.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield lambda: None  # no interrupt is raised here
        return
    noted = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal noted
        if noted:
            before(number, frame)
        noted = True

    def raise_noted() -> None:
        if noted:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, note)
    try:
        yield raise_noted
    finally:
        signal.signal(signal.SIGINT, before)
    raise_noted()


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """For the start of processes, so that none ends on an interrupt before it can ignore it."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # processes inherit it
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_held: list[tuple[Plan, Place]] = []  # of a worker process


def _begin_worker(plan: Plan, out: Place) -> None:
    _held.append((plan, out))
    follow_parent()


def follow_parent() -> None:
    """Let this worker process end by its parent alone, and with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent is killed: it would wait forever."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _in_worker(shard: int) -> int:
    return quietly(*_held[0], shard)
