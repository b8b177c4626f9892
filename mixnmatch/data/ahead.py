"""Things made ahead of their use, by threads, and handed over in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Made = TypeVar("Made")


def made_ahead(
    make: Callable[[int], Made],
    numbers: Iterable[int],
    *,
    threads: int,
    depth: int,
    name: str,
) -> Generator[Made, None, None]:
    """Call ``make`` for each number, some calls ahead of the one that is waited for.

    The threads begin with the first result asked for and end with the generator. An error of
    ``make`` is raised where its result would have come.

    Args:
        make: Called by the threads, at the same time where there are several.
        numbers: In the order of the results; may be without end.
        threads: Most calls at the same time.
        depth: Most calls begun and not yet taken: what may wait in memory.
        name: Of the threads.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
    remaining = iter(numbers)
    ahead: deque[Future[Made]] = deque()
    try:
        while True:
            ahead.extend(pool.submit(make, n) for n in islice(remaining, depth - len(ahead)))
            if not ahead:
                return
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
