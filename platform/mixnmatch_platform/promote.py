"""The best run of an experiment becomes the registered model's champion, without a second copy."""

import math
import re
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mixnmatch.errors import InputError, ModelError
from mixnmatch_platform.directions import Mode, known_mode
from mixnmatch_platform.registry import (
    MODEL_NAME,
    artifact_uri,
    download,
    local_folder,
    registered_model,
)
from mixnmatch_platform.store import all_runs, connect_existing, mlflow_errors
from mixnmatch_platform.tracking import BOTH_STAGES, DATA_TAG, STAGES_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["CHAMPION", "Champion", "Promotion", "format_promotion", "promote"]

CHAMPION = "champion"
"""Alias of the version that users get."""
BUNDLE = "bundle"
METRIC_TAG, VALUE_TAG = "mixnmatch.metric", "mixnmatch.value"


@dataclass(frozen=True, kw_only=True, slots=True)
class Champion:
    """The version that holds the alias before a promotion."""

    version: int
    """Its number."""
    run_id: str
    """The run that trained it."""
    run_name: str
    """Name of that run."""
    value: float | None
    """The promoting metric as recorded for it, None if it has none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Promotion:
    """What a promotion did, or would do."""

    name: str
    """Name of the registered model."""
    outcome: Literal["promoted", "would promote", "already champion"]
    """What happened."""
    version: int | None
    """The champion's version now; None in a dry run that found a new one."""
    run_id: str
    """The best run."""
    run_name: str
    """Its name."""
    metric: str
    """The deciding metric."""
    mode: Mode
    """Whether less or more of it is better."""
    value: float
    """Its value in the best run."""
    candidates: int
    """Finished runs with both stages and a finite value, of which this is the best."""
    previous: Champion | None
    """The champion before, if any."""


def promote(
    tracking_uri: str,
    experiment: str,
    *,
    metric: str,
    mode: Mode | None = None,
    name: str,
    dry_run: bool = False,
    force: bool = False,
) -> Promotion:
    """Make the best finished run of an experiment the champion of a registered model.

    The new version points at the bundle that the run has logged; nothing is uploaded again. The
    alias moves last, so that it never names a half-made version.

    Args:
        tracking_uri: The MLflow store.
        experiment: Name of the experiment.
        metric: The metric that decides.
        mode: Whether less or more of it is better; None for the metrics whose direction is known.
        name: Name of the registered model; the first promotion creates it.
        dry_run: Only say what would happen.
        force: Replace a champion that is as good or better.

    Raises:
        InputError: If there is nothing to promote, or nothing better than the champion.
        ModelError: If the best run's bundle is missing or damaged.
        RunError: If the store fails half-way.
    """
    mode = mode or _direction(metric)
    if re.fullmatch(MODEL_NAME, name) is None:
        raise InputError(f"{name!r} is no model name: take letters, digits, spaces, '_', '-', '.'")
    client = connect_existing(tracking_uri)
    with mlflow_errors(f"promotion in {tracking_uri} failed"):
        runs = _candidates(client, experiment)
        values = _values(runs, metric, experiment)
        champion = _champion(client, name, metric)
        best = _best(runs, values, mode, champion)
        promotion = Promotion(
            name=name,
            outcome="would promote",
            version=None,
            run_id=best.info.run_id,
            run_name=best.info.run_name,
            metric=metric,
            mode=mode,
            value=values[best.info.run_id],
            candidates=len(values),
            previous=champion,
        )
        if champion and champion.run_id == promotion.run_id:
            return replace(promotion, outcome="already champion", version=champion.version)
        if not (force or _better(promotion)):
            assert champion is not None
            raise InputError(
                f"the best run of {experiment!r}, {promotion.run_name}, has {metric} "
                f"{promotion.value:.4g}: no better than champion v{champion.version} of {name}, "
                f"which has {champion.value:.4g}; force the promotion if it must be"
            )
        _check_bundle(client, tracking_uri, promotion)
        if dry_run:
            return promotion
        version = _register(client, promotion, experiment, best.data.tags)
    return replace(promotion, outcome="promoted", version=version)


def format_promotion(promotion: Promotion) -> str:
    """One line that says what a promotion did."""
    what, old = promotion, promotion.previous
    run = f"(run {what.run_name}, {what.metric} {what.value:.4g})"
    if what.outcome == "already champion":
        return f"{what.name} v{what.version} {run} is champion already: best of {_of(what)}"
    title = what.name if what.version is None else f"{what.name} v{what.version}"
    if old is None:
        reason = f"best of {_of(what)}, the first champion"
    elif old.value is None:
        reason = f"replaces v{old.version}, which has no {what.metric}"
    else:
        verb = "beats" if _better(what) else "replaces, by force,"
        reason = f"{verb} v{old.version} ({old.value:.4g})"
    return f"{what.outcome} {title} {run}: {reason}"


def _of(promotion: Promotion) -> str:
    return f"{promotion.candidates} run{'s' if promotion.candidates > 1 else ''}"


