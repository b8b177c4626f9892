"""What Ray Train, Ray Tune and MLflow cost: a step under all of them against the bare loop.

    python tests/benchmarks/orchestration.py --rounds 5

Each round trains the same model with ``mixnmatch.training`` alone in this process, and as two
trials of a sweep, one after the other, with a worker group of one (or, with ``--workers 0``, in the
trial's own process). All take their steps with one thread and write their figures every step; the
seconds of a step are those that training itself records.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]
os.environ.update(RAY_USAGE_STATS_ENABLED="0", OMP_NUM_THREADS="1")

import torch  # noqa: E402

from mixnmatch.config import RunConfig  # noqa: E402
from mixnmatch.data.factors import FactorSpec, draw_factor_dataset  # noqa: E402
from mixnmatch.data.store import open_dataset, write_dataset  # noqa: E402
from mixnmatch.recorder import FolderRecorder  # noqa: E402
from mixnmatch.settings import override  # noqa: E402
from mixnmatch.training.checkpoints import folder_checkpoints  # noqa: E402
from mixnmatch.training.run import Run, train  # noqa: E402
from mixnmatch_platform import cluster  # noqa: E402
from mixnmatch_platform.sweep import Objective, SearchSpace, Sweep  # noqa: E402
from mixnmatch_platform.tuning import run_sweep  # noqa: E402

WARM_UP = 10
"""Steps that are left out of each run."""


def records(out: Path) -> list[dict[str, Any]]:
    """What a run has recorded."""
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def step_seconds(out: Path) -> list[float]:
    """Of the steps of stage 1 after the first ones, as recorded."""
    values = [record["values"] for record in records(out)]
    name = "stage1/step_seconds"
    return [found[name] for found in values if name in found][WARM_UP:]


def main() -> int:
    """Print the median step of both, their ratio by round, and what trials take to start."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=80, help="of stage 1")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=1, help="of a trial")
    args = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="orchestration-"))
    spec = FactorSpec(count=300, side=80)
    write_dataset(
        draw_factor_dataset(spec), folder / "data", kind="factors", factors=spec.cardinalities
    )
    config = override(
        RunConfig(),
        {
            "model.image_size": args.image_size, "model.super_categories": 3,
            "model.fine_categories": 6, "model.generator_width": 32,
            "model.discriminator_width": 32, "model.encoder_width": 16,
            "model.extractor_width": 16, "model.pair_width": 4, "model.noise_dim": 8,
            "stage1.steps": args.steps, "stage1.batch_size": 16, "stage2.steps": 1,
            "stage2.batch_size": 16, "evaluation.samples": 64, "log_every_steps": 1,
            "checkpoint_every_steps": args.steps, "sample_every_steps": args.steps,
        },
    )  # fmt: skip
    cluster.connect(num_cpus=2)
    bare, under, first, second = [], [], [], []
    for number in range(args.rounds):
        for way in ("bare", "under") if number % 2 else ("under", "bare"):
            home = folder / f"{way}-{number}"
            if way == "bare":
                run = Run(
                    config=config, dataset=open_dataset(folder / "data"), out=home,
                    recorder=FolderRecorder(home), progress=False,
                    checkpoints=folder_checkpoints(home, config),
                )  # fmt: skip
                train(run, (1,))
                bare.append(step_seconds(home))
            else:
                began = time.time()
                sweep = Sweep(
                    name="two", data=folder / "data", config=config, trials=2,
                    workers=args.workers,
                    space=SearchSpace(super_categories=(3,), fine_per_super=(1, 2)),
                    objectives=(Objective("disentanglement_accuracy", "max"),), home=home,
                    cpus_per_worker=0.9,
                )  # fmt: skip
                run_sweep(sweep)
                trials = [home / "two" / f"trial-000{n}" for n in (0, 1)]
                under.append([seconds for out in trials for seconds in step_seconds(out)])
                before, after = map(records, trials)
                first.append(before[0]["time"] - began)
                second.append(after[0]["time"] - before[-1]["time"])
    ratios = [statistics.median(u) / statistics.median(b) for u, b in zip(under, bare, strict=True)]
    for name, runs in (("bare loop", bare), ("Train + Tune + MLflow", under)):
        steps = [second for run in runs for second in run]
        print(f"{name:22} median step {1000 * statistics.median(steps):.1f} ms of {len(steps)}")
    print(
        f"ratio {statistics.median(ratios):.3f} (rounds: {', '.join(f'{r:.3f}' for r in ratios)})"
    )
    print(f"from run_sweep to the first step: median {statistics.median(first):.1f} s")
    print(f"from a trial's last figure to the next one's first: {statistics.median(second):.1f} s")
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
