"""What serving makes of a machine: speed beside the mixer's, and what no request notices.

    python tests/benchmarks/serving.py                  # everything, about ten minutes
    python tests/benchmarks/serving.py speed --width 64 --seconds 30
    python tests/benchmarks/serving.py alias death memory fuzz

It needs wrk. ``speed`` serves an untrained model of 128 px with one thread, at the widths of the
published ones or a part of them, and in turns asks it through HTTP and calls the mixer for one mix
after another, from files to a PNG, in a process of its own with one thread. ``alias`` and
``death`` move the alias and kill a replica under load; ``memory`` watches 10,000 requests.
"""

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "platform"), str(ROOT / "tests" / "unit" / "serving")]

import fuzzed  # noqa: E402
import psutil  # noqa: E402
import requests  # noqa: E402
from serving_load import (  # noqa: E402
    MODEL,
    NAME,
    alone_ratio,
    batches,
    begin,
    load,
    loaded,
    make_bundle,
    make_registry,
    mixes,
    pids,
    replicas,
    served,
    small,
    told,
    versions,
    wait_for,
    write_forms,
)

from mixnmatch.config import ModelConfig  # noqa: E402
from mixnmatch_platform.cluster import connect  # noqa: E402


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help="speed, alias, death, memory, fuzz (default: all)")
    parser.add_argument("--width", type=int, default=64, help="of generator and encoders in speed")
    parser.add_argument("--seconds", type=float, default=60, help="of each turn of speed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=32, help="at once, in speed")
    parser.add_argument("--requests", type=int, default=10_000, help="of memory")
    args = parser.parse_args()
    known: dict[str, Callable[[argparse.Namespace, Path], int]] = {
        "speed": speed,
        "alias": alias,
        "death": death,
        "memory": memory,
        "fuzz": fuzz,
    }
    with tempfile.TemporaryDirectory(prefix="serving-") as name:
        folder = Path(name)
        write_forms(folder)
        connect(num_cpus=2, home=folder)
        return max([known[part](args, folder) for part in args.parts or known])


def speed(args: argparse.Namespace, folder: Path) -> int:
    """Requests a second beside calls of the mixer a second, in turns."""
    config = ModelConfig(
        generator_width=args.width,
        encoder_width=args.width,
        extractor_width=max(1, args.width // 2),
    )
    bundle = make_bundle(config, folder / "wide", seed=0)
    print(f"speed: {config.image_size} px, widths of {args.width}, one thread each")
    with (
        served(folder, str(bundle), batch_size=16) as (plan, _),
        ProcessPoolExecutor(1, get_context("spawn"), begin, (bundle, folder)) as alone,
    ):
        alone.submit(mixes, 1.0).result()
        load(folder, plan.url, args.clients, 15)
        counted = batches(plan.url)
        (pid,) = pids("ServeReplica:mixnmatch:replica")
        loads, calls, single = [], [], []
        work, spent = [], []
        for _ in range(args.rounds):
            before = psutil.Process(pid).cpu_times()
            loads.append(load(folder, plan.url, args.clients, args.seconds))
            after = psutil.Process(pid).cpu_times()
            work.append(after.user + after.system - before.user - before.system)
            took, cpu = alone.submit(mixes, args.seconds / 2).result()
            calls.append(took)
            spent.append(cpu / len(took))
            single.append(load(folder, plan.url, 1, args.seconds / 4))
            print(
                f"  {args.clients} clients {told(loads[-1])}; 1 client {told(single[-1])}; "
                f"mixer {1 / statistics.mean(took):.2f}/s, "
                f"p50 {1000 * statistics.median(took):.0f} ms; "
                f"CPU a mix {1000 * work[-1] / loads[-1].requests:.0f} ms served, "
                f"{1000 * spent[-1]:.0f} ms by the mixer",
                flush=True,
            )
        rows = batches(plan.url) - counted
    ratios = [a.rate * statistics.mean(b) for a, b in zip(loads, calls, strict=True)]
    print(f"  requests / calls: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")
    print(f"  batches painted, by most rows: {dict(sorted(rows.items()))}")
    batched = alone_ratio(bundle, folder)
    print(f"  of the mixer alone, 16 mixes at once against one by one: {batched:.2f}")
    return int(any(each.failed for each in (*loads, *single)))


def alias(_: argparse.Namespace, folder: Path) -> int:
    """Failed requests while the alias moves back and forth."""
    registry = make_registry(folder)
    with (
        served(folder, MODEL, registry=registry, replicas=2) as (plan, board),
        loaded(folder, plan.url, 30) as seen,
    ):
        moved = 0
        for version in (2, 1, 2, 1):
            time.sleep(5)
            registry.set_registered_model_alias(NAME, "champion", str(version))
            wait_for(lambda version=version: versions(board) == {version})
            moved += 1
    print(f"alias: moved {moved} times under {told(seen[0])}")
    return int(seen[0].failed > 0)


def death(_: argparse.Namespace, folder: Path) -> int:
    """Failed requests while replicas are killed."""
    registry = make_registry(folder)
    with (
        served(folder, MODEL, registry=registry, replicas=2) as (plan, board),
        loaded(folder, plan.url, 60) as seen,
    ):
        killed = 0
        for _ in range(3):
            time.sleep(5)
            before = replicas(board)
            os.kill(pids("ServeReplica:mixnmatch:replica")[0], signal.SIGKILL)
            killed += 1
            wait_for(lambda before=before: len(replicas(board) - before) == 1)
    print(f"death: {killed} replicas killed, one after another, under {told(seen[0])}")
    return int(seen[0].failed > 0)


def memory(args: argparse.Namespace, folder: Path) -> int:
    """Resident memory of a replica and of the proxy, over many requests."""
    bundle = make_bundle(small(), folder / "small", seed=0)
    with served(folder, str(bundle)) as (plan, _):
        kinds = ("ServeReplica:mixnmatch:replica", "ProxyActor")
        done, failed, at = 0, 0, []
        while done < args.requests:
            seen = load(folder, plan.url, 16, 5)
            done, failed = done + seen.requests, failed + seen.failed
            resident = [psutil.Process(pids(kind)[0]).memory_info().rss / 2**20 for kind in kinds]
            at.append((done, *resident))
    print(f"memory: after requests, MiB of the replica and of the proxy ({failed} failed)")
    for count, replica, proxy in at[:: max(1, len(at) // 10)] + at[-1:]:
        print(f"  {count:6} {replica:7.0f} {proxy:7.0f}")
    return int(failed > 0)


def fuzz(_: argparse.Namespace, folder: Path) -> int:
    """Statuses of 500 damaged requests."""
    bundle = make_bundle(small(), folder / "small", seed=0)
    statuses: Counter[int] = Counter()
    with served(folder, str(bundle)) as (plan, _), requests.Session() as session:
        for number in range(500):
            route, parts = fuzzed.request(number)
            statuses[session.post(f"{plan.url}{route}", **parts).status_code] += 1
        healthy = session.get(f"{plan.url}/healthz").ok
    print(f"fuzz: {dict(sorted(statuses.items()))}, {'healthy' if healthy else 'ill'} afterwards")
    return int(not healthy or max(statuses) >= 500)


if __name__ == "__main__":
    sys.exit(main())
