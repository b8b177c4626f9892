"""Connecting to Ray: a cluster that is there, or one of this machine's own."""

import os
from pathlib import Path
from typing import Any

import mixnmatch
import mixnmatch_platform

PACKAGES = [Path(module.__path__[0]) for module in (mixnmatch, mixnmatch_platform)]
JOB_MARK = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray in the driver of a submitted job."""
FORWARDED = ("MLFLOW_", "MIXNMATCH_")
"""Variables of this process that workers get, by how they begin."""


def connect(num_cpus: int | None = None) -> bool:
    """Connect to the cluster that this process belongs to, else start one on this machine.

    A job of ``ray job submit`` finds its cluster in ``RAY_ADDRESS``. Without it, ``local`` is named
    aloud, since Ray would otherwise join the leftovers of another cluster on this machine.

    Args:
        num_cpus: CPUs of a cluster started here; all of the machine's without it.

    Returns:
        Whether a cluster was started here, which ``ray.shutdown`` then ends.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        return False
    variables = {k: v for k, v in os.environ.items() if k.startswith(FORWARDED)}
    if address := os.environ.get("RAY_ADDRESS"):
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