def _better(promotion: Promotion) -> bool:
    old = promotion.previous.value if promotion.previous else None
    if old is None:
        return True
    return promotion.value < old if promotion.mode == "min" else promotion.value > old


def _direction(metric: str) -> Mode:
    if (mode := known_mode(metric)) is not None:
        return mode
    raise InputError(f"is less or more of {metric!r} better? Say --mode min or --mode max")


def _candidates(client: "MlflowClient", experiment: str) -> list[Any]:
    found = client.get_experiment_by_name(experiment)
    if found is None or found.lifecycle_stage == "deleted":
        known = sorted(other.name for other in client.search_experiments(max_results=50))
        raise InputError(f"no experiment {experiment!r}: known are {', '.join(known)}")
    finished = "attributes.status = 'FINISHED'"
    both = f"{finished} and tags.`{STAGES_TAG}` = '{BOTH_STAGES}'"
    runs: list[Any] = list(all_runs(client, [found.experiment_id], both))
    if not runs:
        some = client.search_runs([found.experiment_id], finished, max_results=1)
        lacks = " with both stages" if some else ""
        raise InputError(f"experiment {experiment!r} has no finished run{lacks}: train one first")
    return runs


def _values(runs: list[Any], metric: str, experiment: str) -> dict[str, float]:
    values = {
        run.info.run_id: float(run.data.metrics[metric])
        for run in runs
        # SQL stores keep an infinity as the largest float.
        if abs(run.data.metrics.get(metric, math.nan)) < sys.float_info.max
    }
    if not values:
        known = sorted({key for run in runs for key in run.data.metrics})
        raise InputError(
            f"none of the {len(runs)} candidates of {experiment!r} has a finite {metric!r}: "
            f"they recorded {', '.join(known) or 'no metrics'}"
        )
    return values


def _best(runs: list[Any], values: dict[str, float], mode: Mode, champion: Champion | None) -> Any:
    sign = 1 if mode == "min" else -1
    kept = champion.run_id if champion else None

    def rank(run: Any) -> tuple[float, bool, int]:
        # Of equal runs the champion stays, else the first one wins.
        run_id = run.info.run_id
        return sign * values[run_id], run_id != kept, run.info.start_time

    return min((run for run in runs if run.info.run_id in values), key=rank)


def _champion(client: "MlflowClient", name: str, metric: str) -> Champion | None:
    from mlflow.exceptions import MlflowException

    model = registered_model(client, name)
    if model is None or CHAMPION not in model.aliases:
        return None
    version = client.get_model_version(name, model.aliases[CHAMPION])
    run_name, value = version.run_id or "", None
    try:
        run = client.get_run(version.run_id)
    except MlflowException:  # deleted for good: the version's own tags have to do
        pass
    else:
        run_name, value = run.info.run_name, run.data.metrics.get(metric)
    if version.tags.get(METRIC_TAG) == metric:
        value = float(version.tags[VALUE_TAG])
    finite = value is not None and abs(value) < sys.float_info.max
    return Champion(
        version=int(version.version),
        run_id=version.run_id or "",
        run_name=run_name,
        value=value if finite else None,
    )


def _check_bundle(client: "MlflowClient", store: str, promotion: Promotion) -> None:
    from mixnmatch.bundle import load_bundle

    location = artifact_uri(client, f"runs:/{promotion.run_id}/{BUNDLE}")
    try:
        if (folder := local_folder(location)) is not None:
            bundle = load_bundle(folder)
        else:
            with tempfile.TemporaryDirectory(prefix="mixnmatch-") as work:
                bundle = load_bundle(download(location, store, Path(work)))
        if bundle.stages != (1, 2):
            raise ModelError(f"{location} holds a model of stage 1 only")
    except ModelError as error:
        raise ModelError(
            f"the best run, {promotion.run_name} ({promotion.metric} {promotion.value:.4g}), "
            f"cannot be promoted: {error}"
        ) from error


def _register(
    client: "MlflowClient", promotion: Promotion, experiment: str, run_tags: dict[str, str]
) -> int:
    name, value = promotion.name, promotion.value
    tags = {
        METRIC_TAG: promotion.metric,
        VALUE_TAG: repr(value),
        "mixnmatch.mode": promotion.mode,
        "mixnmatch.experiment": experiment,
        "mixnmatch.run_name": promotion.run_name,
        STAGES_TAG: BOTH_STAGES,
    }
    data = run_tags.get(DATA_TAG)
    if data is not None:
        tags[DATA_TAG] = data
    if registered_model(client, name) is None:
        client.create_registered_model(name)
    version = client.create_model_version(
        name,
        f"runs:/{promotion.run_id}/{BUNDLE}",
        promotion.run_id,
        tags=tags,
        description=(
            f"{promotion.metric} {value:.4g}, best of {_of(promotion)} of experiment {experiment} "
            f"(run {promotion.run_name}, stages {BOTH_STAGES}, data {data or 'unknown'})"
        ),
        await_creation_for=0,  # nothing is copied, so it is ready at once
    )
    client.set_registered_model_alias(name, CHAMPION, version.version)
    return int(version.version)
