"""``platform history``: who promoted what, when and why."""

import argparse
import dataclasses
import json

from mixnmatch_platform.commands.options import add_home


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "history",
        help="list the decisions about a model",
        description="List the decisions about a registered model, newest first: promotions, "
        "candidates and rollbacks, with who made them, when, from which run, by which figure, why.",
        epilog="example: platform history birds",
    )
    parser.add_argument("model", metavar="NAME", help="name of the registered model")
    add_home(parser)
    parser.add_argument("--json", action="store_true", help="print them as JSON, oldest first")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """List."""
    from mixnmatch_platform.promotion.history import history, history_table
    from mixnmatch_platform.store import tracking_uri

    entries = history(tracking_uri(args.home), args.model)
    if args.json:
        print(json.dumps([dataclasses.asdict(entry) for entry in entries], indent=2))
    else:
        print(history_table(entries))
    return 0
