"""Runs in MLflow, by explicit run ids, never by the global state of its fluent API."""

import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from mixnmatch.errors import InputError
from mixnmatch_platform.delivery import MLflowRecorder
from mixnmatch_platform.store import (
    artifact_location,
    connect,
    mlflow_errors,
    new_client,
    tracking_uri,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = [
    "BOTH_STAGES",
    "DATA_TAG",
    "STAGES_TAG",
    "MLflowRecorder",
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

PARAM_LENGTH = 6000
TAG_LENGTH = 5000
BATCH_PARAMS = 100


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
    ) -> str:
        """Create a run, with its parameters and ``config.json``.

        Args:
            name: Name of the run.
            parent_run_id: Run under which this one is shown.
            tags: Tags of the run.
            params: Flat parameters; ``config.json`` keeps those whole that MLflow must cut.

        Returns:
            The id of the run.

        Raises:
            InputError: If the store is away or the experiment was deleted.
            RunError: If the store fails half-way.
        """
        from mlflow.entities import Param

        client = connect(self.uri)
        parent = {} if parent_run_id is None else {"mlflow.parentRunId": parent_run_id}
        shown = [Param(key, _cut(str(value), PARAM_LENGTH)) for key, value in params.items()]
        with mlflow_errors(f"MLflow run {name} could not be started"):
            experiment_id = self._experiment_id(client)
            cut_tags = {key: _cut(str(value), TAG_LENGTH) for key, value in tags.items()}
            run = client.create_run(experiment_id, tags=cut_tags | parent, run_name=name)
            run_id = str(run.info.run_id)
            try:
                for first in range(0, len(shown), BATCH_PARAMS):
                    client.log_batch(
                        run_id, params=shown[first : first + BATCH_PARAMS], synchronous=True
                    )
                config = json.dumps(dict(params), indent=2, default=str)
                client.log_text(run_id, config, "config.json")
            except BaseException:
                with suppress(Exception):  # the first error is the one to tell
                    client.set_terminated(run_id, "FAILED")
                raise
        return run_id

    def recorder(self, run_id: str) -> MLflowRecorder:
        """A recorder that writes to one run."""
        return MLflowRecorder(self.uri, run_id)

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Add tags to a run.

        Raises:
            RunError: If the store refuses or is away.
        """
        from mlflow.entities import RunTag

        with mlflow_errors(f"MLflow run {run_id} could not be tagged"):
            pairs = [RunTag(key, _cut(str(value), TAG_LENGTH)) for key, value in tags.items()]
            new_client(self.uri).log_batch(run_id, tags=pairs, synchronous=True)

    def finish(self, run_id: str, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """End a run.

        Raises:
            RunError: If the store refuses or is away.
        """
        with mlflow_errors(f"MLflow run {run_id} could not be set {status}"):
            new_client(self.uri).set_terminated(run_id, status)

    def reopen(self, run_id: str) -> None:
        """Set a run running again, when its training resumes.

        Raises:
            RunError: If the store is away, or the run was deleted.
        """
        with mlflow_errors(f"MLflow run {run_id} could not be reopened"):
            new_client(self.uri).update_run(run_id, status="RUNNING")

    def _experiment_id(self, client: "MlflowClient") -> str:
        from mlflow.exceptions import MlflowException

        experiment = client.get_experiment_by_name(self.experiment)
        if experiment is None:
            try:
                return str(client.create_experiment(self.experiment, self.artifact_location))
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


def _cut(text: str, length: int) -> str:
    mark = "… (cut)"
    return text if len(text) <= length else text[: length - len(mark)] + mark


def environment_tags() -> dict[str, str]:
    """What a run was made with, as tags: code, command, versions and machine."""
    tags = {
        "mlflow.source.name": sys.argv[0],
        "mlflow.source.type": "LOCAL",
        "mixnmatch.command": shlex.join(sys.argv),
        "mixnmatch.python": platform.python_version(),
        "mixnmatch.host": platform.node(),
        "mixnmatch.host_cpus": str(os.cpu_count()),
    }
    for package in ("torch", "ray", "mlflow"):
        with suppress(importlib.metadata.PackageNotFoundError):
            tags[f"mixnmatch.{package}"] = importlib.metadata.version(package)
    if commit := _git("rev-parse", "HEAD"):
        tags["mlflow.source.git.commit"] = commit
        tags["mixnmatch.git_dirty"] = str(bool(_git("status", "--porcelain"))).lower()
    return tags


def _git(*arguments: str) -> str | None:
    """What a git command says of the folder that holds this code; None outside a repository."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()
    return None
