"""``platform sync``: what waits for the MLflow store is delivered."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from mixnmatch_platform.commands.options import add_home


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "sync",
        help="deliver to MLflow what runs could not",
        description="Deliver what waits in the outboxes of runs, in order and once: figures, "
        "pictures, files, and how the runs ended. The store is that of MLFLOW_TRACKING_URI, or the "
        "one in the home folder. Exits with 1 if something still waits.",
        epilog="example: platform sync runs/birds",
    )
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        metavar="FOLDER",
        help="a run's folder, or one that holds runs (default: the home folder)",
    )
    add_home(parser)
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Deliver."""
    from mixnmatch_platform.store import tracking_uri
    from mixnmatch_platform.sync import sync

    uri = tracking_uri(args.home)
    runs = sync((args.folder or args.home).absolute(), uri)
    delivered, waiting = sum(r.delivered for r in runs), sum(r.waiting for r in runs)
    if args.json:
        content = {
            "store": uri,
            "delivered": delivered,
            "waiting": waiting,
            "runs": [dataclasses.asdict(r) for r in runs],
        }
        print(json.dumps(content, indent=2))
    else:
        for r in runs:
            if r.waiting:
                print(f"{r.folder}: {r.waiting} record(s) still wait ({r.reason})", file=sys.stderr)
        rest = f"; {waiting} still wait" if waiting else ""
        print(
            f"delivered {delivered} record(s) of {len(runs)} run(s) to {uri}{rest}"
            if runs
            else f"nothing waits for {uri}"
        )
    return 1 if waiting else 0
