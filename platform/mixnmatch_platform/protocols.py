"""How the figures of runs were measured: protocols by a short name, and what two differ in."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixnmatch.metrics.protocol import PROTOCOL, conditions
from mixnmatch_platform.artifacts import read_artifact

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["PROTOCOL_TAG", "differences", "protocol_key", "protocol_tags", "read_protocol"]

PROTOCOL_TAG = "mixnmatch.protocol"
"""Tag of a run: the short name of how its last figures were measured."""


def protocol_key(protocol: Mapping[str, Mapping[str, Any]]) -> str:
    """A short name that two protocols share if figures of the one may be set beside the other's.

    It is the number of samples and a part of a hash, for instance ``1,024 samples 5be01a7c``.
    """
    text = json.dumps(conditions(protocol), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{protocol['generated']['samples']:,} samples {digest}"


def protocol_tags(out: Path) -> dict[str, str]:
    """The tag of the run in a folder; none where nothing was measured."""
    file = out / PROTOCOL
    if not file.is_file():
        return {}
    return {PROTOCOL_TAG: protocol_key(json.loads(file.read_text(encoding="utf-8")))}


def read_protocol(client: "MlflowClient", run_id: str) -> dict[str, Any] | None:
    """The protocol of a run's last evaluation, None where it has recorded none."""
    text = read_artifact(client, run_id, PROTOCOL)
    if text is None:
        return None
    protocol: dict[str, Any] = json.loads(text)
    return protocol


def differences(
    first: Mapping[str, Mapping[str, Any]], second: Mapping[str, Mapping[str, Any]]
) -> dict[str, tuple[Any, Any]]:
    """The conditions that two protocols differ in, with both values; empty where they agree."""
    a, b = conditions(first), conditions(second)
    names = sorted(a.keys() | b.keys())
    return {name: (a.get(name), b.get(name)) for name in names if a.get(name) != b.get(name)}
