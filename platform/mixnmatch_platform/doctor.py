"""Checks of a machine before work that takes days, each with how to mend what it finds."""

import importlib.metadata
import os
import platform
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from mixnmatch.data.store import open_dataset
from mixnmatch.errors import MixNMatchError, without_passwords
from mixnmatch_platform.services import Ports, is_free, services
from mixnmatch_platform.store import connect, one_line, tracking_uri

__all__ = ["Finding", "examine"]

DISTRIBUTION = "mixnmatch-platform"
SHOWN = ("torch", "torchvision", "ray", "mlflow", "optuna")
DISK_GIB = 10.0
"""Free space that a sweep of small models needs; below a tenth of it nothing should begin."""
SHARED_GIB = 1.0
"""Free shared memory that Ray's object store and its workers need."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one check has found."""

    name: str
    """Of the check."""
    state: Literal["ok", "warn", "bad"]
    """Whether it must be mended."""
    said: str
    """What is so."""
    mend: str = ""
    """What to do about it."""


def examine(home: Path, data: Path | str | None, checkpoints: str | None) -> list[Finding]:
    """All checks of this machine.

    Args:
        home: Folder of the runs.
        data: A data set to check too.
        checkpoints: URL of a store of checkpoints to check too.
    """
    checks: list[Callable[[], Iterator[Finding]]] = [
        _versions,
        _gpu,
        _memory,
        lambda: _disk(home),
        lambda: _ports(home),
        lambda: _runs_folder(home),
        lambda: _tracking(home),
    ]
    if data is not None:
        checks.append(lambda: _data(data))
    if checkpoints is not None:
        checks.append(lambda: _checkpoints(checkpoints))
    return [finding for check in checks for finding in check()]


def _versions() -> Iterator[Finding]:
    wrong = []
    try:
        from packaging.requirements import Requirement

        for text in importlib.metadata.requires(DISTRIBUTION) or []:
            requirement = Requirement(text)
            if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
                continue
            try:
                version = importlib.metadata.version(requirement.name)
            except importlib.metadata.PackageNotFoundError:
                wrong.append(f"{requirement.name} is missing")
                continue
            if version not in requirement.specifier:
                wrong.append(f"{requirement.name} is {version}, not {requirement.specifier}")
    except importlib.metadata.PackageNotFoundError:
        wrong.append(f"{DISTRIBUTION} itself is not installed")
    have = [f"Python {platform.python_version()}"]
    for name in SHOWN:
        try:
            have.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    if wrong:
        mend = "pip install --constraint constraints.txt --editable ."
        yield Finding(name="versions", state="bad", said="; ".join(wrong), mend=mend)
    else:
        yield Finding(name="versions", state="ok", said=", ".join(have))


def _gpu() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
        yield Finding(name="gpu", state="ok", said=f"{', '.join(names)}; CUDA {torch.version.cuda}")
    elif shutil.which("nvidia-smi"):
        yield Finding(
            name="gpu",
            state="bad",
            said=f"there is a driver, but this torch ({torch.__version__}) cannot use it",
            mend=f"update the NVIDIA driver to one for CUDA {torch.version.cuda}, or install the "
            "torch of your driver's CUDA",
        )
    else:
        yield Finding(
            name="gpu",
            state="warn",
            said="none: 32 px models train on CPUs in minutes, 128 px ones in weeks",
            mend="for 64 px and more take a machine with a GPU, or a cluster (cluster/README.md)",
        )


def _memory() -> Iterator[Finding]:
    gib = psutil.virtual_memory().available / 2**30
    few = gib < 4
    yield Finding(
        name="memory",
        state="warn" if few else "ok",
        said=f"{gib:.1f} GiB free, {os.cpu_count()} CPUs",
        mend="a small trial takes about 1 GiB: close something, or --concurrent 1" if few else "",
    )
    shared = Path("/dev/shm")
    if shared.is_dir():
        free = shutil.disk_usage(shared).free / 2**30
        yield Finding(
            name="shared mem",
            state="ok" if free >= SHARED_GIB else "warn",
            said=f"{free:.1f} GiB free in {shared}",
            mend="" if free >= SHARED_GIB else "give the container more, as docker's --shm-size=4g",
        )


