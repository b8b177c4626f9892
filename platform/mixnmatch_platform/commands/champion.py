"""``platform champion``: what the promoted model is, and what was measured on it."""

import argparse
import json

from mixnmatch_platform.commands.options import add_home


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "champion",
        help="show the promoted model and its figures",
        description="Show the champion of a registered model: its run, its figures beside chance "
        "level and the judge's own accuracy, and how to look at it.",
        epilog="example: platform champion mixnmatch-demo",
    )
    parser.add_argument("model", metavar="NAME", help="name of the registered model")
    add_home(parser)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show."""
    from mixnmatch.metrics.report import finite_or_null
    from mixnmatch_platform.champion import describe_champion, find_champion
    from mixnmatch_platform.store import tracking_uri

    champion = find_champion(tracking_uri(args.home), args.model)
    if args.json:
        content = {"version": champion.version, **champion.metrics}
        print(json.dumps(finite_or_null(content), indent=2))
    else:
        print(describe_champion(champion))
    return 0
