"""What a trial costs beside its training: a sweep of trials that do nothing.

    python tests/benchmarks/trials.py --trials 100

All is real but the training: Optuna's study, Ray Tune's actors, a run in MLflow for each. Then the
study alone with thousands of trials, which shows what grows first.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "platform"), str(ROOT / "experiments")]
os.environ.update(RAY_USAGE_STATS_ENABLED="0")

from mixnmatch_platform.job import Job  # noqa: E402
from mixnmatch_platform.space import Objective  # noqa: E402
from mixnmatch_platform.study import Study  # noqa: E402
from mixnmatch_platform.sweep import Sweep  # noqa: E402

METRIC = "disentanglement_accuracy"
PROJECTED = 10_000
seen: list[tuple[float, float]] = []
"""Of each trial that finished: when, and the driver's memory in MiB."""


def nothing(sweep: Sweep, start: Callable[..., Job]) -> Callable[[dict[str, Any]], None]:
    """In place of ``trainable``: opens the trial's MLflow run, and reports a figure."""

    def trial(config: dict[str, Any]) -> None:
        from ray import tune

        from mixnmatch_platform.search import NUMBER, report_of

        settings = {**config}
        number = settings.pop(NUMBER)
        name = f"trial-{number:04d}"
        job = start(
            name=name, config=sweep.trial_config(settings), out=sweep.folder / name,
            tags={"mixnmatch.kind": "trial"},
        )  # fmt: skip
        job.tracking.recorder(job.run_id, job.out).close()
        job.tracking.finish(job.run_id, "FINISHED")
        tune.report(report_of({METRIC: number % 7 / 7}))

    return trial


def sweep_of_nothing(trials: int, concurrent: int, folder: Path) -> None:
    """Run the trials, noting each end in ``seen``."""
    from sweep_demo import SWEEP

    import mixnmatch_platform.trial
    from mixnmatch.data.factors import FactorSpec, draw_factor_dataset
    from mixnmatch.data.store import write_dataset
    from mixnmatch_platform.tuning import run_sweep

    spec = FactorSpec(count=200, side=40)
    write_dataset(
        draw_factor_dataset(spec), folder / "data", kind="factors", factors=spec.cardinalities
    )
    mixnmatch_platform.trial.trainable = nothing  # type: ignore[assignment]
    complete = Study.complete

    def noting(study: Study, number: int, figures: Any) -> None:
        complete(study, number, figures)
        seen.append((time.monotonic(), psutil.Process().memory_info().rss / 2**20))

    Study.complete = noting  # type: ignore[method-assign]
    try:
        run_sweep(
            replace(
                SWEEP, name="nothing", data=folder / "data", trials=trials, concurrent=concurrent,
                refit_steps=None, home=folder / "runs", cpus_per_worker=0.5,
            )
        )  # fmt: skip
    finally:
        Study.complete = complete  # type: ignore[method-assign]


def study_alone(trials: int, folder: Path) -> list[tuple[int, float]]:
    """Seconds to propose and complete a trial, by the number of those before it."""
    from sweep_demo import SWEEP

    study = Study(
        folder / "study", space=SWEEP.space, objectives=[Objective(METRIC, "max")], trials=trials
    )
    times = []
    for number in range(trials):
        began = time.perf_counter()
        proposal = study.next()
        assert proposal is not None
        study.complete(number, {METRIC: number % 7 / 7})
        times.append(time.perf_counter() - began)
    marks = [n for n in (50, 200, 500, 1000, 2000) if n <= trials]
    return [(n, float(np.median(times[n - 20 : n]))) for n in marks]


def main() -> int:
    """Print time and memory of a trial, and what the line through them says of 10,000."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--concurrent", type=int, default=2)
    parser.add_argument("--study-trials", type=int, default=1000, help="of the study alone")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="trials-"))
    began = time.monotonic()
    sweep_of_nothing(args.trials, args.concurrent, folder)
    print(f"{args.trials} trials, {args.concurrent} at a time: {time.monotonic() - began:.0f} s")
    skip = len(seen) // 10  # the first ones start Ray
    ends, memory = np.array(seen[skip:]).T
    numbers = np.arange(skip, len(seen))
    print(f"a trial: {np.diff(ends).mean():.2f} s (last tenth {np.diff(ends)[-skip:].mean():.2f})")
    slope, base = np.polyfit(numbers, memory, 1)
    print(f"driver: {memory[-1]:.0f} MiB, {1024 * slope:.0f} KiB a trial; {PROJECTED} trials: "
          f"{(base + slope * PROJECTED) / 1024:.1f} GiB")  # fmt: skip
    seconds = np.polyfit(numbers, ends - ends[0], 1)[0]
    print(f"{PROJECTED} trials, by a line: {seconds * PROJECTED / 3600:.1f} h")
    print("the study alone, propose and complete:")
    measured = study_alone(args.study_trials, folder)
    for number, seconds in measured:
        print(f"  trial {number:5d}: {1000 * seconds:7.1f} ms")
    if len(measured) > 1:
        growth, start = np.polyfit(*np.array(measured).T, 1)
        print(f"  trial {PROJECTED:5d}: {start + growth * PROJECTED:7.2f} s by a line; all of them "
              f"{(start * PROJECTED + growth * PROJECTED**2 / 2) / 3600:.1f} h")  # fmt: skip
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
