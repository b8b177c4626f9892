"""Connecting to Ray, a cluster that is there or one of this machine's own, and what fits on it."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mixnmatch
import mixnmatch_platform
from mixnmatch.errors import InputError
from mixnmatch_platform.services import RAY_SETTINGS, ray_address

PACKAGES = [Path(module.__path__[0]) for module in (mixnmatch, mixnmatch_platform)]
JOB_MARK = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray in the driver of a submitted job."""
FORWARDED = ("MLFLOW_", "MIXNMATCH_")
"""Variables of this process that workers get, by how they begin."""

SPARED_CPUS = 0.1
"""Left of each worker's CPUs: a driver's share must not keep the last worker from starting."""


def connect(num_cpus: int | None = None, home: Path | None = None) -> bool:
    """Connect to the cluster that this process belongs to, else start one on this machine.

    A job of ``ray job submit`` finds its cluster in ``RAY_ADDRESS``. Without it, ``local`` is named
    aloud, since Ray would otherwise join the leftovers of another cluster on this machine.
    The cluster that ``platform up`` has begun for a home folder is joined as well.

    Args:
        num_cpus: CPUs of a cluster started here; all of the machine's without it.
        home: Folder of the runs.

    Returns:
        Whether a cluster was started here, which ``ray.shutdown`` then ends.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    own = ray_address(home) if home is not None and "RAY_ADDRESS" not in os.environ else None
    if own is not None:
        os.environ.update(RAY_SETTINGS)
    import ray

    if ray.is_initialized():
        return False
    variables = {k: v for k, v in os.environ.items() if k.startswith(FORWARDED)}
    if address := os.environ.get("RAY_ADDRESS") or own:
        # Nodes may have only the dependencies: both packages travel with the job.
        shipped: dict[str, Any] = {"py_modules": [str(path) for path in PACKAGES]}
        if JOB_MARK not in os.environ:  # a job's own variables reach its workers anyway
            shipped["env_vars"] = variables
        ray.init(address=address, runtime_env=shipped)
        return False
    roots = [str(path.parent) for path in PACKAGES]
    roots += filter(None, [os.environ.get("PYTHONPATH")])
    ray.init(
        address="local",
        num_cpus=num_cpus,
        dashboard_host="127.0.0.1",
        include_dashboard=True,
        runtime_env={"env_vars": {**variables, "PYTHONPATH": os.pathsep.join(roots)}},
    )
    return True


def check_placeable(needed: Mapping[str, float], *, fixed: bool) -> None:
    """Refuse what the connected cluster can never place.

    Args:
        needed: Amounts by resource.
        fixed: Whether the cluster is of this size for good; one that may grow is only warned of.

    Raises:
        InputError: Naming what is asked for and what is there.
    """
    import ray

    there = ray.cluster_resources()
    for resource, amount in needed.items():
        if amount > there.get(resource, 0):
            text = (
                f"{amount:g} {resource} needed at once, the cluster has "
                f"{there.get(resource, 0):g}: ask for fewer or smaller workers, or add nodes"
            )
            if fixed:
                raise InputError(text)
            print(f"{text}; waiting for them", file=sys.stderr, flush=True)


def group_resources(
    workers: int, *, gpus_per_worker: float, cpus_per_worker: float
) -> dict[str, float]:
    """What a worker group takes.

    Raises:
        InputError: If a worker's share is too small, or more than it can use.
    """
    if cpus_per_worker <= SPARED_CPUS:
        raise InputError(
            f"CPUs per worker are {cpus_per_worker:g}: must be more than {SPARED_CPUS}"
        )
    if not 0 <= gpus_per_worker <= 1:
        raise InputError(
            f"GPUs per worker are {gpus_per_worker:g}: must be from 0 to 1, of which it uses one"
        )
    cpus = {"CPU": workers * cpus_per_worker}
    return cpus | ({"GPU": workers * gpus_per_worker} if gpus_per_worker else {})
