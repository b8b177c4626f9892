"""Connecting to Ray: to a cluster that is there, or to one of this machine's own."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mixnmatch
import mixnmatch_platform
from mixnmatch_platform.placing import may_grow
from mixnmatch_platform.services import LOOPBACK, RAY_SETTINGS, free_port, ray_address
from mixnmatch_platform.store import home_folder

__all__ = ["Cluster", "connect"]

PACKAGES = [Path(module.__path__[0]) for module in (mixnmatch, mixnmatch_platform)]
JOB_MARK = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray in the driver of a submitted job."""
FORWARDED = ("MLFLOW_", "MIXNMATCH_")
"""Variables of this process that workers get, by how they begin."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The cluster that this process is connected to."""

    started: bool
    """Whether it was started for this process: ``ray.shutdown`` ends it then."""
    grows: bool
    """Whether it may get more machines."""


def connect(num_cpus: int | None = None, home: Path | None = None) -> Cluster:
    """Connect to the cluster that this process belongs to, else start one on this machine.

    A job of ``ray job submit`` finds its cluster in ``RAY_ADDRESS``. Without it, ``local`` is named
    aloud, since Ray would otherwise join the leftovers of another cluster on this machine.
    The cluster that ``platform up`` has begun for a home folder is joined as well.

    Args:
        num_cpus: CPUs of a cluster started here; all of the machine's without it.
        home: Folder of the runs; ``home_folder`` without it.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    named = os.environ.get("RAY_ADDRESS")
    own = None if named else ray_address(home or home_folder())
    if own is not None:
        os.environ.update(RAY_SETTINGS)
    import ray

    if ray.is_initialized():
        return Cluster(started=False, grows=may_grow())
    variables = {k: v for k, v in os.environ.items() if k.startswith(FORWARDED)}
    if address := named or own:
        # Nodes may have only the dependencies: both packages travel with the job.
        shipped: dict[str, Any] = {"py_modules": [str(path) for path in PACKAGES]}
        if JOB_MARK not in os.environ:  # a job's own variables reach its workers anyway
            shipped["env_vars"] = variables
        ray.init(address=address, runtime_env=shipped)
        return Cluster(started=False, grows=own is None and may_grow())
    roots = [str(path.parent) for path in PACKAGES]
    roots += filter(None, [os.environ.get("PYTHONPATH")])
    variables["PYTHONPATH"] = os.pathsep.join(roots)
    with _gcs_port() as port:
        # Ray's own helpers look for "the" cluster of this machine, and find others, or dead ones:
        # each group of workers would wait for them at its end.
        variables["RAY_ADDRESS"] = f"{LOOPBACK}:{port}"
        ray.init(
            address="local",
            num_cpus=num_cpus,
            dashboard_host=LOOPBACK,
            include_dashboard=True,
            runtime_env={"env_vars": variables},
        )
    return Cluster(started=True, grows=False)


@contextmanager
def _gcs_port() -> Iterator[int]:
    """Have the next cluster that this process starts listen on a port that is known before."""
    variable, port = "RAY_GCS_SERVER_PORT", free_port()
    os.environ[variable] = str(port)
    try:
        yield port
    finally:
        del os.environ[variable]
