"""A sweep on a head with no worker nodes: the real autoscaler adds them, and takes them away.

    python tests/benchmarks/autoscaling.py --nodes 2 --trials 4

Ray's fake multi-node provider starts each node as a raylet on this machine; the autoscaler, its
decisions and their order are those of a cloud, the time that a machine takes to start is not.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "platform"), str(ROOT / "experiments")]

from mixnmatch_platform.services import RAY_SETTINGS, free_port  # noqa: E402

os.environ.update(RAY_SETTINGS, RAY_USAGE_STATS_ENABLED="0")
POLL_SECONDS = 0.5


def start_head(folder: Path, *, nodes: int, idle_seconds: float) -> str:
    """Start a head without CPUs, whose autoscaler may add nodes of one CPU.

    Returns:
        Its address.
    """
    port = free_port()
    node = {"node_config": {}, "min_workers": 0}
    empty_lists = ("initialization_commands", "setup_commands", "head_setup_commands",
                   "worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands",
                   "cluster_synced_files", "rsync_exclude", "rsync_filter")  # fmt: skip
    provider = {
        "type": "fake_multinode",
        "gcs_address": f"127.0.0.1:{port}",
        "launch_multiple": True,
        "use_node_id_as_ip": True,
        "disable_node_updaters": True,
    }
    config = {
        "cluster_name": "autoscaling",
        "max_workers": nodes,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": idle_seconds / 60,
        "provider": provider,
        "available_node_types": {
            "ray.head.default": node | {"resources": {"CPU": 0}, "max_workers": 0},
            "worker": node | {"resources": {"CPU": 1}, "max_workers": nodes},
        },
        "head_node_type": "ray.head.default",
        **{key: {} for key in ("auth", "docker", "file_mounts")},
        **{key: [] for key in empty_lists},
    }
    (folder / "autoscaling.json").write_text(json.dumps(config))
    environment = {"AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_FAKE_CLUSTER": "1"}
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", f"--port={port}"]
    command += ["--num-cpus=0", f"--temp-dir={folder}", "--node-ip-address=127.0.0.1"]
    command += [f"--autoscaling-config={folder / 'autoscaling.json'}", "--include-dashboard=false"]
    with (folder / "head.log").open("w") as log:
        subprocess.run(command, env=os.environ | environment, stdout=log, stderr=log, check=True)
    return f"127.0.0.1:{port}"


def end_processes(folder: Path) -> None:
    """End what was started with this folder in its arguments, nodes and all."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and str(folder) in " ".join(process.cmdline()):
                process.kill()


def main() -> int:
    """Print when the number of nodes changes, and what the sweep came to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=2, help="maximum number of worker nodes")
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--steps", type=int, default=40, help="of each stage of a trial")
    parser.add_argument("--idle", type=float, default=15, help="seconds until an idle node ends")
    args = parser.parse_args()

    import ray
    from sweep_demo import SWEEP

    from mixnmatch.data.factors import FactorSpec, draw_factor_dataset
    from mixnmatch.data.store import write_dataset
    from mixnmatch.settings import override
    from mixnmatch_platform.tuning import run_sweep

    folder = Path(tempfile.mkdtemp(prefix="scale-", dir="/tmp"))  # short: it holds sockets
    spec = FactorSpec(count=200, side=40)
    write_dataset(
        draw_factor_dataset(spec), folder / "data", kind="factors", factors=spec.cardinalities
    )
    address = start_head(folder, nodes=args.nodes, idle_seconds=args.idle)
    begun = time.monotonic()
    counts: list[tuple[float, int]] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(POLL_SECONDS):
            if not ray.is_initialized():
                continue
            now = sum(n["Alive"] and n["Resources"].get("CPU", 0) > 0 for n in ray.nodes())
            if not counts or counts[-1][1] != now:
                counts.append((time.monotonic() - begun, now))
                print(f"{counts[-1][0]:6.1f} s  {now} worker node(s)", flush=True)

    threading.Thread(target=watch, daemon=True).start()
    try:
        os.environ["RAY_ADDRESS"] = address
        changes = {"stage1.steps": args.steps, "stage2.steps": args.steps, "evaluation.samples": 64}
        result = run_sweep(
            replace(
                SWEEP,
                name="autoscaling",
                data=folder / "data",
                config=override(SWEEP.config, changes),
                trials=args.trials,
                concurrent=args.nodes,
                refit_steps=None,
                home=folder / "runs",
            )
        )
        ended = time.monotonic() - begun
        print(f"{ended:6.1f} s  sweep: {result.finished} finished, {result.failed} failed")
        while counts[-1][1] and time.monotonic() - begun < ended + args.idle + 120:
            time.sleep(POLL_SECONDS)
    finally:
        over.set()
        ray.shutdown()
        end_processes(folder)
        shutil.rmtree(folder, ignore_errors=True)
    most = max(number for _, number in counts)
    print(f"from {counts[0][1]} to {most} (maximum {args.nodes}) and back to {counts[-1][1]}")
    return 0 if (counts[0][1], most, counts[-1][1]) == (0, args.nodes, 0) else 1


if __name__ == "__main__":
    sys.exit(main())
