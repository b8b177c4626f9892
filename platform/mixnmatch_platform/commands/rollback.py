"""``platform rollback``: an earlier champion again."""

import argparse
import dataclasses
import json

from mixnmatch_platform.commands.options import add_home


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "rollback",
        help="make an earlier champion the champion again",
        description="Make the champion before this one, or another version, the champion again: as "
        "a new version with the same files, so that the history stays in order.",
        epilog="example: platform rollback birds --why 'v7 paints grey tails'",
    )
    parser.add_argument("model", metavar="NAME", help="name of the registered model")
    parser.add_argument(
        "--to", type=int, metavar="VERSION", help="default: the champion before this one"
    )
    parser.add_argument("--why", default="", metavar="TEXT", help="reason, for the history")
    add_home(parser)
    parser.add_argument("--dry-run", action="store_true", help="only say what would happen")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Roll back."""
    from mixnmatch_platform.promotion.history import roll_back
    from mixnmatch_platform.store import tracking_uri

    done = roll_back(
        tracking_uri(args.home), args.model, to=args.to, why=args.why, dry_run=args.dry_run
    )
    old, new = f"v{done.replaced}", f"v{done.restores}"
    if args.json:
        print(json.dumps(dataclasses.asdict(done), indent=2))
    elif args.dry_run:
        print(f"would make {new} of {done.name} champion again in place of {old}")
    else:
        print(
            f"{done.name} v{done.version} is champion: the files of {new} again, in place of {old}"
        )
    return 0
