"""Promoted models as folders: what ``models:/NAME@champion`` stands for."""

import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from mixnmatch.errors import ModelError
from mixnmatch.files import cache_folder
from mixnmatch_platform.store import (
    connect_existing,
    home_folder,
    mlflow_errors,
    storage_errors,
    tracking_uri,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = [
    "BUNDLE",
    "artifact_uri",
    "bundle_in",
    "decided_versions",
    "download",
    "fetch_model",
    "fetch_release",
    "fetched",
    "known_model",
    "known_run",
    "local_folder",
    "named_version",
    "registered_model",
]

BUNDLE = "bundle"
"""Name of the folder that a run logs its model under."""

STATE_TAG, WAITING = "mixnmatch.state", "waiting"
"""Tag of a version that is not decided about yet, and its value then."""
MODEL_NAME = r"[\w .-]+"
MODEL_URI = re.compile(rf"models:/(?P<name>{MODEL_NAME})(@(?P<alias>[\w.-]+)|/(?P<version>\d+))?")


def fetch_model(uri: str, store: str | None = None) -> Path:
    """The folder of a registered model's bundle.

    A bundle on this machine is used in place; any other is downloaded once, into
    ``models`` of the cache folder (``MIXNMATCH_CACHE``, or ``~/.cache/mixnmatch``).

    Args:
        uri: ``models:/NAME@ALIAS``, ``models:/NAME/VERSION``, or ``models:/NAME`` for the latest.
        store: Tracking URI; that of ``MLFLOW_TRACKING_URI`` or the home folder by default.

    Raises:
        ModelError: If there is no such model, alias or version, or its files are gone.
        InputError: If the MLflow store is away.
    """
    return bundle_in(fetch_release(uri, store))


def fetch_release(uri: str, store: str | None = None) -> Path:
    """The folder that a version points at: its release, with the bundle in it.

    Arguments and errors are those of ``fetch_model``.
    """
    parts = _parts(uri)
    store = store or tracking_uri(home_folder())
    client = connect_existing(store)
    with mlflow_errors(f"{uri} cannot be fetched from {store}", ModelError):
        version = _version(client, store, **parts)
        location = artifact_uri(client, version.source)
    local = local_folder(location)
    if local is None:
        return _cached(location, store, version.name, int(version.version))
    if not local.is_dir():
        raise ModelError(f"{uri} lies in {local}, which is not on this machine or was deleted")
    return local


def named_version(uri: str, store: str) -> Any:
    """MLflow's entry of the version that an address stands for now.

    Args:
        uri: As of ``fetch_model``.
        store: Tracking URI.

    Raises:
        ModelError: If there is no such model, alias or version.
        InputError: If the MLflow store is away.
    """
    parts = _parts(uri)
    client = connect_existing(store)
    with mlflow_errors(f"{uri} cannot be looked up in {store}", ModelError):
        return _version(client, store, **parts)


def bundle_in(folder: Path) -> Path:
    """The bundle in what a version points at: a release holds it as its data, a run as itself."""
    within = folder / "data" / BUNDLE
    return within if within.is_dir() else folder


@contextmanager
def fetched(client: "MlflowClient", store: str, source: str) -> Iterator[Path]:
    """Artifacts of a run or version on this machine: in place, or a copy that is then deleted.

    Args:
        client: Of the store.
        store: Its tracking URI.
        source: As a version has it: ``runs:/ID/PATH`` or a URI.

    Raises:
        ModelError: If they are not there, or cannot be downloaded.
    """
    location = artifact_uri(client, source)
    if (local := local_folder(location)) is not None:
        if not local.exists():
            raise ModelError(f"{local} is not on this machine or was deleted")
        yield local
        return
    with tempfile.TemporaryDirectory(prefix="mixnmatch-") as work:
        yield download(location, store, Path(work))


def registered_model(client: "MlflowClient", name: str) -> Any | None:
    """MLflow's entry of a registered model with its ``aliases``, None if there is none."""
    return _found(client.get_registered_model, name)


def known_model(client: "MlflowClient", store: str, name: str) -> Any:
    """MLflow's entry of a registered model.

    Raises:
        ModelError: If there is none, naming those that there are.
    """
    model = registered_model(client, name)
    if model is None:
        known = [other.name for other in client.search_registered_models(max_results=20)]
        raise ModelError(f"no model {name!r} in {store}: {_known(known)}")
    return model


def decided_versions(client: "MlflowClient", model: Any) -> list[Any]:
    """Versions of a model that do not wait, oldest first; also those registered by other means.

    One that waits has no files yet, and may never get any. But one that an alias names has them,
    even where its process has died before it could say so.

    Args:
        client: Of the store.
        model: As ``known_model`` gives it.
    """
    named = {int(version) for version in model.aliases.values()}
    versions = client.search_model_versions(f"name = '{model.name}'")
    decided = [
        version
        for version in versions
        if version.tags.get(STATE_TAG) != WAITING or int(version.version) in named
    ]
    return sorted(decided, key=lambda version: int(version.version))


def known_run(client: "MlflowClient", run_id: str) -> Any | None:
    """MLflow's entry of a run, None if it was deleted for good."""
    return _found(client.get_run, run_id)


def artifact_uri(client: "MlflowClient", source: str) -> str:
    """Where a model version's source lies, with ``runs:/ID/PATH`` resolved.

    Raises:
        ModelError: If that run was deleted for good.
    """
    if not source.startswith("runs:/"):
        return source
    run_id, _, path = source.removeprefix("runs:/").partition("/")
    run = known_run(client, run_id)
    if run is None:
        raise ModelError(f"{source} is gone: run {run_id} was deleted for good, with its files")
    return f"{run.info.artifact_uri.rstrip('/')}/{path}"


def local_folder(location: str) -> Path | None:
    """The path of artifacts that a store keeps in plain folders, None for any other."""
    parsed = urlparse(location)
    if parsed.scheme == "file":
        return Path(unquote(parsed.path))
    return None if parsed.scheme else Path(location)


def download(location: str, store: str, into: Path) -> Path:
    """Download a folder of artifacts.

    Args:
        location: Their URI.
        store: Tracking URI of the store that serves them.
        into: An existing folder.

    Returns:
        The downloaded folder, ``into`` or a folder inside it.

    Raises:
        ModelError: If that fails.
    """
    from mlflow.artifacts import download_artifacts

    with storage_errors(f"{location} cannot be downloaded", ModelError):
        return Path(download_artifacts(location, dst_path=str(into), tracking_uri=store))


def _parts(uri: str) -> dict[str, Any]:
    match = MODEL_URI.fullmatch(uri)
    if match is None:
        raise ModelError(
            f"{uri!r} names no model: write models:/NAME@ALIAS, models:/NAME/VERSION or "
            "models:/NAME for the latest version"
        )
    return match.groupdict()


def _found(get: Callable[[str], Any], key: str) -> Any | None:
    """What the store has under a key, None if it says that there is no such thing."""
    from mlflow.exceptions import MlflowException

    try:
        return get(key)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def _version(
    client: "MlflowClient", store: str, *, name: str, alias: str | None, version: str | None
) -> Any:
    model = known_model(client, store, name)
    if alias is not None:
        if alias not in model.aliases:
            raise ModelError(f"model {name!r} has no alias {alias!r}: {_known(model.aliases)}")
        version = model.aliases[alias]
    versions = {int(v.version): v for v in decided_versions(client, model)}
    number = max(versions, default=0) if version is None else int(version)
    if number not in versions:
        raise ModelError(f"model {name!r} has no version {number or ''}: {_known(versions)}")
    return versions[number]


def _known(things: Any) -> str:
    names = [str(thing) for thing in sorted(things)]
    return f"known are {', '.join(names)}" if names else "there is none yet"


def _cached(location: str, store: str, name: str, version: int) -> Path:
    # Two stores may both have a first version of a model with this name.
    key = hashlib.sha256(f"{store} {location}".encode()).hexdigest()[:12]
    target = cache_folder() / "models" / name / str(version) / key
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{key}-", dir=target.parent))
    try:
        folder = download(location, store, work / "new")
        if not target.is_dir():
            folder.rename(target)
    except OSError as error:
        if not target.is_dir():  # else another process was first
            raise ModelError(f"{name} v{version} cannot be kept in {target}: {error}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target
