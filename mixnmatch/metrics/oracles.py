"""Networks that judge pictures: taught once on real ones, then kept in the cache.

What such a network was measured to be worth lies in its file, and so is part of every result.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from mixnmatch.data.info import one_line
from mixnmatch.data.views import VIEWS_VERSION
from mixnmatch.errors import RunError
from mixnmatch.files import cache_folder, whole_file

_MEASURED = "__measured__"


def oracle_file(name: str, key: Sequence[object]) -> Path:
    """Where a trained network is kept.

    Args:
        name: What the network is, such as ``judge``; the beginning of its file's name.
        key: All that the trained network is a function of, as JSON types: the version of its
            training, the fingerprint of the data, sizes, steps, seed.
    """
    digest = hashlib.sha256(json.dumps([VIEWS_VERSION, *key]).encode()).hexdigest()[:16]
    return cache_folder() / f"{name}-{digest}.safetensors"


def load_or_train(
    file: Path, network: nn.Module, train: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Fill a network from the cache, or train it now and put it there.

    A file that is damaged, or of another network, is replaced by one trained now. Processes that
    train the same network at once do each other no harm: the last file stays, and all are alike.

    Args:
        file: See ``oracle_file``.
        network: On the CPU; filled in place, then in eval mode and without gradients.
        train: Trains ``network`` and gives what it was measured to be worth, as JSON types.

    Returns:
        What was measured, by name.

    Raises:
        RunError: If it cannot be kept in the cache.
    """
    measured = _read(file, network)
    if measured is None:
        measured = train()
        _write(file, network, measured)
    network.eval().requires_grad_(False)
    return measured


def weights_digest(network: nn.Module) -> str:
    """SHA-256 of a network's weights, in hexadecimal digits; the same on any device."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _read(file: Path, network: nn.Module) -> dict[str, Any] | None:
    """What was measured of the network that now is filled; None if the file is of no use."""
    try:
        state = load_file(file)
        measured = json.loads(bytes(state.pop(_MEASURED).tolist()))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
    wanted = {name: tensor.shape for name, tensor in network.state_dict().items()}
    found = {name: tensor.shape for name, tensor in state.items()}
    if found != wanted or not isinstance(measured, dict):
        return None
    network.load_state_dict(state)
    return measured


def _write(file: Path, network: nn.Module, measured: dict[str, Any]) -> None:
    """Put it in the cache, whole or not at all."""
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    state[_MEASURED] = torch.tensor(list(json.dumps(measured).encode()), dtype=torch.uint8)
    try:
        with whole_file(file) as partial:
            save_file(state, partial)
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"{file}: cannot be kept there ({one_line(error)}): set MIXNMATCH_CACHE to a folder "
            "with room"
        ) from error
