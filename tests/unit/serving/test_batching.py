import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from mixnmatch_platform.serving.batching import Batcher, Bench


class Slow:
    """Doubles numbers, once it is let go; keeps the batches that it got."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.begun.set()
        assert self.go.wait(10)
        if 13 in items:
            raise ValueError("thirteen")
        return [2 * item for item in items]


def batcher(work: Slow, *, most: int = 4, rows: int = 1) -> Batcher[int, int]:
    bench = Bench(ThreadPoolExecutor(1))
    return Batcher(work, bench, rows=lambda _: rows, most=most, seen=lambda _: None)


async def begin(
    work: Slow, batch: Batcher[int, int], items: Sequence[int]
) -> list[asyncio.Task[int]]:
    """Ask for the first item, and for the others once it is being worked on."""
    first = asyncio.create_task(batch(items[0]))
    await asyncio.to_thread(work.begun.wait, 10)
    others = [asyncio.create_task(batch(item)) for item in items[1:]]
    await asyncio.sleep(0)
    return [first, *others]


def test_what_comes_meanwhile_is_the_next_batch() -> None:
    async def go() -> None:
        work = Slow()
        tasks = await begin(work, batcher(work), range(8))
        work.go.set()
        assert await asyncio.gather(*tasks) == [0, 2, 4, 6, 8, 10, 12, 14]
        assert work.batches == [[0], [1, 2, 3, 4], [5, 6, 7]]

    asyncio.run(go())


def test_an_item_beyond_the_most_comes_alone() -> None:
    async def go() -> None:
        work = Slow()
        work.go.set()
        batch = batcher(work, most=4, rows=9)
        assert await asyncio.gather(batch(1), batch(2)) == [2, 4]
        assert work.batches == [[1], [2]]

    asyncio.run(go())


def test_who_is_cancelled_costs_nothing() -> None:
    async def go() -> None:
        work = Slow()
        tasks = await begin(work, batcher(work), [0, 1, 2])
        tasks[1].cancel()
        await asyncio.sleep(0)
        work.go.set()
        assert await tasks[2] == 4
        assert work.batches == [[0], [2]]
        assert tasks[1].cancelled()

    asyncio.run(go())


def test_an_error_is_of_its_batch_alone() -> None:
    async def go() -> None:
        work = Slow()
        batch = batcher(work)
        tasks = await begin(work, batch, [0, 13, 2])
        work.go.set()
        assert await tasks[0] == 0
        for task in tasks[1:]:
            with pytest.raises(ValueError, match="thirteen"):
                await task
        assert await batch(5) == 10

    asyncio.run(go())


def test_batchers_of_a_bench_take_turns() -> None:
    async def go() -> None:
        slow, quick = Slow(), Slow()
        bench = Bench(ThreadPoolExecutor(1))
        one, two = (
            Batcher[int, int](work, bench, rows=lambda _: 1, most=4, seen=lambda _: None)
            for work in (slow, quick)
        )
        first = asyncio.create_task(one(0))
        await asyncio.to_thread(slow.begun.wait, 10)
        second = asyncio.create_task(two(1))
        await asyncio.sleep(0)
        third = asyncio.create_task(two(2))
        await asyncio.sleep(0)
        assert quick.batches == []
        slow.go.set()
        quick.go.set()
        assert await asyncio.gather(first, second, third) == [0, 2, 4]
        # The second batcher's batch was made once it could begin.
        assert quick.batches == [[1, 2]]

    asyncio.run(go())
