"""The MLflow store: where it is, and whether it answers."""

import os
import sqlite3
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mixnmatch.errors import InputError, MixNMatchError, RunError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run, RunTag

__all__ = [
    "all_runs",
    "answers",
    "artifact_location",
    "connect",
    "connect_existing",
    "cut",
    "cut_tags",
    "experiment_names",
    "home_folder",
    "is_number",
    "mlflow_errors",
    "new_client",
    "numbers",
    "one_line",
    "probe",
    "storage_errors",
    "tracking_uri",
]

# MLflow's own defaults block one call for four minutes when the server is away, and print addresses
# and progress bars into the output of a command.
SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
PROBE_SECONDS = 4
TAG_LENGTH = 5000
PAGE = 1000


def home_folder() -> Path:
    """Where runs and their store lie: ``MIXNMATCH_HOME`` if set, else ``runs`` in this folder."""
    return Path(os.environ.get("MIXNMATCH_HOME") or "runs").expanduser().resolve()


def tracking_uri(home: Path) -> str:
    """The MLflow store to use: ``MLFLOW_TRACKING_URI`` if set, else a database in ``home``.

    Returns:
        The URI, absolute for SQLite, so that workers started in another folder agree.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home.expanduser() / 'mlflow.db'}"
    database = _sqlite_file(uri)
    return uri if database is None else f"sqlite:///{database}"


def artifact_location(uri: str) -> str | None:
    """Where artifacts of new experiments go: beside a SQLite file; a server decides for itself."""
    database = _sqlite_file(uri)
    return None if database is None else (database.parent / "artifacts").as_uri()


def connect(uri: str) -> "MlflowClient":
    """A client of a store that answers; a missing SQLite store is created.

    Raises:
        InputError: Within seconds, when the store is away or cannot be used.
    """
    try:
        probe(uri)
        client = new_client(uri)
        client.search_experiments(max_results=1)
    except Exception as error:  # stores raise errors of their own libraries besides MLflow's
        raise InputError(
            f"the MLflow store {uri} cannot be used: start its server, or correct or unset "
            f"MLFLOW_TRACKING_URI ({one_line(error)})"
        ) from error
    return client


def connect_existing(uri: str) -> "MlflowClient":
    """A client of a store that answers, for reading.

    Raises:
        InputError: When the store is away, cannot be used, or is a SQLite file not there yet.
    """
    database = _sqlite_file(uri)
    if database is not None and not database.is_file():
        raise InputError(
            f"no MLflow store at {database}: train first, or name the store in "
            "MLFLOW_TRACKING_URI, or its folder in MIXNMATCH_HOME"
        )
    return connect(uri)


def new_client(uri: str) -> "MlflowClient":
    """A client that gives up within a minute where MLflow's would try for four, not yet checked."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def probe(uri: str) -> None:
    """Ask the store once for a sign of life, without MLflow's patient retries.

    Raises:
        Exception: Whatever the connection gives, when there is none.
    """
    if uri.startswith(("http://", "https://")):
        from mlflow.tracking._tracking_service.utils import get_default_host_creds
        from mlflow.utils.rest_utils import http_request

        credentials = get_default_host_creds(uri)
        settings = {"max_retries": 0, "timeout": PROBE_SECONDS, "raise_on_status": False}
        http_request(credentials, "/health", "GET", **settings)
    elif database := _sqlite_file(uri):
        database.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA schema_version")


def answers(uri: str) -> bool:
    """Whether the store gives a sign of life."""
    try:
        probe(uri)
    except Exception:  # whatever the connection gives
        return False
    return True


@contextmanager
def mlflow_errors(doing: str, kind: type[MixNMatchError] = RunError) -> Iterator[None]:
    """Turn MLflow's errors into one line of ours.

    Args:
        doing: What failed, the beginning of the message.
        kind: Class of the new error.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise kind(f"{doing}: {one_line(error)}") from error


@contextmanager
def storage_errors(doing: str, kind: type[MixNMatchError] = RunError) -> Iterator[None]:
    """As ``mlflow_errors``, where artifacts go in or out: each storage has errors of its own."""
    try:
        yield
    except MixNMatchError:
        raise
    except Exception as error:
        raise kind(f"{doing}: {one_line(error)}") from error


def experiment_names(client: "MlflowClient") -> dict[str, str]:
    """Names of the experiments that are not deleted, by id."""
    names: dict[str, str] = {}
    token = None
    while token != "":
        page = client.search_experiments(page_token=token)
        names |= {str(e.experiment_id): str(e.name) for e in page}
        token = page.token or ""
    return names


def all_runs(
    client: "MlflowClient",
    experiments: Iterable[str],
    filter_string: str = "",
    order_by: list[str] | None = None,
) -> "Iterator[Run]":
    """Runs of some experiments, however many there are; all four as MLflow's search takes them."""
    ids, token = list(experiments), None
    while ids and token != "":
        page = client.search_runs(
            ids, filter_string, max_results=PAGE, page_token=token, order_by=order_by
        )
        yield from page
        token = page.token or ""


def numbers(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics without those that are no number."""
    return {name: value for name, value in metrics.items() if is_number(value)}


def is_number(value: float) -> bool:
    """Whether a metric is neither NaN nor infinity, which SQL stores keep as the largest float."""
    return abs(value) < sys.float_info.max


def one_line(error: BaseException) -> str:
    """The first line of an exception's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def cut(text: str, length: int) -> str:
    """A text of so many characters at most, marked where it was longer."""
    mark = "… (cut)"
    return text if len(text) <= length else text[: length - len(mark)] + mark


def cut_tags(tags: Mapping[str, str]) -> "list[RunTag]":
    """Tags as MLflow takes them."""
    from mlflow.entities import RunTag

    return [RunTag(key, cut(str(value), TAG_LENGTH)) for key, value in tags.items()]


def _sqlite_file(uri: str) -> Path | None:
    prefix = "sqlite:///"
    return Path(uri.removeprefix(prefix)).resolve() if uri.startswith(prefix) else None
