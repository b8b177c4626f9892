"""Small files of MLflow runs, wherever their store keeps them."""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mixnmatch_platform.store import storage_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["LoggedPicture", "last_picture", "read_artifact"]

_PICTURE = re.compile(r"(?P<series>.+)[+%]step[+%](?P<step>\d+)[+%]timestamp[+%](?P<time>\d+)")


@dataclass(frozen=True, slots=True)
class LoggedPicture:
    """A picture of a series."""

    step: int
    """Optimiser steps done when it was made."""
    png: bytes
    """The file."""


def read_artifact(client: "MlflowClient", run_id: str, path: str) -> bytes | None:
    """The content of a file, None where the run has none of that name.

    Args:
        client: Of the store.
        run_id: The run.
        path: Among its artifacts.

    Raises:
        RunError: If it cannot be fetched.
    """
    doing = f"{path} of run {run_id} cannot be fetched"
    with storage_errors(doing), tempfile.TemporaryDirectory(prefix="mixnmatch-") as work:
        folder = path.rpartition("/")[0] or None
        if path not in {item.path for item in client.list_artifacts(run_id, folder)}:
            return None
        return Path(client.download_artifacts(run_id, path, work)).read_bytes()


def last_picture(client: "MlflowClient", run_id: str, series: str) -> LoggedPicture | None:
    """The latest picture of a series that a run has recorded, None where there is none.

    Raises:
        RunError: If it cannot be fetched.
    """
    with storage_errors(f"pictures of run {run_id} cannot be fetched"):
        paths = [item.path for item in client.list_artifacts(run_id, "images")]
    steps = {}
    for path in paths:
        found = _PICTURE.match(Path(path).name)
        if found and path.endswith(".png") and found["series"] == series:
            steps[path] = (int(found["step"]), int(found["time"]))
    if not steps:
        return None
    path = max(steps, key=lambda each: steps[each])
    png = read_artifact(client, run_id, path)
    return None if png is None else LoggedPicture(steps[path][0], png)
