"""``platform reap``: MLflow runs whose process is gone are ended."""

import argparse
import dataclasses
import json

from mixnmatch.commands.options import check_range
from mixnmatch_platform.commands.options import add_home


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "reap",
        help="end the MLflow runs whose process is gone",
        description="End the runs that MLflow shows as running though their process is gone: "
        "KILLED, with the tag mixnmatch.reason, after all that they still had to tell. A run "
        "lives while a process has the lock of its folder, or of its sweep's. Runs of other "
        "machines, and those not begun yet, are ended after so long without a sign of life. A run "
        "that goes on after all is shown as running again.",
        epilog="example: platform reap --dry-run",
    )
    add_home(parser)
    parser.add_argument(
        "--silent-minutes",
        type=float,
        default=10.0,
        metavar="N",
        help="without a sign of life from another machine (default: 10)",
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be ended")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """End them."""
    from mixnmatch_platform.reap import reap
    from mixnmatch_platform.store import tracking_uri

    check_range("--silent-minutes", args.silent_minutes, 1, 100_000)
    uri = tracking_uri(args.home)
    verdicts = reap(uri, dry_run=args.dry_run, silent_seconds=60 * args.silent_minutes)
    ended = [v for v in verdicts if v.outcome != "left"]
    if args.json:
        print(json.dumps([dataclasses.asdict(v) for v in verdicts], indent=2))
        return 0
    for v in verdicts:
        print(f"{v.outcome:9} {v.experiment}/{v.run_name}: {v.why}")
    done = "would be ended" if args.dry_run else "ended"
    print(f"{len(ended)} of {len(verdicts)} running run(s) of {uri} {done}")
    return 0
