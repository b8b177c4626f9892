"""What a run costs and what its machine does meanwhile, sampled by a thread."""

import itertools
import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mixnmatch.files import whole_file
from mixnmatch_platform.periodic import every
from mixnmatch_platform.store import one_line

if TYPE_CHECKING:
    from mixnmatch.training.run import Worker

__all__ = ["COST", "device_seconds", "metered"]

COST = "cost.json"
"""File of a run's folder: ``device_seconds`` of all its attempts, and the kind of ``device``."""
COST_METRIC = "cost/device_seconds"
SAMPLE_SECONDS = 15.0
"""Between two samples; also the most of its cost that a killed process does not count."""


class _Figures(Protocol):
    """Takes the samples."""

    def metrics(self, values: Mapping[str, float], step: int) -> None: ...

    def next_step(self, name: str) -> int: ...


def device_seconds(out: Path) -> float:
    """What a run has cost so far: seconds of its workers, each with one GPU or its CPUs."""
    try:
        return float(json.loads((out / COST).read_text(encoding="utf-8"))["device_seconds"])
    except FileNotFoundError:
        return 0.0


@contextmanager
def metered(recorder: _Figures, out: Path, worker: "Worker") -> Iterator[None]:
    """Count the cost of a block, and record it with MLflow's system metrics.

    The samples are numbered from 0 on over all attempts of the run; the last is taken at the end.

    Args:
        recorder: Takes ``cost/device_seconds`` and ``system/…``, named as MLflow names them.
        out: Folder of the run.
        worker: One of its workers, each of which has one device.
    """
    before, began = device_seconds(out), time.monotonic()
    steps = itertools.count(recorder.next_step(COST_METRIC))
    monitors = _monitors()

    def sample() -> None:
        total = before + (time.monotonic() - began) * worker.world_size
        cost = {"device": worker.device.type, "device_seconds": round(total, 3)}
        figures = {COST_METRIC: total}
        for monitor in monitors:
            monitor.collect_metrics()
            measured = monitor.aggregate_metrics()
            figures |= {f"system/{name}": float(value) for name, value in measured.items()}
            monitor.clear_metrics()
        try:
            with whole_file(out / COST) as partial:
                partial.write_text(json.dumps(cost) + "\n", encoding="utf-8")
            recorder.metrics(figures, next(steps))
        except OSError as error:  # the training tells of a full disk, and goes on where it can
            print(f"{out / COST} cannot be kept: {one_line(error)}", file=sys.stderr, flush=True)

    try:
        with every(SAMPLE_SECONDS, sample, "meter"):
            yield
    finally:
        sample()


def _monitors() -> list[Any]:
    """MLflow's own, for which it has a page; its thread would ask the store between the samples."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    with suppress(ImportError, RuntimeError):  # without nvidia-ml-py, or without a GPU
        monitors.append(GPUMonitor())
    for monitor in monitors:
        monitor.collect_metrics()  # the first look of some is of no time at all
        monitor.clear_metrics()
    return monitors
