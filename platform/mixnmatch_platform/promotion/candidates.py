"""What can be promoted: the best finished run of an experiment, or one that is named."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixnmatch.bundle import bundle_metrics
from mixnmatch.errors import InputError, ModelError
from mixnmatch.metrics.protocol import PROTOCOL
from mixnmatch_platform.directions import Mode
from mixnmatch_platform.protocols import read_protocol
from mixnmatch_platform.registry import BUNDLE, bundle_in, fetched
from mixnmatch_platform.store import all_runs, experiment_names, numbers
from mixnmatch_platform.tracking import BOTH_STAGES, DATA_TAG, STAGES_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["Candidate", "best_run", "named_run", "of_version", "opened"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A finished run, or a version that came of one."""

    title: str
    """Name of the run, or of the version."""
    run_id: str | None
    """Its MLflow run; None where that is gone."""
    source: str
    """Its files: ``runs:/ID/bundle``, or a version's source."""
    metrics: dict[str, float]
    """Its last figures, with ``low/…``, ``high/…`` and ``chance/…``."""
    of: int = 1
    """Runs of which it is the best."""
    experiment: str = ""
    """Name of its experiment."""
    data: str | None = None
    """Data set that it was trained on, as its run has it: a folder or URL."""
    fingerprint: str | None = None
    """Of that data set."""
    tags: dict[str, str] = field(default_factory=dict)
    """Of its run."""


def best_run(
    client: "MlflowClient", experiment: str, metric: str, mode: Mode, *, keep: str | None = None
) -> Candidate:
    """The best finished run with both stages.

    Args:
        client: Of the store.
        experiment: Name of the experiment.
        metric: The figure that decides.
        mode: Whether less or more of it is better.
        keep: A run that wins among equals; else the first one does.

    Raises:
        InputError: If there is none with a finite value.
    """
    runs = _finished(client, experiment)
    values = _values(runs, metric, experiment)
    sign = 1 if mode == "min" else -1

    def rank(run: Any) -> tuple[float, bool, int]:
        run_id = run.info.run_id
        return sign * values[run_id], run_id != keep, run.info.start_time

    best = min((run for run in runs if run.info.run_id in values), key=rank)
    return _candidate(best, experiment, of=len(values))


def named_run(client: "MlflowClient", run: str, experiment: str | None = None) -> Candidate:
    """A run by its id or, in an experiment, its name: the newest finished one.

    Raises:
        InputError: If there is none, or it has not finished both stages.
    """
    names = experiment_names(client)
    if experiment is not None:
        names = {_experiment_id(client, experiment): experiment}
    quoted = run.replace("'", "")
    found = list(all_runs(client, names, f"attributes.run_id = '{quoted}'")) or list(
        all_runs(client, names, f"attributes.run_name = '{quoted}'", ["attributes.start_time DESC"])
    )
    where = f"experiment {experiment!r}" if experiment else "any experiment"
    if not found:
        raise InputError(f"no run {run!r} in {where}: `platform runs` lists them")
    finished = [r for r in found if r.info.status == "FINISHED"]
    if not finished:
        raise InputError(f"run {run!r} is {found[0].info.status}: only a FINISHED one is promoted")
    best = finished[0]
    if (stages := best.data.tags.get(STAGES_TAG)) != BOTH_STAGES:
        raise InputError(
            f"gate stages: run {run!r} has been through {stages or 'none'}, wanted are 1+2"
        )
    return _candidate(best, names[best.info.experiment_id])


def of_version(client: "MlflowClient", version: Any) -> Candidate:
    """What a version of a model was promoted from, or stands for where its run is gone."""
    from mlflow.exceptions import MlflowException

    title = f"v{version.version}"
    try:
        run = client.get_run(version.run_id) if version.run_id else None
    except MlflowException:  # deleted for good: the version's own files have to do
        run = None
    if run is None:
        return Candidate(title=title, run_id=None, source=version.source, metrics={})
    return replace(_candidate(run, ""), title=title, source=version.source)


@dataclass(frozen=True, slots=True)
class Opened:
    """The files of a candidate on this machine."""

    bundle: Path
    """Its model."""
    protocol: dict[str, Any] | None
    """How its figures were measured, where that was recorded."""
    metrics: dict[str, float]
    """Its figures: those of its run, else of its bundle."""


@contextmanager
def opened(client: "MlflowClient", store: str, candidate: Candidate) -> Iterator[Opened]:
    """A candidate's files, fetched for as long as the block takes.

    Raises:
        ModelError: If they are not there or cannot be fetched.
    """
    with fetched(client, store, candidate.source) as folder:
        bundle = bundle_in(folder)
        if not bundle.is_dir():
            raise ModelError(f"{candidate.title} has no model in {candidate.source}")
        protocol = _protocol(client, candidate, folder)
        try:
            metrics = candidate.metrics or bundle_metrics(bundle)
        except (OSError, ValueError) as error:
            raise ModelError(f"{bundle} cannot be read: {error}") from error
        yield Opened(bundle, protocol, metrics)


def _protocol(client: "MlflowClient", candidate: Candidate, folder: Path) -> dict[str, Any] | None:
    """That of a release, which holds it, else that of the run."""
    file = folder / PROTOCOL
    if file.is_file():
        protocol: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return protocol
    return None if candidate.run_id is None else read_protocol(client, candidate.run_id)


def _candidate(run: Any, experiment: str, *, of: int = 1) -> Candidate:
    return Candidate(
        title=run.info.run_name,
        run_id=run.info.run_id,
        source=f"runs:/{run.info.run_id}/{BUNDLE}",
        metrics=dict(run.data.metrics),
        of=of,
        experiment=experiment,
        data=run.data.params.get("data"),
        fingerprint=run.data.tags.get(DATA_TAG),
        tags=dict(run.data.tags),
    )


def _finished(client: "MlflowClient", experiment: str) -> list[Any]:
    experiment_id = _experiment_id(client, experiment)
    finished = "attributes.status = 'FINISHED'"
    both = f"{finished} and tags.`{STAGES_TAG}` = '{BOTH_STAGES}'"
    runs: list[Any] = list(all_runs(client, [experiment_id], both))
    if not runs:
        some = client.search_runs([experiment_id], finished, max_results=1)
        lacks = " with both stages" if some else ""
        raise InputError(f"experiment {experiment!r} has no finished run{lacks}: train one first")
    return runs


def _experiment_id(client: "MlflowClient", experiment: str) -> str:
    found = client.get_experiment_by_name(experiment)
    if found is None or found.lifecycle_stage == "deleted":
        known = sorted(other.name for other in client.search_experiments(max_results=50))
        raise InputError(f"no experiment {experiment!r}: known are {', '.join(known)}")
    return str(found.experiment_id)


def _values(runs: list[Any], metric: str, experiment: str) -> dict[str, float]:
    values = {
        run.info.run_id: value
        for run in runs
        if (value := numbers(run.data.metrics).get(metric)) is not None
    }
    if not values:
        known = sorted({key for run in runs for key in run.data.metrics})
        raise InputError(
            f"none of the {len(runs)} candidates of {experiment!r} has a finite {metric!r}: "
            f"they recorded {', '.join(known) or 'no metrics'}"
        )
    return values
