"""Work of several requests done together.

Nothing waits for a batch to fill: what has come while the thread was busy is the next batch. So a
lone request is not slowed, and the more requests there are, the larger the batches.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

__all__ = ["Batcher", "Bench"]


class Bench:
    """The one thread that networks run on, and whose turn it is; of one event loop.

    Args:
        thread: Of one worker.
    """

    def __init__(self, thread: Executor) -> None:
        self.thread = thread
        self.free = asyncio.Lock()


class Batcher(Generic[Item, Result]):
    """Calls a function with the items of all who wait.

    Args:
        work: Gives a result for each item, in their order; called on the bench's thread.
        bench: Shared by all batchers of a process.
        rows: How much of a batch an item takes.
        most: Rows of a batch; an item that has more comes alone.
        seen: Told the rows of each batch.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Result]],
        bench: Bench,
        *,
        rows: Callable[[Item], int],
        most: int,
        seen: Callable[[int], None],
    ) -> None:
        self._work = work
        self._bench = bench
        self._rows = rows
        self._most = most
        self._seen = seen
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._runner: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Result:
        """The result of an item.

        Who is cancelled while its item waits takes it out of the queue. An error of the work is
        raised for all items of the batch.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            async with self._bench.free:
                # Only now, so that whoever came while others worked is in it.
                batch = self._take()
                if not batch:
                    continue
                items = [item for item, _ in batch]
                self._seen(sum(map(self._rows, items)))
                try:
                    results = await loop.run_in_executor(self._bench.thread, self._work, items)
                except Exception as error:
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error)
                    continue
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)

    def _take(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        rows = 0
        while self._waiting:
            item, future = self._waiting[0]
            if not future.done():
                rows += self._rows(item)
                if batch and rows > self._most:
                    break
                batch.append((item, future))
            self._waiting.popleft()
        return batch
