"""How runs end in MLflow: by themselves, or by whoever finds that their process is gone."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Literal

from mixnmatch.errors import MixNMatchError, RunError, Stopped
from mixnmatch_platform.delivery import Delivery, deliver
from mixnmatch_platform.locks import hold
from mixnmatch_platform.outbox import Outbox, OutboxWriter, Status
from mixnmatch_platform.recording import OutboxRecorder
from mixnmatch_platform.store import one_line
from mixnmatch_platform.tracking import REASON_TAG, Tracking

__all__ = ["ending", "settle"]

SETTLE_SECONDS = 30.0
"""How long to try a store that is away when a run that has died is settled."""


@contextmanager
def ending(recorder: OutboxRecorder, tags: Mapping[str, str]) -> Iterator[None]:
    """Record how a block ends, as the last of all.

    Args:
        recorder: Of the run.
        tags: What the run has if it finishes.
    """
    try:
        yield
    except BaseException as error:
        with suppress(OSError):  # of a full disk: the first error is the one to tell
            recorder.tags({REASON_TAG: _reason(error)})
            recorder.status(_status(error))
        raise
    recorder.tags(tags)
    recorder.status("FINISHED")


def settle(
    out: Path,
    tracking: Tracking,
    status: Status,
    tags: Mapping[str, str] | None = None,
    *,
    seconds: float = SETTLE_SECONDS,
) -> None:
    """End the run of a folder whose own process is gone: what waits is delivered, the end last.

    Where the store stays away, all of it waits in the run's outbox, and a line on stderr says so.

    Args:
        out: Folder of the run.
        tracking: Its store.
        status: How it ended.
        tags: To be added.
        seconds: How long to try a store that fails.

    Raises:
        RunError: If a process still has the folder, or no run was started in it.
    """
    outbox = Outbox(out)
    if outbox.run_id is None:
        raise RunError(f"{out} has no MLflow run to end")
    with hold(out), closing(OutboxWriter(out)) as writer:
        if tags:
            writer.append(tags=dict(tags))
        writer.append(status=status)
    reason = deliver(Delivery(outbox, tracking.uri, outbox.run_id), seconds)
    if reason is not None:
        print(
            f"the end of {out} waits in its outbox, `platform sync {out}` delivers it ({reason})",
            file=sys.stderr,
            flush=True,
        )


def _status(error: BaseException) -> Literal["KILLED", "FAILED"]:
    asked = isinstance(error, Stopped | KeyboardInterrupt | SystemExit)
    return "KILLED" if asked else "FAILED"


def _reason(error: BaseException) -> str:
    known = isinstance(error, MixNMatchError | OSError)
    return one_line(error) if known else f"{type(error).__name__}: {one_line(error)}"
