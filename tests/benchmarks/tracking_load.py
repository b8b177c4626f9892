"""MLflow's server under runs that all log at once: calls a second, p99, and whether any is lost.

    python tests/benchmarks/tracking_load.py --runs 20

Each run has its own recorder, as a trial has; the server is the one that ``platform up`` starts.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

from mlflow import MlflowClient  # noqa: E402

from mixnmatch_platform.services import Ports, end, start  # noqa: E402
from mixnmatch_platform.tracking import Tracking  # noqa: E402


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--figures", type=int, default=30, help="at each step")
    parser.add_argument("--every", type=float, default=0.1, help="seconds between steps")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tracking-"))
    latencies: list[float] = []
    real = MlflowClient.log_batch

    def timed(self: MlflowClient, *arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return real(self, *arguments, **named)
        finally:
            latencies.append(time.perf_counter() - began)

    MlflowClient.log_batch = timed  # type: ignore[method-assign]
    try:
        services = start(folder, Ports(ray=46379, dashboard=48265, mlflow=45000), cpus=1)
        (address,) = [service.address for service in services if service.name == "mlflow"]
        tracking = Tracking(address, "load")
        names = [f"run-{number}" for number in range(args.runs)]
        ids = {
            name: tracking.start_run(name, tags={}, params={}, folder=make(folder / name))
            for name in names
        }
        began = time.monotonic()

        def log(name: str) -> None:
            recorder = tracking.recorder(ids[name], folder / name)
            for step in range(args.steps):
                recorder.metrics({f"m{i}": step + i / 100 for i in range(args.figures)}, step)
                time.sleep(args.every)
            recorder.close()

        threads = [threading.Thread(target=log, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - began
        client = MlflowClient(address)
        expected = [(step, step + (args.figures - 1) / 100) for step in range(args.steps)]
        lost = doubled = 0
        for run_id in ids.values():
            history = client.get_metric_history(run_id, f"m{args.figures - 1}")
            there = [(each.step, each.value) for each in history]
            lost += len(set(expected) - set(there))
            doubled += len(there) - len(set(there))
    finally:
        end(folder)
        shutil.rmtree(folder)
    figures = args.runs * args.steps * args.figures
    print(
        f"{args.runs} runs, {figures} figures in {seconds:.1f} s: {len(latencies) / seconds:.1f} "
        f"calls/s of {figures / len(latencies):.0f} figures, {figures / seconds:.0f} figures/s"
    )
    ordered = sorted(latencies)
    print(
        f"a call: median {1000 * statistics.median(ordered):.0f} ms, "
        f"p99 {1000 * ordered[int(0.99 * (len(ordered) - 1))]:.0f} ms; "
        f"last figure of each step: {lost} lost, {doubled} doubled"
    )
    return 0 if lost == doubled == 0 else 1


def make(folder: Path) -> Path:
    """The folder, made."""
    folder.mkdir()
    return folder


if __name__ == "__main__":
    sys.exit(main())
