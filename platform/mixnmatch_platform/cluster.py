"""Connecting to Ray: a cluster that is there, or one of this machine's own."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The repository, or the folder that holds the packages."""


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
    if address := os.environ.get("RAY_ADDRESS"):
        # Nodes may have only the dependencies: both packages travel with the job.
        packages = [ROOT / "platform" / "mixnmatch_platform", ROOT / "mixnmatch"]
        shipped = {"py_modules": [str(path) for path in packages]}
        ray.init(address=address, runtime_env=shipped)
        return False
    roots = [str(ROOT), str(ROOT / "platform"), *filter(None, [os.environ.get("PYTHONPATH")])]
    ray.init(
        address="local",
        num_cpus=num_cpus,
        dashboard_host="127.0.0.1",
        include_dashboard=True,
        runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(roots)}},
    )
    return True
