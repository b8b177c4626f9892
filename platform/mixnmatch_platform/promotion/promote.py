"""Promotion: the best run, or a named one, through all gates to champion of a registered model."""

import tempfile
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixnmatch.bundle import ModelBundle, load_bundle
from mixnmatch.data.store import Dataset, open_dataset
from mixnmatch.errors import DataError, InputError, ModelError
from mixnmatch.metrics.evaluate import Runner, observe_here
from mixnmatch_platform.directions import Mode
from mixnmatch_platform.promotion.candidates import Candidate, best_run, named_run, opened
from mixnmatch_platform.promotion.comparison import Comparing
from mixnmatch_platform.promotion.decisions import champion_version, take_turn
from mixnmatch_platform.promotion.gates import Verdict, judge, refuse
from mixnmatch_platform.promotion.release import build_release, smoke_test
from mixnmatch_platform.promotion.request import Outcome, Promotion, Request
from mixnmatch_platform.store import connect_existing, mlflow_errors, numbers
from mixnmatch_platform.tracking import BOTH_STAGES, DATA_TAG, STAGES_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["promote"]

ACTION_TAG, WHY_TAG = "mixnmatch.action", "mixnmatch.why"
METRIC_TAG, VALUE_TAG, RUN_TAG = "mixnmatch.metric", "mixnmatch.value", "mixnmatch.run_name"
RELEASES = "releases"
"""Folder of a run's artifacts that its releases lie in."""


def promote(
    store: str,
    request: Request,
    *,
    runner: Runner = observe_here,
    said: Callable[[str], None] = lambda _: None,
) -> Promotion:
    """Make a run's model the champion of a registered model, or the candidate for it.

    The version is a release that stands alone. Its files are there before an alias names it, and
    of two promotions at once the later one is judged beside the winner of the earlier one.

    Args:
        store: Tracking URI.
        request: What to promote.
        runner: Where cases are observed if models are measured again.
        said: Told what takes time.

    Raises:
        InputError: If there is nothing to promote, or a gate refuses it.
        ModelError: If the run's bundle is missing or damaged.
        RunError: If the store fails half-way.
    """
    mode = request.direction
    assert mode is not None
    client = connect_existing(store)
    with mlflow_errors(f"promotion in {store} failed"), ExitStack() as stack:
        version = champion_version(client, request.name)
        candidate = _candidate(client, store, request, mode, version, said)
        value = numbers(candidate.metrics).get(request.metric)
        if value is None and not request.again:
            raise InputError(
                f"run {candidate.title} has no finite {request.metric!r}: it recorded "
                f"{', '.join(sorted(n for n in candidate.metrics if '/' not in n)) or 'no metrics'}"
                "; --again measures it"
            )
        assert candidate.run_id is not None
        promotion = Promotion(
            name=request.name,
            outcome="would put up" if request.candidate else "would promote",
            version=None,
            run_id=candidate.run_id,
            run_name=candidate.title,
            metric=request.metric,
            mode=mode,
            value=value,
            candidates=candidate.of,
            champion=None if version is None else int(version.version),
            comparison=None,
            gates=[],
        )
        try:
            files = stack.enter_context(opened(client, store, candidate))
            bundle = _whole(files.bundle)
        except ModelError as error:
            figure = "" if value is None else f" ({request.metric} {value:.4g})"
            raise ModelError(
                f"run {candidate.title}{figure} cannot be promoted: gate weights: {error}"
            ) from error
        dataset = _dataset(request, candidate)
        compare = Comparing(
            client, store, request, candidate.run_id, files, bundle, dataset, runner, said, stack
        )
        if compare.is_champion(version):
            return _already(promotion, version)
        licences = {
            "licence": request.licence,
            "data_licence": request.data_licence or _known_licence(dataset),
        }
        metrics, protocols = numbers(files.metrics), [files.protocol]
        if value is None:
            measured = compare.candidate
            protocols = [*(protocols if metrics else []), measured.protocol]
            metrics |= measured.beyond(metrics)
            promotion = replace(promotion, value=metrics[request.metric])
        verdicts = [
            Verdict(gate="weights", passed=True, said="whole, both stages"),
            *judge(request.gates, metrics, *protocols, **licences),
        ]
        title = f"run {candidate.title}"
        refuse(title, verdicts)
        promotion = compare.beside(version, promotion)
        if request.dry_run:
            return _judged(promotion, verdicts)
        work = stack.enter_context(tempfile.TemporaryDirectory(prefix="mixnmatch-release-"))
        said("building the release and trying it in a fresh process")
        release = Path(work) / "release"
        build_release(
            release,
            files.bundle,
            replace(bundle, metrics=bundle.metrics or metrics),
            name=request.name,
            run=candidate.title,
            protocol=protocols[0],
            code=candidate.tags,
            dataset=dataset,
            **licences,
        )
        verdicts.append(smoke_test(release))
        refuse(title, verdicts)
        return _decide(client, request, candidate, promotion, compare, verdicts, release, said)


