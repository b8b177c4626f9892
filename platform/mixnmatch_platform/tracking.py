"""Runs in MLflow, by explicit run ids, never by the global state of its fluent API."""

import json
import platform
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from mixnmatch.errors import InputError, MixNMatchError
from mixnmatch.files import whole_file
from mixnmatch.settings import parse_assignment
from mixnmatch_platform.environment import CODE_DIFF, environment_tags
from mixnmatch_platform.notes import NOTE_TAG, experiment_note
from mixnmatch_platform.outbox import DELIVERED, RUN_ID_FILE, Outbox
from mixnmatch_platform.recording import OutboxRecorder
from mixnmatch_platform.store import (
    all_runs,
    answers,
    artifact_location,
    connect,
    cut,
    cut_tags,
    mlflow_errors,
    new_client,
    storage_errors,
    tracking_uri,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = [
    "BOTH_STAGES",
    "DATA_TAG",
    "FOLDER_TAG",
    "HOST_TAG",
    "REASON_TAG",
    "STAGES_TAG",
    "FinishedRun",
    "Tracking",
    "environment_tags",
    "tracking_uri",
]

STAGES_TAG = "mixnmatch.stages"
"""Tag of a run: the stages it has finished."""
BOTH_STAGES = "1+2"
"""Value of ``STAGES_TAG`` that makes a run a candidate for promotion."""
DATA_TAG = "mixnmatch.data_fingerprint"
"""Tag of a run: fingerprint of the data set it was trained on."""
FOLDER_TAG = "mixnmatch.folder"
"""Tag of a run: its folder, as its machines see it."""
HOST_TAG = "mixnmatch.host"
"""Tag of a run: the machine that it runs on, at first the one that has started it."""
REASON_TAG = "mixnmatch.reason"
"""Tag of a run: why it did not finish."""
TOKEN_TAG = "mixnmatch.token"
"""Tag of a run: what its folder's token file says, by which it is found again."""

TOKEN_FILE = ".mlflow-token"
PARAM_LENGTH = 6000
BATCH_PARAMS = 100
POLL_SECONDS = 2.0
GONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""What stores say of a run that is not there, or was deleted."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishedRun:
    """A run that came to its end."""

    run_id: str
    """Its id."""
    settings: dict[str, Any]
    """Its flat configuration."""
    metrics: dict[str, float]
    """Its last figures."""


@dataclass(frozen=True, slots=True)
class Tracking:
    """One experiment of one MLflow store; plain text, so that it travels to Ray workers."""

    uri: str
    """Tracking URI."""
    experiment: str
    """Name of the experiment; the first run creates it."""
    artifact_location: str | None = None
    """Where a new experiment keeps artifacts; None leaves it to the store."""

    @classmethod
    def at(cls, home: Path, experiment: str) -> Self:
        """The experiment in the store that ``tracking_uri`` gives for a home folder."""
        uri = tracking_uri(home)
        return cls(uri, experiment, artifact_location(uri))

    def check(self) -> None:
        """Make sure that the store answers.

        Raises:
            InputError: Within seconds, when it does not.
        """
        connect(self.uri)

    def start_run(
        self,
        name: str,
        *,
        parent_run_id: str | None = None,
        tags: Mapping[str, str],
        params: Mapping[str, Any],
        folder: Path | None = None,
        patience_seconds: float = 0,
    ) -> str:
        """Create a run, with its parameters and ``config.json``.

        Args:
            name: Name of the run.
            parent_run_id: Run under which this one is shown.
            tags: Tags of the run; the text under ``CODE_DIFF`` becomes an artifact of that name.
            params: Flat parameters; ``config.json`` keeps those whole that MLflow must cut.
            folder: Folder of the run, which keeps its id. However often the start is interrupted
                and begun again, there is one run of a folder.
            patience_seconds: How long to wait for a store that is away.

        Returns:
            The id of the run.

        Raises:
            InputError: If the store is away or the experiment was deleted.
            RunError: If the store fails half-way.
        """
        tags = {**tags, HOST_TAG: platform.node()}
        if parent_run_id is not None:
            tags["mlflow.parentRunId"] = parent_run_id
        token = None
        if folder is not None:
            token = _token(folder)
            tags |= {FOLDER_TAG: str(folder), TOKEN_TAG: token}

        def start() -> str:
            client = connect(self.uri)
            with storage_errors(f"MLflow run {name} could not be started"):
                return self._start(client, name, tags, params, token)

        run_id = self._patiently(start, patience_seconds)
        if folder is not None:
            (folder / DELIVERED).unlink(missing_ok=True)  # of another run, if there is one
            with whole_file(folder / RUN_ID_FILE) as partial:
                partial.write_text(run_id, encoding="utf-8")
        return run_id

    def resume_run(self, folder: Path) -> str | None:
        """Set the run of a folder running again; where the store is away, its outbox will.

        Returns:
            The id of the run; None if the folder has none yet.

        Raises:
            RunError: If the run was deleted, or is of another store.
        """
        run_id = Outbox(folder).run_id
        if run_id is None:
            return None
        try:
            connect(self.uri)
            self.reopen(run_id)
        except MixNMatchError as error:
            if getattr(error.__cause__, "error_code", None) in GONE:
                raise
            print(f"{folder} goes on, its records wait: {error}", file=sys.stderr, flush=True)
        return run_id

    def recorder(self, run_id: str, out: Path) -> OutboxRecorder:
        """A recorder that writes to one run, by way of the outbox in its folder."""
        return OutboxRecorder(out, self.uri, run_id)

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Add tags to a run.

        Raises:
            RunError: If the store refuses or is away.
        """
        with mlflow_errors(f"MLflow run {run_id} could not be tagged"):
            new_client(self.uri).log_batch(run_id, tags=cut_tags(tags), synchronous=True)

    def tag_experiment(self, tags: Mapping[str, str]) -> None:
        """Add tags to the experiment, which is there once it has a run.

        Raises:
            RunError: If the store refuses or is away.
        """
        with mlflow_errors(f"MLflow experiment {self.experiment} could not be tagged"):
            client = new_client(self.uri)
            experiment_id = self._experiment_id(client)
            for key, value in tags.items():
                client.set_experiment_tag(experiment_id, key, value)

    def finish(self, run_id: str, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """End a run.

        Raises:
            RunError: If the store refuses or is away.
        """
        with mlflow_errors(f"MLflow run {run_id} could not be set {status}"):
            new_client(self.uri).set_terminated(run_id, status)

    def finished_runs(self, experiment: str, fingerprint: str) -> list[FinishedRun]:
        """The finished runs of an experiment that were trained on a data set, newest last.

        Raises:
            InputError: If there is no such experiment, or the store is away.
        """
        client = connect(self.uri)
        wanted = f"attributes.status = 'FINISHED' and tags.`{DATA_TAG}` = '{fingerprint}'"
        with mlflow_errors(f"runs of {experiment} could not be read"):
            found = client.get_experiment_by_name(experiment)
            if found is None:
                raise InputError(f"no experiment {experiment!r} in {self.uri} to start warm from")
            oldest_first = ["attributes.start_time ASC"]
            runs = list(all_runs(client, [found.experiment_id], wanted, oldest_first))
        return [
            FinishedRun(
                run_id=run.info.run_id,
                settings=dict(parse_assignment(f"{k}={v}") for k, v in run.data.params.items()),
                metrics=dict(run.data.metrics),
            )
            for run in runs
        ]

    def reopen(self, run_id: str) -> None:
        """Set a run running again, when its training resumes.

        Raises:
            RunError: If the store is away, or the run was deleted.
        """
        with mlflow_errors(f"MLflow run {run_id} could not be reopened"):
            new_client(self.uri).update_run(run_id, status="RUNNING")

    def _start(
        self,
        client: "MlflowClient",
        name: str,
        tags: Mapping[str, str],
        params: Mapping[str, Any],
        token: str | None,
    ) -> str:
        """Create a run whole, or make that whole which was interrupted."""
        from mlflow.entities import Param

        shown = [Param(key, cut(str(value), PARAM_LENGTH)) for key, value in params.items()]
        experiment_id = self._experiment_id(client)
        diff = tags.get(CODE_DIFF)
        short = {tag.key: tag.value for tag in cut_tags(tags) if tag.key != CODE_DIFF}
        found = (
            client.search_runs([experiment_id], f"tags.`{TOKEN_TAG}` = '{token}'", max_results=1)
            if token
            else []
        )
        run = found[0] if found else client.create_run(experiment_id, tags=short, run_name=name)
        run_id = str(run.info.run_id)
        try:
            for first in range(0, len(shown), BATCH_PARAMS):
                batch = shown[first : first + BATCH_PARAMS]
                client.log_batch(run_id, params=batch, synchronous=True)
            config = json.dumps(dict(params), indent=2, default=str)
            client.log_text(run_id, config, "config.json")
            if diff is not None:
                client.log_text(run_id, diff, CODE_DIFF)
            if found:
                client.update_run(run_id, "RUNNING")
        except BaseException:
            with suppress(Exception):  # the first error is the one to tell
                client.set_terminated(run_id, "FAILED")
            raise
        return run_id

    def _patiently(self, work: Callable[[], T], seconds: float) -> T:
        deadline = time.monotonic() + seconds
        while True:
            try:
                return work()
            except MixNMatchError as error:
                if time.monotonic() >= deadline or answers(self.uri):
                    raise
                print(f"waiting: {error}", file=sys.stderr, flush=True)
                time.sleep(POLL_SECONDS)

    def _experiment_id(self, client: "MlflowClient") -> str:
        from mlflow.exceptions import MlflowException

        experiment = client.get_experiment_by_name(self.experiment)
        if experiment is None:
            try:
                tags = {NOTE_TAG: experiment_note(self.experiment)}
                return str(client.create_experiment(self.experiment, self.artifact_location, tags))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            experiment = client.get_experiment_by_name(self.experiment)  # another worker's
        if experiment.lifecycle_stage == "deleted":
            raise InputError(
                f"experiment {self.experiment!r} of {self.uri} was deleted: restore it "
                "(mlflow experiments restore) or take another name"
            )
        return str(experiment.experiment_id)


def _token(folder: Path) -> str:
    """What tells the run that a folder is to have from all others, however it is named."""
    file = folder / TOKEN_FILE
    if not file.is_file():
        with whole_file(file) as partial:
            partial.write_text(uuid.uuid4().hex, encoding="ascii")
    return file.read_text(encoding="ascii")
