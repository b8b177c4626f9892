"""Promotion: the best run, or a named one, through all gates to champion of a registered model."""

import tempfile
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixnmatch.bundle import load_bundle
from mixnmatch.data.store import Dataset, open_dataset
from mixnmatch.errors import DataError, InputError, ModelError
from mixnmatch.metrics.evaluate import Runner, observe_here
from mixnmatch_platform.directions import Mode
from mixnmatch_platform.promotion.candidates import (
    Candidate,
    Opened,
    best_run,
    named_run,
    of_version,
    opened,
)
from mixnmatch_platform.promotion.comparison import Comparison, compare_again, compare_recorded
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
        keep = version.run_id if version is not None else None
        candidate = _candidate(client, request, mode, keep)
        value = numbers(candidate.metrics).get(request.metric)
        if value is None:
            raise InputError(
                f"run {candidate.title} has no finite {request.metric!r}: it recorded "
                f"{', '.join(sorted(n for n in candidate.metrics if '/' not in n)) or 'no metrics'}"
            )
        assert candidate.run_id is not None
        promotion = Promotion(
            name=request.name,
            outcome="already champion",
            version=None if version is None else int(version.version),
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
        if version is not None and version.run_id == candidate.run_id and not request.candidate:
            return promotion
        try:
            files = stack.enter_context(opened(client, store, candidate))
            bundle = load_bundle(files.bundle)
            if bundle.stages != (1, 2):
                raise ModelError(f"{files.bundle} holds a model of stage 1 only")
        except ModelError as error:
            raise ModelError(
                f"run {candidate.title} ({request.metric} {value:.4g}) cannot be promoted: gate "
                f"weights: {error}"
            ) from error
        dataset = _dataset(request, candidate)
        licences = {
            "licence": request.licence,
            "data_licence": request.data_licence or _known_licence(dataset),
        }
        verdicts = [
            Verdict(gate="weights", passed=True, said="whole, both stages"),
            *judge(request.gates, files.metrics, files.protocol, **licences),
        ]
        title = f"run {candidate.title}"
        refuse(title, verdicts)
        compare = _Comparing(client, store, request, mode, files, dataset, runner, said)
        promotion = replace(
            compare.beside(version, promotion),
            outcome="would put up" if request.candidate else "would promote",
            version=None,
        )
        if request.dry_run:
            return _judged(promotion, verdicts)
        work = stack.enter_context(tempfile.TemporaryDirectory(prefix="mixnmatch-release-"))
        said("building the release and trying it in a fresh process")
        release = Path(work) / "release"
        build_release(
            release,
            files.bundle,
            bundle,
            name=request.name,
            run=candidate.title,
            protocol=files.protocol,
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
    compare: "_Comparing",
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
        if version is not None and not request.candidate:
            if version.run_id == candidate.run_id:
                already = replace(promotion, outcome="already champion")
                return replace(already, version=int(version.version), champion=None)
            if int(version.version) != promotion.champion:
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


def _judged(promotion: Promotion, verdicts: list[Verdict]) -> Promotion:
    """The promotion with what all gates said."""
    beside, champion = promotion.comparison, promotion.champion
    if beside is not None and champion is not None:
        verdicts = [*verdicts, beside.verdict(promotion.metric, champion)]
    return replace(promotion, gates=verdicts)


class _Comparing:
    """Compares one candidate with whichever version is champion, each at most once."""

    def __init__(
        self,
        client: "MlflowClient",
        store: str,
        request: Request,
        mode: Mode,
        files: Opened,
        dataset: Dataset | None,
        runner: Runner,
        said: Callable[[str], None],
    ) -> None:
        self._client, self._store, self._request, self._mode = client, store, request, mode
        self._files, self._dataset, self._runner, self._said = files, dataset, runner, said

    def beside(self, version: Any | None, promotion: Promotion) -> Promotion:
        """The promotion with its comparison.

        Raises:
            InputError: If the candidate is not better, and need be.
        """
        if version is None or self._request.candidate:
            return promotion
        number = int(version.version)
        try:
            comparison = self._compare(version)
        except (InputError, ModelError) as error:
            if not self._request.force:
                raise
            self._said(f"not compared with champion v{number}: {error}")
            return replace(promotion, champion=number, comparison=None)
        if not self._request.force:
            verdict = comparison.verdict(self._request.metric, number)
            refuse(f"run {promotion.run_name}", [verdict])
        return replace(promotion, champion=number, comparison=comparison)

    def _compare(self, version: Any) -> Comparison:
        request, metric = self._request, self._request.metric
        with opened(self._client, self._store, of_version(self._client, version)) as champion:
            reason = "it is asked for"
            if not request.again:
                found = compare_recorded(metric, self._mode, self._files, champion)
                if isinstance(found, Comparison):
                    return found
                reason = found
            if self._dataset is None:
                raise InputError(
                    f"gate better than the champion: {reason}, so both must be measured again: "
                    "name the data set with --data, or replace the champion with --force"
                )
            self._said(f"measuring again, because {reason}")
            return compare_again(
                metric,
                self._mode,
                self._files.bundle,
                champion.bundle,
                self._dataset,
                seeds=request.seeds,
                runner=self._runner,
                said=self._said,
            )


def _candidate(client: "MlflowClient", request: Request, mode: Mode, keep: str | None) -> Candidate:
    if request.run is not None:
        return named_run(client, request.run, request.experiment)
    assert request.experiment is not None
    return best_run(client, request.experiment, request.metric, mode, keep=keep)


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
    return (
        f"{request.metric} {promotion.value:.4g} (run {candidate.title} of experiment "
        f"{candidate.experiment}, {of}, stages {BOTH_STAGES}, data "
        f"{candidate.fingerprint or 'unknown'}). The model card is README.md of its artifacts.{why}"
    )
