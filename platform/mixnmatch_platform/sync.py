"""Delivery by hand of what waits in the outboxes of runs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mixnmatch.errors import InputError
from mixnmatch_platform.delivery import Delivery, deliver
from mixnmatch_platform.outbox import OUTBOX, Outbox
from mixnmatch_platform.store import answers

__all__ = ["Synced", "sync"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Synced:
    """What became of one run's outbox."""

    folder: str
    """Folder of the run."""
    run_id: str | None
    """Its MLflow run."""
    delivered: int
    """Records that MLflow has now and had not before."""
    waiting: int
    """Records that still wait."""
    left_out: dict[str, int]
    """What the store has refused for good, by kind."""
    reason: str | None
    """Why something waits."""


def sync(folder: Path, uri: str) -> list[Synced]:
    """Deliver what waits in a run's folder, or in those of an experiment or a home folder.

    A run that is in progress may be among them.

    Args:
        folder: Where to look.
        uri: The MLflow store.

    Returns:
        The runs in which something waited.

    Raises:
        InputError: If there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: name a run's folder, or one that holds runs")
    return [_sync(outbox, uri) for outbox in _outboxes(folder) if outbox.waiting()]


def _outboxes(folder: Path) -> Iterator[Outbox]:
    for depth in ("", "*/", "*/*/"):
        yield from (Outbox(file.parent) for file in sorted(folder.glob(f"{depth}{OUTBOX}")))


def _sync(outbox: Outbox, uri: str) -> Synced:
    before, run_id = outbox.waiting(), outbox.run_id
    left_out: dict[str, int] = {}
    if run_id is None:
        reason: str | None = "the run was never opened in MLflow: run it again"
    elif not answers(uri):
        reason = f"{uri} does not answer"
    else:
        delivery = Delivery(outbox, uri, run_id)
        reason = deliver(delivery)
        left_out = dict(delivery.left_out)
    waiting = outbox.waiting()
    return Synced(
        folder=str(outbox.out),
        run_id=run_id,
        delivered=max(0, before - waiting),
        waiting=waiting,
        left_out=left_out,
        reason=reason if waiting else None,
    )
