import threading
from itertools import count, islice

import pytest

from mixnmatch.data.ahead import made_ahead


@pytest.mark.parametrize("threads", [1, 3])
def test_results_come_in_order(threads: int) -> None:
    made = made_ahead(lambda n: n * n, range(20), threads=threads, depth=4, name="test")
    assert list(made) == [n * n for n in range(20)]


def test_no_more_is_made_than_may_wait() -> None:
    begun: list[int] = []
    made = made_ahead(lambda n: begun.append(n) or n, count(5), threads=2, depth=3, name="test")
    assert list(islice(made, 4)) == [5, 6, 7, 8]
    made.close()
    assert set(begun) <= set(range(5, 11))


def test_results_are_made_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=5)
    made = made_ahead(lambda _: meeting.wait(), range(3), threads=3, depth=3, name="test")
    assert sorted(made) == [0, 1, 2]


def test_an_error_comes_where_the_result_would_have_come() -> None:
    made = made_ahead(lambda n: 6 // (2 - n), range(9), threads=2, depth=4, name="test-error")
    assert [next(made), next(made)] == [3, 6]
    with pytest.raises(ZeroDivisionError):
        next(made)
    assert not any("test-error" in thread.name for thread in threading.enumerate())
