"""The shards of an ingestion as a Ray Data pipeline, on one machine or on a cluster.

A task makes one whole shard with the code of ``mixnmatch data ingest``, so the bytes are the same,
and holds no more than that shard and the plan, which lies in Ray's object store once. Only numbers
come back. Ray starts a task again whose worker is lost, until nothing gets done any more.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from mixnmatch.data.info import one_line
from mixnmatch.data.ingest import PLAN_NAME
from mixnmatch.data.places import Place
from mixnmatch.data.plan import Plan
from mixnmatch.data.pool import quietly
from mixnmatch.errors import DataError, MixNMatchError, RunError
from mixnmatch_platform.cluster import connect
from mixnmatch_platform.placing import check_placeable

if TYPE_CHECKING:
    from ray import ObjectRef

STALLED_SECONDS = 1800
"""Without a shard done, after which it is given up; a cluster may need some of it to grow."""


def make_on_ray(
    plan: Plan, out: Place, shards: Sequence[int], *, workers: int | None = None
) -> Iterator[int]:
    """Make shards on the cluster that this process belongs to, else on one of this machine's own.

    Args:
        plan: What to read; all machines must see its place.
        out: Where the shards are written; all machines must see it, too.
        shards: Numbers of those to make.
        workers: Tasks at a time; without it as many as the cluster has CPUs.

    Yields:
        The number of pictures of each shard that is done.

    Raises:
        DataError: If the plan is strict and a picture cannot be used.
        RunError: If the storage fails, a machine does not see a folder, or nothing gets done for
            ``STALLED_SECONDS``, as where workers die again and again.
    """
    if not shards:
        return
    connected = connect(num_cpus=workers)
    if workers is not None:
        check_placeable({"CPU": 1}, workers, grows=connected.grows)
    import ray

    held = ray.put((plan, out))
    # A block a shard, so that each is a task of its own.
    numbers = ray.data.from_items(list(shards), override_num_blocks=len(shards))
    numbers.context.enable_progress_bars = False
    numbers.context.execution_no_progress_timeout_s = STALLED_SECONDS
    at_once = None if workers is None else min(workers, len(shards))
    done = numbers.map(
        _make_row,
        fn_kwargs={"held": [held]},
        compute=ray.data.TaskPoolStrategy(size=at_once),
    )
    try:
        with _quiet():
            for row in done.iter_rows():
                if row["problem"]:
                    _raise(row)
                yield row["pictures"]
    except MixNMatchError:
        raise
    except Exception as error:
        reason = one_line(error).partition(". ")[0] or type(error).__name__
        raise RunError(
            f"Ray could not make all shards ({reason}): run the same command again, with fewer "
            "--workers if memory was short, to go on"
        ) from error


def _make_row(row: dict[str, Any], held: "list[ObjectRef]") -> dict[str, Any]:
    """One shard, by its number; what is wrong comes back as a row, which Ray does not retry."""
    try:
        plan, out = _fetched(held[0])
        _check_pictures(plan, row["item"])
        return {"pictures": quietly(plan, out, row["item"]), "problem": "", "status": 0}
    except (MixNMatchError, OSError) as error:
        status = getattr(error, "exit_status", RunError.exit_status)
        return {"pictures": 0, "problem": one_line(error), "status": status}


def _raise(row: dict[str, Any]) -> NoReturn:
    kind = DataError if row["status"] == DataError.exit_status else RunError
    raise kind(row["problem"])


@lru_cache(maxsize=1)
def _fetched(held: "ObjectRef") -> tuple[Plan, Place]:
    """The plan and its place, once a worker process."""
    import ray

    plan, out = ray.get(held)
    if out.is_local:
        try:
            seen = out.read(PLAN_NAME).decode() == plan.digest
        except (DataError, OSError):
            seen = False
        if not seen:
            raise _unseen(out.name)
    return plan, out


def _check_pictures(plan: Plan, shard: int) -> None:
    """Refuse to take a picture for missing because this is another machine.

    Raises:
        RunError: If the machine does not see one that was there.
    """
    if plan.place.is_local:
        for number in plan.shard_entries(shard):
            path = plan.listing.entries[number].path
            if path in plan.files and not plan.place.has(path):
                raise _unseen(plan.place.full(path))


def _unseen(name: str) -> RunError:
    import ray

    return RunError(
        f"{name}: not seen by machine {ray.util.get_node_ip_address()}: on a cluster SRC and OUT "
        "must be on storage that all machines share, or URLs such as s3://bucket/folder"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray Data's log to its file: what is wrong, we say in one line."""
    consoles = [h for h in logging.getLogger("ray.data").handlers if h.name == "console"]
    levels = [handler.level for handler in consoles]
    for handler in consoles:
        handler.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for handler, level in zip(consoles, levels, strict=True):
            handler.setLevel(level)
