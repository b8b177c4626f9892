"""Whether a cluster has room, or can ever get it, for what is asked of it at once."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from mixnmatch.errors import InputError

__all__ = ["Bundle", "check_placeable", "may_grow", "worker_bundle"]

Bundle = Mapping[str, float]
"""Amounts by resource, which one machine must have."""

SPARED_CPUS = 0.1
"""Left of each worker's CPUs: a driver's share must not keep the last worker from starting."""
LAUNCHED = Path("~/ray_bootstrap_config.yaml")
"""Where Ray's launcher leaves the description of a cluster, on its head."""
UNMANAGED = "node_"
"""How Ray names the types of machines that no autoscaler has started."""


def worker_bundle(*, gpus_per_worker: float, cpus_per_worker: float) -> dict[str, float]:
    """What a worker takes.

    Raises:
        InputError: If its share is too small, or more than it can use.
    """
    if cpus_per_worker <= SPARED_CPUS:
        raise InputError(
            f"CPUs per worker are {cpus_per_worker:g}: must be more than {SPARED_CPUS}"
        )
    if not 0 <= gpus_per_worker <= 1:
        raise InputError(
            f"GPUs per worker are {gpus_per_worker:g}: must be from 0 to 1, of which it uses one"
        )
    return {"CPU": cpus_per_worker} | ({"GPU": gpus_per_worker} if gpus_per_worker else {})


def check_placeable(bundle: Bundle, count: int, *, grows: bool) -> None:
    """Refuse what the connected cluster can never place.

    Args:
        bundle: What one worker takes, of one machine.
        count: Workers that run at once.
        grows: Whether the cluster may get more machines; then it is only said what is missing,
            unless its description has no machines that would do.

    Raises:
        InputError: Naming what is asked for and what is there.
    """
    import ray

    there = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if (placed := _room(bundle, there, count)) == count:
        return
    needed = f"{count} × {_words(bundle)} needed at once, the cluster"
    has = f"has room for {placed} ({_machines(bundle, there)})"
    if not grows:
        raise InputError(f"{needed} {has}: ask for fewer or smaller workers, or add machines")
    if (types := _launched()) and (most := _room(bundle, types, count)) < count:
        raise InputError(
            f"{needed} of {LAUNCHED} can have room for {most} ({_machines(bundle, types)}): ask "
            "for fewer or smaller workers, or larger or more machines"
        )
    print(f"{needed} {has}; waiting for more", file=sys.stderr, flush=True)


def may_grow() -> bool:
    """Whether an autoscaler looks after the connected cluster; also where that is not known yet."""
    # There is no public way to ask; another Ray may write another report, or none.
    with suppress(ImportError, AttributeError, KeyError, TypeError, ValueError):
        from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
        from ray._private.worker import global_worker

        status = global_worker.gcs_client.internal_kv_get(DEBUG_AUTOSCALING_STATUS.encode(), None)
        report = json.loads(status)["autoscaler_report"]
        return not all(kind.startswith(UNMANAGED) for kind in report["active_nodes"])
    return True


def _room(bundle: Bundle, machines: Iterable[Bundle], most: int) -> int:
    """How many of equal bundles find room, each on one machine; at most so many."""
    found = 0
    for machine in machines:
        fits = [machine.get(kind, 0) / amount for kind, amount in bundle.items() if amount]
        found += int(min(fits, default=most) + 1e-9)
    return min(found, most)


def _launched() -> list[Bundle]:
    """The machines that the cluster may come to, where its launcher has said so."""
    import yaml

    file = LAUNCHED.expanduser()
    if not file.is_file():
        return []
    types = yaml.safe_load(file.read_text(encoding="utf-8")).get("available_node_types", {})
    return [
        kind["resources"]
        for kind in types.values()
        if "resources" in kind
        for _ in range(kind.get("max_workers", 0))
    ]


def _machines(bundle: Bundle, machines: Sequence[Bundle]) -> str:
    """What there is of the resources in question, machine by machine."""
    words = [_words({kind: machine.get(kind, 0) for kind in bundle}) for machine in machines]
    counted = [f"{words.count(word)} × {word}" for word in dict.fromkeys(words)]
    return "machines: " + (", ".join(counted) or "none")


def _words(bundle: Bundle) -> str:
    return " and ".join(f"{amount:g} {kind}" for kind, amount in bundle.items())
