"""Where the FID Inception weights are found, and which ones they are."""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

from mixnmatch.errors import ModelError
from mixnmatch.files import checksum
from mixnmatch.metrics.inception import load_inception

VARIABLE = "MIXNMATCH_INCEPTION_WEIGHTS"
"""The environment variable that names their file."""
FID_SHA256 = "6726825d"
"""How the SHA-256 of the weights begins whose features give a `fid`."""


@dataclass(frozen=True)
class InceptionWeights:
    """A file of weights that the network accepts."""

    path: Path
    sha256: str

    @property
    def name(self) -> str:
        """``inception`` for the FID weights, else with the first digits of their SHA-256."""
        if self.sha256.startswith(FID_SHA256):
            return "inception"
        return f"inception_{self.sha256[:8]}"


def find_weights(setting: str | None) -> InceptionWeights | None:
    """Find, fetch and check the weights.

    Args:
        setting: A file; ``auto`` for the one that the environment variable ``VARIABLE`` names, else
            the one in torch's hub cache, if it is there; ``download`` for the same, but fetched
            into that cache where it is missing; or none.

    Returns:
        None where there are none, and none were asked for by path or ``download``.

    Raises:
        ModelError: If a file that is named is missing or holds something else, or the download
            fails.
    """
    path = _file(setting)
    if path is None and setting == "download":
        path = _download()
    return None if path is None else _identify(path)


def extractor_name(setting: str | None) -> str | None:
    """The name of the weights that ``find_weights`` would give, without a download.

    Raises:
        ModelError: If a file that is named is missing or holds something else.
    """
    path = _file(setting)
    if path is not None:
        return _identify(path).name
    return "inception" if setting == "download" else None


def hub_file() -> Path:
    """The place of the FID weights in torch's hub cache, as torch-fidelity has it."""
    return Path(torch.hub.get_dir()) / "checkpoints" / URL_INCEPTION_V3.rpartition("/")[2]


def _file(setting: str | None) -> Path | None:
    if setting is None:
        return None
    if setting not in ("auto", "download"):
        return Path(setting)
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    return hub_file() if hub_file().is_file() else None


def _identify(path: Path) -> InceptionWeights:
    try:
        state = path.stat()
    except OSError:
        state = None
    if state is None or not path.is_file():
        raise ModelError(
            f"{path}: no such file; `fid` needs the FID Inception weights ({URL_INCEPTION_V3})"
        )
    return _identify_version(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4)
def _identify_version(path: Path, _changed: int, _size: int) -> InceptionWeights:
    """Of a file as it is now, read once a process."""
    try:
        found = InceptionWeights(path, checksum(path))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error})") from error
    if found.name != "inception":
        load_inception(path)  # refuses what is no such state
    return found


def _download() -> Path:
    path = hub_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written under a temporary name, checked, then renamed.
        torch.hub.download_url_to_file(
            URL_INCEPTION_V3, str(path), hash_prefix=FID_SHA256, progress=False
        )
    except (OSError, RuntimeError) as error:  # no network or room; another file at the address
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"{URL_INCEPTION_V3}: the FID Inception weights cannot be fetched ({reason}): put that "
            f"file at {path}, name it in evaluation.inception_weights or {VARIABLE}, or set "
            "evaluation.inception_weights to null"
        ) from error
    return path
