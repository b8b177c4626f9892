"""Connecting to Ray: a cluster that is there, or one of this machine's own."""

import os
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
"""The repository, or the folder that holds the packages."""


def connect(num_cpus: int | None = None) -> None:
    """Connect to the cluster that this process belongs to, else start one on this machine.

    A job of ``ray job submit`` finds its cluster in ``RAY_ADDRESS``. Without it, ``local`` is named
    aloud, since Ray would otherwise join the leftovers of another cluster on this machine.

    Args:
        num_cpus: CPUs of a cluster started here; all of the machine's without it.
    """
    import ray

    if ray.is_initialized():
        return
    packages = [ROOT / "platform" / "mixnmatch_platform", ROOT / "mixnmatch"]
    runtime: dict[str, Any] = {}
    if address := os.environ.get("RAY_ADDRESS"):
        # Workers on other nodes may have only the dependencies: they get both packages from here.
        if all(path.is_dir() for path in packages):
            runtime = {"py_modules": [str(path) for path in packages]}
        ray.init(address=address, runtime_env=runtime, log_to_driver=True)
        return
    # Ten times fewer checks than by default make `report` ten times quicker.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    ray.init(address="local", num_cpus=num_cpus, include_dashboard=True, dashboard_host="127.0.0.1")
