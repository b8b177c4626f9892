"""``platform report``: what an experiment came to, as one page."""

import argparse
from pathlib import Path

from mixnmatch_platform.commands.options import add_home


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "report",
        help="write an experiment's results as one HTML page",
        description="Write what an experiment came to as one HTML page that needs no other file "
        "and no network: a summary in words, the Pareto plot, the settings that matter, learning "
        "curves, the pictures of the best runs, all runs with their cost, what failed and why, and "
        "the commands to go on with.",
        epilog="example: platform report factors --out factors.html",
    )
    parser.add_argument("experiment", metavar="EXPERIMENT", help="MLflow experiment")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the page")
    parser.add_argument(
        "--objectives",
        metavar="A,B",
        help="figures to compare by (default: those of the experiment's sweep)",
    )
    parser.add_argument(
        "--best", type=int, default=4, metavar="K", help="runs to show pictures of (default: 4)"
    )
    parser.add_argument(
        "--across-protocols",
        action="store_true",
        help="rank runs together though they were measured under different conditions",
    )
    add_home(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write it."""
    from mixnmatch.checks import require
    from mixnmatch.errors import InputError
    from mixnmatch.files import whole_file
    from mixnmatch_platform.compare import parse_objectives, read_experiment
    from mixnmatch_platform.report import gather
    from mixnmatch_platform.report_page import report_page
    from mixnmatch_platform.store import tracking_uri

    require(args.best >= 0, "--best", args.best, "at least 0")
    if args.out.is_dir():
        raise InputError(f"{args.out} is a folder: name a file such as {args.out / 'report.html'}")
    experiment = read_experiment(
        tracking_uri(args.home),
        args.experiment,
        parse_objectives(args.objectives),
        across=args.across_protocols,
    )
    text = report_page(gather(experiment, best=args.best))
    with whole_file(args.out) as partial:
        partial.write_text(text, encoding="utf-8")
    print(f"{args.out}: {len(experiment.runs)} runs of {args.experiment}, {len(text) / 1e6:.1f} MB")
    return 0
