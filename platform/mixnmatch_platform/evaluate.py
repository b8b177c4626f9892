"""Evaluations on Ray: workers observe some of the cases each, the figures are made here.

What is observed of a case does not depend on who observes it, and comes back as it is, so nothing
but rounding in other orders can tell the figures from those of one process.
"""

from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING

from tqdm import tqdm

from mixnmatch.errors import MixNMatchError, RunError
from mixnmatch.metrics.measure import Observations, Observer, Subject, join, parts_of
from mixnmatch_platform.cluster import connect
from mixnmatch_platform.placing import check_placeable

if TYPE_CHECKING:
    from ray import ObjectRef

PARTS_A_TASK = 4
"""Batches that a task observes, so that its start costs little beside them."""
AHEAD = 2
"""Tasks a worker that are handed out at once."""


class RayRunner:
    """Observes on the cluster that this process belongs to, else on one of this machine's own.

    Args:
        workers: Tasks at a time; without it as many as the cluster has CPUs, or GPUs for those.
        use_gpu: One GPU a task; the subject's model is on a GPU then.

    Raises:
        InputError: If a cluster of fixed size is too small for the workers.
    """

    def __init__(self, workers: int | None = None, *, use_gpu: bool = False) -> None:
        connected = connect(num_cpus=workers)
        self._kind = "GPU" if use_gpu else "CPU"
        if workers is not None or use_gpu:
            check_placeable({self._kind: 1}, workers or 1, grows=connected.grows)
        import ray

        self.workers = workers or max(1, int(ray.cluster_resources().get(self._kind, 1)))

    def __call__(self, observer: Observer, subject: Subject, title: str) -> Observations:
        """See ``mixnmatch.metrics.evaluate.Runner``.

        Raises:
            RunError: If tasks fail again and again.
        """
        import ray

        resources = {"num_gpus": 1} if self._kind == "GPU" else {"num_cpus": 1}
        task = ray.remote(max_retries=3, **resources)(_observe)
        held = ray.put(observer)
        chunks = _chunks(parts_of(observer.count, subject.config.batch_size))
        asked: deque[tuple[int, ObjectRef]] = deque()
        seen: list[Observations] = []
        with tqdm(desc=title, total=observer.count, disable=None, leave=False) as bar:
            while True:
                for chunk in islice(chunks, AHEAD * self.workers - len(asked)):
                    asked.append((sum(len(part) for part in chunk), task.remote([held], chunk)))
                if not asked:
                    return join(seen)
                cases, answer = asked.popleft()
                seen.append(_fetched(answer))
                bar.update(cases)


def _chunks(parts: list[range]) -> Iterator[list[range]]:
    return (parts[start : start + PARTS_A_TASK] for start in range(0, len(parts), PARTS_A_TASK))


def _observe(held: "list[ObjectRef]", parts: list[range]) -> Observations:
    import torch

    torch.set_num_threads(1)
    observer = _held_observer(held[0])
    return join([observer.observe(part) for part in parts])


@lru_cache(maxsize=1)
def _held_observer(held: "ObjectRef") -> Observer:
    """The observer, once a worker process and with the pictures that it has read."""
    import ray

    observer: Observer = ray.get(held)
    return observer


def _fetched(answer: "ObjectRef") -> Observations:
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        seen: Observations = ray.get(answer)
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, MixNMatchError):
            raise cause from error
        raise RunError(f"a worker could not evaluate: {cause!r}") from error
    except RayError as error:
        raise RunError(
            f"workers died again and again ({type(error).__name__}): evaluate with fewer --workers "
            "if memory was short"
        ) from error
    return seen
