"""The command line of an experiment file, which only has to build its sweep."""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from mixnmatch.cli import run_program
from mixnmatch.commands.options import folder_or_url
from mixnmatch.errors import ConfigError
from mixnmatch.settings import override, parse_assignment
from mixnmatch_platform.sweep import Sweep, describe


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
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change one shared setting"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=lambda args: _run(sweep, args))
    return run_program(parser, argv)


def _run(sweep: Sweep, args: argparse.Namespace) -> int:
    settings = dict(parse_assignment(text) for text in args.set)
    if searched := sweep.searched & settings.keys():
        raise ConfigError(
            f"{min(searched)} is searched by this sweep: change its space in the experiment file"
        )
    changed = dataclasses.replace(
        sweep,
        data=args.data,
        trials=args.trials,
        concurrent=args.concurrent,
        home=args.home,
        refit_steps=args.refit_steps or None,
        config=override(sweep.config, settings),
    )
    if args.dry_run:
        print(describe(changed))
        return 0
    from mixnmatch_platform.tuning import run_sweep

    result = run_sweep(changed)
    if args.json:
        print(json.dumps(dataclasses.asdict(result), indent=2))
        return 0
    trained = "" if result.refit_value is None else f"; trained on to {result.refit_value:.3f}"
    print(
        f"sweep {changed.name}: {result.finished} trials finished, {result.failed} failed; best "
        f"{result.best_name} with {changed.metric} {result.best_value:.3f}{trained}"
    )
    return 0
