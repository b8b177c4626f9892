"""Work that a thread does again and again beside a block."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["every"]


@contextmanager
def every(seconds: float, work: Callable[[], None], name: str) -> Iterator[None]:
    """Do some work each so many seconds during a block, and none after it.

    Args:
        seconds: Before the first time, and between two.
        work: It sees to its own errors.
        name: Of the thread.
    """
    over = threading.Event()

    def watch() -> None:
        while not over.wait(seconds):
            work()

    thread = threading.Thread(target=watch, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
