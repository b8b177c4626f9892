"""``platform runs``: what was trained."""

import argparse
import dataclasses
import json

from mixnmatch_platform.commands.options import add_home


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "runs",
        help="list runs and sweeps",
        description="List the runs of an experiment, or of all of them, as MLflow has them: the "
        "trials below their sweep, with status, time, cost, main figures and why one ended early.",
        epilog="example: platform runs demo --status FAILED",
    )
    parser.add_argument("experiment", nargs="?", metavar="EXPERIMENT", help="default: all")
    add_home(parser)
    parser.add_argument(
        "--status",
        choices=("RUNNING", "FINISHED", "FAILED", "KILLED"),
        help="only runs of this status",
    )
    parser.add_argument(
        "--metric",
        action="append",
        default=[],
        metavar="NAME",
        help="show this figure instead of the usual ones (may be given often)",
    )
    parser.add_argument("--json", action="store_true", help="print the runs as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """List them."""
    from mixnmatch.metrics.report import finite_or_null
    from mixnmatch_platform.listing import list_runs, table
    from mixnmatch_platform.store import tracking_uri

    rows = list_runs(tracking_uri(args.home), args.experiment, args.metric)
    rows = [row for row in rows if args.status in (None, row.status)]
    if args.json:
        print(json.dumps([finite_or_null(dataclasses.asdict(row)) for row in rows], indent=2))
    else:
        print(table(rows) if rows else "no runs")
    return 0
