"""What can be promoted: the best finished run of an experiment, or one that is named."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixnmatch.bundle import DESCRIPTION, bundle_metrics
from mixnmatch.errors import InputError, ModelError
from mixnmatch.metrics.protocol import PROTOCOL
from mixnmatch_platform.compare import FINISHED, RunRecord, read_experiment
from mixnmatch_platform.directions import Mode
from mixnmatch_platform.promotion.gates import Gates, judge_protocol
from mixnmatch_platform.protocols import read_protocol
from mixnmatch_platform.registry import BUNDLE, bundle_in, fetched, known_run
from mixnmatch_platform.store import all_runs, experiment_names
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
    is_version: bool = False
    """Whether it is a version: its run may have been trained on since, and tells of another model
    then than the version's own files."""


def best_run(
    client: "MlflowClient",
    store: str,
    experiment: str,
    metric: str,
    mode: Mode,
    *,
    gates: Gates,
    keep: str | None = None,
    said: Callable[[str], None] = lambda _: None,
) -> Candidate:
    """The best finished run with both stages, of those that `platform compare` would rank together.

    Args:
        client: Of the store.
        store: Its tracking URI.
        experiment: Name of the experiment.
        metric: The figure that decides.
        mode: Whether less or more of it is better.
        gates: Runs that were measured as they want come before all others.
        keep: A run that wins among equals; else the first one does.
        said: Told of runs that are not ranked.

    Raises:
        InputError: If there is none with a finite value.
    """
    known = read_experiment(store, experiment)
    runs = _with_figure(known.runs, metric, experiment)
    ranked = replace(known, runs=tuple(_measured_as_wanted(client, runs, gates))).ranked
    if len(ranked) < len(runs):
        said(
            f"{len(ranked)} of {len(runs)} candidates are ranked, those whose protocol is "
            f"{ranked[0].protocol}: --run takes another"
        )
    sign = 1 if mode == "min" else -1
    best = min(ranked, key=lambda run: (sign * run.metrics[metric], run.row.run_id != keep))
    return _candidate(client.get_run(best.row.run_id), experiment, of=len(ranked))


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
    finished = [r for r in found if r.info.status == FINISHED]
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
    known: dict[str, Any] = {"title": f"v{version.version}", "source": version.source}
    run = known_run(client, version.run_id) if version.run_id else None
    if run is None:
        return Candidate(**known, run_id=None, metrics={}, is_version=True)
    return replace(_candidate(run, ""), **known, is_version=True)


@dataclass(frozen=True, slots=True)
class Opened:
    """The files of a candidate on this machine."""

    bundle: Path
    """Its model."""
    protocol: dict[str, Any] | None
    """How its figures were measured, where that was recorded."""
    metrics: dict[str, float]
    """Its figures: those of its run, else of its bundle; of a version the other way round."""
    sha256: str
    """Of its weights, as its bundle has it."""


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
            own = bundle_metrics(bundle)
            sha256 = str(json.loads((bundle / DESCRIPTION).read_text("utf-8"))["sha256"])
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise ModelError(f"{bundle} cannot be read: {error}") from error
        first, second = (
            (own, candidate.metrics) if candidate.is_version else (candidate.metrics, own)
        )
        yield Opened(bundle, protocol, first or second, sha256)


def _protocol(client: "MlflowClient", candidate: Candidate, folder: Path) -> dict[str, Any] | None:
    """That of a release, which holds it, else that of the run."""
    file = folder / PROTOCOL
    if file.is_file():
        protocol: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return protocol
    if candidate.run_id is None or bundle_in(folder) != folder:
        return None
    return read_protocol(client, candidate.run_id)


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


def _with_figure(runs: Sequence[RunRecord], metric: str, experiment: str) -> list[RunRecord]:
    """Those that may be promoted and have recorded a figure."""
    finished = [run for run in runs if run.finished]
    whole = [run for run in finished if run.stages == BOTH_STAGES]
    if not whole:
        lacks = " with both stages" if finished else ""
        raise InputError(f"experiment {experiment!r} has no finished run{lacks}: train one first")
    found = [run for run in whole if metric in run.metrics]
    if not found:
        known = sorted({key for run in whole for key in run.metrics})
        raise InputError(
            f"none of the {len(whole)} candidates of {experiment!r} has a finite {metric!r}: they "
            f"recorded {', '.join(known) or 'no metrics'}; --run with --again measures one"
        )
    return found


def _measured_as_wanted(
    client: "MlflowClient", runs: list[RunRecord], gates: Gates
) -> list[RunRecord]:
    """Those whose way to be measured passes the gates; all, if none does: the gates say why."""
    if gates.protocol is None and not gates.samples:
        return runs
    ways = {run.protocol: run.row.run_id for run in runs}
    passing = {
        name
        for name, run_id in ways.items()
        if all(verdict.passed for verdict in judge_protocol(gates, read_protocol(client, run_id)))
    }
    return [run for run in runs if run.protocol in passing] or runs


def _experiment_id(client: "MlflowClient", experiment: str) -> str:
    found = client.get_experiment_by_name(experiment)
    if found is None or found.lifecycle_stage == "deleted":
        known = sorted(other.name for other in client.search_experiments(max_results=50))
        raise InputError(f"no experiment {experiment!r}: known are {', '.join(known)}")
    return str(found.experiment_id)
