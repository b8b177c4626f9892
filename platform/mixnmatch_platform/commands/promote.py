"""``platform promote``: the best run's weights become the champion."""

import argparse
import json
import sys
from pathlib import Path

from mixnmatch.commands.options import folder_or_url
from mixnmatch_platform.commands.options import add_home

_DESCRIPTION = """\
Register the best finished run of an experiment, or a named run, as a new version of a model with
the alias `champion`, if it passes all gates: whole weights of both stages, the required figures,
better than the champion on the same evaluation by more than the noise, and a release that a fresh
process can load and mix with. Where the two were measured otherwise, both are measured again.
"""
_EPILOG = """\
A gates file is TOML:
  require = ["fid_5k <= 20", "disentanglement_accuracy >= 0.6", "accuracy/shape >= chance"]
  protocol = "5k"          # name of the protocol of the figures; or samples = 5000
  licence = true           # the card must name one; data_licence, too

examples:
  platform promote --experiment demo --metric disentanglement_accuracy --model mixnmatch-demo
  platform promote --run birds-64 --metric fid_5k --model birds --gates gates.toml --dry-run
"""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "promote",
        help="make the best run's model the champion, if it passes the gates",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--experiment",
        help="MLflow experiment, whose best run is taken: of those measured as most are, or as the "
        "gates want",
    )
    parser.add_argument(
        "--run", dest="run_name", metavar="RUN", help="id or name of the run to take instead"
    )
    parser.add_argument("--metric", required=True, help="the figure that decides")
    parser.add_argument(
        "--mode", choices=("min", "max"), help="whether less or more is better, where not known"
    )
    parser.add_argument(
        "--model", required=True, metavar="NAME", help="name of the registered model"
    )
    parser.add_argument("--gates", type=Path, metavar="FILE", help="what is wanted, as TOML")
    parser.add_argument(
        "--require",
        action="append",
        default=[],
        metavar="'METRIC>=X'",
        help="a figure that is wanted; also <=, and `chance` for X; may be repeated",
    )
    parser.add_argument(
        "--candidate",
        action="store_true",
        help="only put it up as `candidate`; it need not beat the champion",
    )
    parser.add_argument(
        "--again",
        action="store_true",
        help="measure both again, with samples that chose neither; also a run that has not "
        "recorded the metric",
    )
    parser.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="evaluations of each then (default: 3)"
    )
    parser.add_argument(
        "--data",
        type=folder_or_url,
        metavar="DATA",
        help="data set to measure on and for the card's sheet (default: that of the run)",
    )
    parser.add_argument("--why", default="", metavar="TEXT", help="reason, for the history")
    parser.add_argument("--licence", metavar="TEXT", help="of the model, for its card")
    parser.add_argument("--data-licence", metavar="TEXT", help="of the data, for the card")
    add_home(parser)
    parser.add_argument("--dry-run", action="store_true", help="only say what would be promoted")
    parser.add_argument(
        "--force",
        action="store_true",
        help="replace a champion that is as good or better, or whose files are gone",
    )
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Promote."""
    from mixnmatch.metrics.report import finite_or_null
    from mixnmatch_platform.promotion.gates import read_gates
    from mixnmatch_platform.promotion.promote import promote
    from mixnmatch_platform.promotion.request import Request, format_promotion
    from mixnmatch_platform.store import tracking_uri

    request = Request(
        name=args.model,
        metric=args.metric,
        mode=args.mode,
        experiment=args.experiment,
        run=args.run_name,
        gates=read_gates(args.gates, args.require),
        candidate=args.candidate,
        force=args.force,
        again=args.again,
        seeds=args.seeds,
        data=args.data,
        why=args.why,
        licence=args.licence,
        data_licence=args.data_licence,
        dry_run=args.dry_run,
    )
    promotion = promote(
        tracking_uri(args.home),
        request,
        said=lambda line: print(line, file=sys.stderr, flush=True),
    )
    if args.json:
        print(json.dumps(finite_or_null(promotion.as_json()), indent=2))
    else:
        print(format_promotion(promotion))
    return 0
