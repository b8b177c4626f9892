"""The command line of an experiment file, which only has to build its sweep."""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from mixnmatch.cli import run_program
from mixnmatch.commands.options import folder_or_url
from mixnmatch.errors import ConfigError, InputError
from mixnmatch.settings import override, parse_assignment
from mixnmatch_platform.budget import Budget
from mixnmatch_platform.sweep import IDENTITY, Sweep, describe


def main(sweep: Sweep, argv: Sequence[str] | None = None) -> int:
    """Run an experiment, or say what it would do.

    Args:
        sweep: The experiment; the options change it.
        argv: Options; those of the process by default.

    Returns:
        Exit status, as of all our command lines.
    """
    parser = argparse.ArgumentParser(description=f"Sweep {sweep.name}.")
    parser.add_argument(
        "--data", type=folder_or_url, default=sweep.data, help="data set folder or URL"
    )
    parser.add_argument("--trials", type=int, default=sweep.trials, help="number of trials")
    parser.add_argument("--concurrent", type=int, default=sweep.concurrent, help="at a time")
    parser.add_argument(
        "--refit-steps",
        type=int,
        default=sweep.refit_steps,
        metavar="N",
        help="steps of stage 1 that the best trial is trained on to; 0 for none",
    )
    parser.add_argument("--home", type=Path, default=sweep.home, help="folder of the runs")
    parser.add_argument(
        "--name", default=sweep.name, help="name of the sweep: its MLflow experiment"
    )
    parser.add_argument("--seed", type=int, default=sweep.seed, help="of the proposals")
    parser.add_argument(
        "--resume", action="store_true", help="go on with the sweep of this name, or fail"
    )
    parser.add_argument(
        "--warm-start",
        metavar="EXPERIMENT",
        help="tell the sampler of the finished runs of an MLflow experiment with the same data",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change one shared setting"
    )
    parser.add_argument(
        "--checkpoints",
        metavar="URL",
        default=sweep.checkpoints,
        help="object store for the checkpoints, such as s3://bucket/folder",
    )
    parser.add_argument(
        "--max-hours", type=float, metavar="H", help="end, saved, once all sessions took this long"
    )
    parser.add_argument(
        "--max-device-hours",
        type=float,
        metavar="H",
        help="end, saved, once the workers of all trials took this many hours together",
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=lambda args: _run(sweep, args))
    return run_program(parser, argv)


def _run(sweep: Sweep, args: argparse.Namespace) -> int:
    settings = dict(parse_assignment(text) for text in args.set)
    if searched := sweep.space.searched & settings.keys():
        raise ConfigError(
            f"{min(searched)} is searched by this sweep: change its space in the experiment file"
        )
    changed = dataclasses.replace(
        sweep,
        data=args.data,
        name=args.name,
        seed=args.seed,
        trials=args.trials,
        concurrent=args.concurrent,
        home=args.home,
        refit_steps=args.refit_steps or None,
        checkpoints=args.checkpoints,
        config=override(sweep.config, settings),
    )
    budget = Budget(max_hours=args.max_hours, max_device_hours=args.max_device_hours)
    begun = (changed.folder / IDENTITY).is_file()
    if args.resume and not begun:
        raise InputError(f"no sweep in {changed.folder} to go on with: leave --resume out to begin")
    if args.dry_run:
        print(describe(changed) + ("\nbegun       goes on where it is" if begun else ""))
        return 0
    from mixnmatch_platform.tuning import run_sweep

    result = run_sweep(changed, warm_start=args.warm_start, budget=budget)
    if args.json:
        print(json.dumps(dataclasses.asdict(result), indent=2))
        return 0
    metrics = [objective.metric for objective in changed.objectives]
    figures = [f"{m} {v:.3f}" for m, v in zip(metrics, result.best[0].values, strict=True)]
    best = (
        f"best {result.best[0].name} with {figures[0]}"
        if len(metrics) == 1
        else f"{len(result.best)} on the Pareto front of {' and '.join(metrics)}"
    )
    early = f", {result.pruned} stopped early" if result.pruned else ""
    trained = "" if result.refit_value is None else f"; trained on to {result.refit_value:.3f}"
    print(
        f"sweep {changed.name}: {result.finished} trials finished{early}, {result.failed} failed; "
        f"{best}{trained}"
    )
    return 0
