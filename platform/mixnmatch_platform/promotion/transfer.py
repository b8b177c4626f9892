"""Models on their way between stores that do not know each other: as a plain folder."""

import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mixnmatch.bundle import DESCRIPTION, WEIGHTS, bundle_metrics, load_bundle
from mixnmatch.errors import InputError, ModelError
from mixnmatch.files import checksum, replace_folder
from mixnmatch.metrics.protocol import PROTOCOL
from mixnmatch_platform.promotion.release import CARD
from mixnmatch_platform.protocols import protocol_tags
from mixnmatch_platform.registry import BUNDLE, bundle_in, fetch_release
from mixnmatch_platform.store import connect, new_client, storage_errors
from mixnmatch_platform.tracking import BOTH_STAGES, DATA_TAG, STAGES_TAG, Tracking

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["Imported", "export_model", "import_model"]

MANIFEST = "SHA256SUMS"


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """A model that came in."""

    run_id: str
    """The finished run that holds it now."""
    run_name: str
    """Its name."""
    experiment: str
    """Its experiment."""


def export_model(uri: str, out: Path, store: str) -> Path:
    """Copy a promoted model's release to a folder, with the checksums of its files.

    Args:
        uri: ``models:/NAME@ALIAS`` and the like.
        out: The folder; must not exist, or be empty.
        store: Tracking URI.

    Raises:
        ModelError: If there is no such model, or its files are gone.
        InputError: If ``out`` holds something.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists: export to a new folder")
    release = fetch_release(uri, store)
    load_bundle(bundle_in(release))  # never hand on what is damaged
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(release, work / "new", ignore=ignored)
        _write_manifest(work / "new")
        replace_folder(work / "new", out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return out


def import_model(folder: Path, tracking: Tracking, name: str | None = None) -> Imported:
    """Make an exported release, or any bundle, a finished run that can be promoted.

    Args:
        folder: The release or bundle.
        tracking: Store and experiment of the new run.
        name: Name of the run; the folder's by default.

    Raises:
        ModelError: If the folder holds no model, or files differ from their checksums.
        InputError: If the model is of stage 1 only, or the store is away.
        RunError: If it fails half-way; the run is shown as failed then.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder")
    _check_manifest(folder)
    place = bundle_in(folder)
    bundle = load_bundle(place)
    if bundle.stages != (1, 2):
        raise InputError(f"{place} has been through stage 1 only: wanted are both stages")
    files = [place / DESCRIPTION, place / WEIGHTS]
    beside = [file for file in (folder / PROTOCOL, folder / CARD) if file.is_file()]
    for file in (*files, *beside):
        _check_inside(file, folder)
    run_name = name or folder.absolute().name
    connect(tracking.uri)
    run_id = tracking.start_run(
        run_name,
        params={"imported_from": folder.name},
        tags={
            "mixnmatch.kind": "import",
            STAGES_TAG: BOTH_STAGES,
            DATA_TAG: str(bundle.data.get("fingerprint", "unknown")),
            **_protocol_tags(folder),
        },
    )
    # Those at step 0 are taken for the untrained model's.
    steps = bundle.config.stage1.steps + bundle.config.stage2.steps
    client = new_client(tracking.uri)
    try:
        with storage_errors(f"{folder} could not be imported"):
            _log_figures(client, run_id, bundle_metrics(place), max(1, steps))
            for file in files:
                client.log_artifact(run_id, str(file), BUNDLE)
            for file in beside:
                client.log_artifact(run_id, str(file))
            tracking.finish(run_id, "FINISHED")
    except BaseException:
        with suppress(Exception):  # the first error is the one to tell
            tracking.finish(run_id, "FAILED")
        raise
    return Imported(run_id=run_id, run_name=run_name, experiment=tracking.experiment)


def _log_figures(
    client: "MlflowClient", run_id: str, figures: Mapping[str, float], step: int
) -> None:
    from mlflow.entities import Metric
    from mlflow.utils.time import get_current_time_millis

    now = get_current_time_millis()
    metrics = [Metric(key, value, now, step) for key, value in figures.items()]
    for first in range(0, len(metrics), 500):
        client.log_batch(run_id, metrics=metrics[first : first + 500])


def _protocol_tags(folder: Path) -> dict[str, str]:
    try:
        return protocol_tags(folder)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{folder / PROTOCOL} cannot be read: {error!r}") from error


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)


def _write_manifest(folder: Path) -> None:
    lines = [f"{checksum(file)}  {file.relative_to(folder).as_posix()}" for file in _files(folder)]
    (folder / MANIFEST).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _check_manifest(folder: Path) -> None:
    manifest = folder / MANIFEST
    if not manifest.is_file():
        return  # a bundle has its own checksum
    for line in manifest.read_text(encoding="utf-8").splitlines():
        expected, _, name = line.partition("  ")
        file = folder / name
        _check_inside(file, folder)
        if not file.is_file():
            raise ModelError(f"{folder} is incomplete: {name} of {MANIFEST} is missing")
        if checksum(file) != expected:
            raise ModelError(f"{file} is damaged: its sha256 is not that of {MANIFEST}")


def _check_inside(file: Path, folder: Path) -> None:
    """Refuse what somebody else's folder may only point at."""
    if not file.resolve().is_relative_to(folder.resolve()):
        raise ModelError(f"{file} lies outside of {folder}: copy it there")