def _decide(
    client: "MlflowClient",
    request: Request,
    candidate: Candidate,
    promotion: Promotion,
    compare: Comparing,
    verdicts: list[Verdict],
    release: Path,
    said: Callable[[str], None],
) -> Promotion:
    """Wait for the turn, look at the champion again, then upload and set the alias."""
    assert candidate.run_id is not None
    place = f"{RELEASES}/{uuid.uuid4().hex[:12]}"
    with take_turn(
        client,
        request.name,
        source=f"runs:/{candidate.run_id}/{place}",
        run_id=candidate.run_id,
        tags=_tags(request, candidate, promotion),
        description=_description(request, candidate, promotion),
        waiting=lambda count: said(f"waiting for {count} decision(s) before this one"),
    ) as turn:
        version = turn.champion()
        if compare.is_champion(version):
            return _already(promotion, version)
        if version is not None and int(version.version) != promotion.champion:
            promotion = compare.beside(version, promotion)
        promotion = _judged(promotion, verdicts)
        said("uploading the release")
        client.log_artifacts(candidate.run_id, str(release), place)
        outcome: Outcome
        if request.candidate:
            turn.put_up()
            outcome = "put up"
        else:
            turn.tag({"mixnmatch.gates": "; ".join(v.said for v in promotion.gates)})
            turn.crown()
            outcome = "promoted"
        return replace(promotion, outcome=outcome, version=turn.version)


def _already(promotion: Promotion, version: Any) -> Promotion:
    number = int(version.version)
    return replace(promotion, outcome="already champion", version=number, champion=number)


def _judged(promotion: Promotion, verdicts: list[Verdict]) -> Promotion:
    """The promotion with what all gates said."""
    beside, champion = promotion.comparison, promotion.champion
    if beside is not None and champion is not None:
        verdicts = [*verdicts, beside.verdict(promotion.metric, champion)]
    return replace(promotion, gates=verdicts)


def _candidate(
    client: "MlflowClient",
    store: str,
    request: Request,
    mode: Mode,
    champion: Any | None,
    said: Callable[[str], None],
) -> Candidate:
    if request.run is not None:
        return named_run(client, request.run, request.experiment)
    assert request.experiment is not None
    return best_run(
        client,
        store,
        request.experiment,
        request.metric,
        mode,
        gates=request.gates,
        keep=None if champion is None else champion.run_id,
        said=said,
    )


def _whole(folder: Path) -> ModelBundle:
    bundle = load_bundle(folder)
    if bundle.stages != (1, 2):
        raise ModelError(f"{folder} holds a model of stage 1 only")
    return bundle


def _dataset(request: Request, candidate: Candidate) -> Dataset | None:
    """The data set that is named, else that of the run where this machine has it unchanged."""
    if request.data is not None:
        return open_dataset(request.data)
    if candidate.data is None:
        return None
    try:
        dataset = open_dataset(candidate.data)
    except (DataError, InputError):
        return None
    return dataset if dataset.info.fingerprint == candidate.fingerprint else None


def _known_licence(dataset: Dataset | None) -> str | None:
    known = None if dataset is None else dataset.info.licence
    return None if known == "unknown" else known


def _tags(request: Request, candidate: Candidate, promotion: Promotion) -> dict[str, str]:
    tags = {
        ACTION_TAG: "candidate" if request.candidate else "promotion",
        WHY_TAG: request.why,
        METRIC_TAG: request.metric,
        VALUE_TAG: repr(promotion.value),
        "mixnmatch.mode": promotion.mode,
        "mixnmatch.experiment": candidate.experiment,
        RUN_TAG: candidate.title,
        STAGES_TAG: BOTH_STAGES,
        "mixnmatch.licence": request.licence or "",
    }
    if candidate.fingerprint is not None:
        tags[DATA_TAG] = candidate.fingerprint
    return tags


def _description(request: Request, candidate: Candidate, promotion: Promotion) -> str:
    of = f"best of {promotion.candidates}" if request.run is None else "chosen by name"
    why = f"\n\n{request.why}" if request.why else ""
    assert promotion.value is not None
    return (
        f"{request.metric} {promotion.value:.4g} (run {candidate.title} of experiment "
        f"{candidate.experiment}, {of}, stages {BOTH_STAGES}, data "
        f"{candidate.fingerprint or 'unknown'}). The model card is README.md of its artifacts.{why}"
    )
