"""A run's folder is one process's at a time."""

import errno
import fcntl
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mixnmatch.errors import InputError, RunError

__all__ = ["hold", "holder", "is_held"]

LOCK = ".lock"
WAIT_SECONDS = 60.0
"""A process that was killed on another machine may keep its lock for a while."""
POLL_SECONDS = 0.2


@contextmanager
def hold(out: Path, wait_seconds: float = WAIT_SECONDS) -> Iterator[None]:
    """Keep a run's folder for this process; the system lets go of it when the process ends.

    Args:
        out: The folder; it is made when missing.
        wait_seconds: How long to wait for another process that has it.

    Raises:
        RunError: If another process keeps it.
        InputError: If its disk knows no locks.
    """
    out.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait_seconds
    with (out / LOCK).open("a+", encoding="utf-8") as file:
        while not _lock(file.fileno(), fcntl.LOCK_EX, out):
            if time.monotonic() >= deadline:
                host, pid = holder(out) or ("another machine", "unknown")
                raise RunError(
                    f"{out} is in use by process {pid} of {host}: wait for its end, or stop it"
                )
            time.sleep(POLL_SECONDS)
        file.truncate(0)
        file.write(f"{platform.node()} {os.getpid()}\n")
        file.flush()
        yield


def is_held(out: Path) -> bool:
    """Whether a process, on whatever machine, has a run's folder now."""
    try:
        with (out / LOCK).open(encoding="utf-8") as file:
            return not _lock(file.fileno(), fcntl.LOCK_SH, out)
    except FileNotFoundError:
        return False


def holder(out: Path) -> tuple[str, str] | None:
    """Host and process id that had a run's folder last, None if there was none yet."""
    try:
        host, pid = (out / LOCK).read_text(encoding="utf-8").split()
    except (FileNotFoundError, ValueError):
        return None
    return host, pid


def _lock(descriptor: int, kind: int, out: Path) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise InputError(
                f"{out} is on a disk without file locks ({error.strerror}): take another --home"
            ) from error
        raise
    return True