def _disk(home: Path) -> Iterator[Finding]:
    there = next(folder for folder in (home, *home.parents) if folder.is_dir())
    for name, folder in (("disk", there), ("disk of /tmp", Path("/tmp"))):
        free = shutil.disk_usage(folder).free / 2**30
        state: Literal["ok", "warn", "bad"] = "ok" if free >= DISK_GIB else "warn"
        if free < DISK_GIB / 10:
            state = "bad"
        mend = f"free some: {DISK_GIB:g} GiB are wanted; a run's checkpoint_keep makes it smaller"
        said = f"{free:.1f} GiB free in {folder}"
        yield Finding(name=name, state=state, said=said, mend="" if state == "ok" else mend)


def _ports(home: Path) -> Iterator[Finding]:
    own = {service.name: service for service in services(home)}
    ports = Ports()
    wanted = {"ray": (ports.ray, ports.dashboard), "mlflow": (ports.mlflow,)}
    for name, numbers in wanted.items():
        if (service := own.get(name)) is not None:
            state: Literal["ok", "warn"] = "ok" if service.answers else "warn"
            said = f"up at {service.url}" + ("" if state == "ok" else ", and does not answer")
            mend = "" if state == "ok" else "platform down, then platform up"
            yield Finding(name=f"port {name}", state=state, said=said, mend=mend)
            continue
        taken = [port for port in numbers if not is_free(port)]
        shown = ", ".join(map(str, taken or numbers))
        yield Finding(
            name=f"port {name}",
            state="warn" if taken else "ok",
            said=f"{shown} {'in use by another program' if taken else 'free'}",
            mend="platform up with other ports, or end that program" if taken else "",
        )


def _runs_folder(home: Path) -> Iterator[Finding]:
    from mixnmatch_platform.locks import hold

    trial = home / f".doctor-{uuid.uuid4().hex[:8]}"
    new = [folder for folder in (home, *home.parents) if not folder.exists()]
    try:
        with hold(trial, wait_seconds=0):
            pass
        yield Finding(name="runs", state="ok", said=f"{home} takes files and locks")
    except (OSError, MixNMatchError) as error:
        yield Finding(
            name="runs", state="bad", said=f"{home}: {one_line(error)}", mend="take another --home"
        )
    finally:
        shutil.rmtree(trial, ignore_errors=True)
        for folder in new:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def _tracking(home: Path) -> Iterator[Finding]:
    uri = tracking_uri(home)
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        yield Finding(name="tracking", state="ok", said=f"{uri} will be made by the first run")
        return
    try:
        connect(uri)
        yield Finding(name="tracking", state="ok", said=f"{without_passwords(uri)} answers")
    except MixNMatchError as error:
        said = without_passwords(one_line(error))
        mend = "start its server, or correct or unset MLFLOW_TRACKING_URI"
        yield Finding(name="tracking", state="bad", said=said, mend=mend)


def _data(data: Path | str) -> Iterator[Finding]:
    try:
        info = open_dataset(data).info
        said = f"{data}: {info.count} pictures, fingerprint {info.fingerprint[:12]}"
        yield Finding(name="data", state="ok", said=said)
    except (OSError, MixNMatchError) as error:
        mend = "make it with platform ingest or mixnmatch data ingest"
        yield Finding(name="data", state="bad", said=one_line(error), mend=mend)


def _checkpoints(url: str) -> Iterator[Finding]:
    import fsspec

    try:
        filesystem, path = fsspec.core.url_to_fs(url)
        probe = f"{path.rstrip('/')}/.doctor-{uuid.uuid4().hex[:8]}"
        filesystem.makedirs(path, exist_ok=True)
        filesystem.pipe_file(probe, b"whole")
        kept = filesystem.cat_file(probe) == b"whole"
        filesystem.rm_file(probe)
        if not kept:
            raise OSError("what was written is not what is read")
        yield Finding(name="checkpoints", state="ok", said=f"{url} can be written and read")
    except Exception as error:  # each kind of store has errors of its own
        yield Finding(
            name="checkpoints",
            state="bad",
            said=f"{url}: {type(error).__name__}: {one_line(error)}",
            mend="give its credentials in the environment, and install its driver (s3fs, gcsfs)",
        )
