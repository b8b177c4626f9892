"""MLflow runs that are shown as running though their process is gone."""

import platform
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mixnmatch.errors import RunError
from mixnmatch_platform.budget import ELAPSED, SESSION, in_session
from mixnmatch_platform.delivery import Delivery, deliver
from mixnmatch_platform.ending import settle
from mixnmatch_platform.locks import LOCK, holder, is_held
from mixnmatch_platform.outbox import Outbox
from mixnmatch_platform.store import all_runs, connect_existing, experiment_names, mlflow_errors
from mixnmatch_platform.tracking import FOLDER_TAG, HOST_TAG, REASON_TAG, Tracking

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["SILENT_SECONDS", "Verdict", "reap"]

SILENT_SECONDS = 600.0
"""Running workers write every quarter of a minute; so long without is no slow disk any more."""
PARENT_TAG = "mlflow.parentRunId"


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What was found of one run that MLflow shows as running, and done."""

    run_id: str
    """The run."""
    run_name: str
    """Its name."""
    experiment: str
    """Its experiment."""
    folder: str | None
    """Its folder, where it says one."""
    outcome: Literal["ended", "would end", "left"]
    """Whether it is shown as ended now."""
    why: str
    """In words."""


def reap(
    uri: str, *, dry_run: bool = False, silent_seconds: float = SILENT_SECONDS
) -> list[Verdict]:
    """End the runs whose process is gone: KILLED, and before that all they still had to tell.

    A run lives while a process has its folder, or a driver works on it or on its sweep. Where
    nobody does, a run of this machine is gone. One of another machine, whose locks may not
    be seen from here, is gone if its folder has had no sign of life for long; so is one that no
    process has begun yet.

    Args:
        uri: The MLflow store.
        dry_run: Only say what would be done.
        silent_seconds: How long without a sign of life is long.

    Raises:
        InputError: If the store is away.
        RunError: If it fails half-way.
    """
    client = connect_existing(uri)
    with mlflow_errors(f"runs of {uri} could not be ended"):
        return [
            _judge(client, uri, run, name, dry_run=dry_run, silent_seconds=silent_seconds)
            for run, name in list(_running(client))
        ]


def _running(client: "MlflowClient") -> Iterator[tuple[Any, str]]:
    """Runs, and the names of their experiments."""
    names = experiment_names(client)
    for run in all_runs(client, names, "attributes.status = 'RUNNING'"):
        yield run, names[run.info.experiment_id]


def _judge(
    client: "MlflowClient",
    uri: str,
    run: Any,
    experiment: str,
    *,
    dry_run: bool,
    silent_seconds: float,
) -> Verdict:
    folder = run.data.tags.get(FOLDER_TAG)
    gone, why = _is_gone(client, run, silent_seconds)
    outcome: Literal["ended", "would end", "left"] = "left"
    if gone:
        outcome = "would end" if dry_run else "ended"
    if gone and not dry_run:
        try:
            why = _end(client, Tracking(uri, experiment), run, why)
        except RunError as error:  # it was taken up again just now
            outcome, why = "left", str(error)
    return Verdict(
        run_id=run.info.run_id,
        run_name=run.info.run_name,
        experiment=experiment,
        folder=folder,
        outcome=outcome,
        why=why,
    )


def _is_gone(client: "MlflowClient", run: Any, silent_seconds: float) -> tuple[bool, str]:
    tags, here = run.data.tags, platform.node()
    if FOLDER_TAG not in tags:
        return False, "it names no folder: it is not known whose it is"
    folder, host = Path(tags[FOLDER_TAG]), tags.get(HOST_TAG)
    if not folder.is_dir():
        if host == here:
            return True, f"its folder {folder} is gone"
        return False, f"its folder {folder} is not on this machine: look from {host}"
    if Outbox(folder).run_id not in (None, run.info.run_id):
        return True, f"its folder {folder} belongs to another run now"
    if is_held(folder) or in_session(folder):
        return False, "its process is there"
    if PARENT_TAG in tags:
        sweep = client.get_run(tags[PARENT_TAG]).data.tags.get(FOLDER_TAG)
        if sweep is not None and in_session(Path(sweep)):
            return False, f"its sweep in {sweep} is there, and sees to it"
    last = holder(folder) or holder(folder / SESSION)
    if last is not None and last[0] == here:
        return True, f"its process {last[1]} on {here} is gone"
    host = last[0] if last is not None else host
    signs = [run.info.start_time / 1000, Outbox(folder).written_at()]
    for name in (LOCK, f"{SESSION}/{ELAPSED}"):
        with suppress(FileNotFoundError):
            signs.append((folder / name).stat().st_mtime)
    minutes = (time.time() - max(signs)) / 60
    why = f"no sign of life from {host} for {minutes:.0f} minutes"
    if 60 * minutes > silent_seconds:
        return True, why
    return False, f"{why}: it is gone after {silent_seconds / 60:g}"


def _end(client: "MlflowClient", tracking: Tracking, run: Any, why: str) -> str:
    """End a run by way of its outbox, so that nothing comes after its end; returns the reason."""
    folder, run_id = Path(run.data.tags[FOLDER_TAG]), run.info.run_id
    outbox = Outbox(folder)
    if outbox.run_id != run_id:
        client.set_tag(run_id, REASON_TAG, why)
        client.set_terminated(run_id, "KILLED")
        return why
    if (status := outbox.last_status()) not in (None, "RUNNING"):
        # It came to its own end, and could not tell.
        if reason := deliver(Delivery(outbox, tracking.uri, run_id)):
            raise RunError(f"its end waits in {folder}: {reason}")
        return f"{why}; it had ended {status} before"
    settle(folder, tracking, "KILLED", {REASON_TAG: why}, seconds=0)
    if outbox.waiting():
        raise RunError(f"its end waits in {folder}")
    return why
