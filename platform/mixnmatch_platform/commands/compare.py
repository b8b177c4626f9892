"""``platform compare``: the runs of an experiment side by side, or two of them in all detail."""

import argparse
import json
from typing import TYPE_CHECKING

from mixnmatch_platform.commands.options import add_home

if TYPE_CHECKING:
    from mixnmatch_platform.compare import Experiment

_DESCRIPTION = """\
Compare the runs of an experiment: their figures with intervals, the settings in which they differ,
and what they cost, best first. The best run, or with several objectives the Pareto front, has a
star. Below is how much each setting matters, beside what chance makes of as many trials. Figures
that were measured under other conditions are not ranked with the others.
"""
_EPILOG = """\
examples:
  platform compare factors
  platform compare factors --sort frechet_factors_1024 --best 5 --markdown
  platform compare birds --objectives fid_5k,disentanglement_accuracy --csv > birds.csv
  platform compare factors --between trial-0003 trial-0007
"""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "compare",
        help="compare the runs of an experiment, or two of them",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("experiment", metavar="EXPERIMENT", help="MLflow experiment")
    parser.add_argument(
        "--between", nargs=2, metavar="RUN", help="all differences between two runs (name or id)"
    )
    parser.add_argument(
        "--objectives",
        metavar="A,B",
        help="figures to compare by (default: those of the experiment's sweep); min:NAME or "
        "max:NAME where the name does not tell which is better",
    )
    parser.add_argument("--sort", metavar="METRIC", help="figure to sort by, best first")
    parser.add_argument(
        "--columns", metavar="A,B", help="figures, settings and facts to show instead of the usual"
    )
    parser.add_argument("--best", type=int, metavar="K", help="only the first K")
    parser.add_argument(
        "--across-protocols",
        action="store_true",
        help="rank runs together though they were measured under different conditions",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print everything as JSON")
    form.add_argument("--csv", action="store_true", help="print the table as CSV")
    form.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    add_home(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Compare."""
    from mixnmatch.checks import require
    from mixnmatch_platform import compare_table
    from mixnmatch_platform.compare import parse_objective, parse_objectives, read_experiment
    from mixnmatch_platform.importance import importance, importance_lines
    from mixnmatch_platform.store import tracking_uri

    require(args.best is None or args.best >= 1, "--best", args.best, "at least 1")
    experiment = read_experiment(
        tracking_uri(args.home),
        args.experiment,
        parse_objectives(args.objectives),
        across=args.across_protocols,
    )
    if args.between:
        return _between(args, experiment)
    by = parse_objective(args.sort) if args.sort else None
    columns = _names(args.columns) or compare_table.default_columns(experiment)
    compare_table.check_columns(experiment, [*columns, *([by.metric] if by else [])])
    runs = experiment.in_order(by)[: args.best]
    if args.csv:
        print(compare_table.as_csv(experiment, runs, columns))
    elif args.markdown:
        print(compare_table.as_markdown(experiment, runs, columns))
    else:
        importances = [importance(experiment, goal) for goal in experiment.objectives]
        if args.json:
            content = compare_table.as_json(experiment, runs, columns, importances)
            print(json.dumps(content, indent=2))
        else:
            print(compare_table.as_text(experiment, runs, columns))
            for each in importances:
                print("", *importance_lines(each), sep="\n")
    return 0


def _between(args: argparse.Namespace, experiment: "Experiment") -> int:
    from mixnmatch_platform.compare_between import as_json, as_text, compare_two
    from mixnmatch_platform.store import connect_existing

    two = compare_two(connect_existing(experiment.uri), experiment, *args.between)
    print(json.dumps(as_json(two), indent=2) if args.json else as_text(two))
    return 0


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]
