"""``platform promote``: the best run's weights become the champion."""

import argparse
import dataclasses
import json
from pathlib import Path

from mixnmatch_platform.store import home_folder


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "promote",
        help="register the best run's weights as the champion",
        description="Register the bundle of the best finished run of an experiment as a new "
        "version of a model, with the alias `champion`.",
        epilog="example: platform promote --experiment demo --metric disentanglement_accuracy "
        "--model mixnmatch-demo",
    )
    parser.add_argument("--experiment", required=True, help="MLflow experiment")
    parser.add_argument("--metric", required=True, help="the figure that decides")
    parser.add_argument(
        "--mode", choices=("min", "max"), help="whether less or more is better, where not known"
    )
    parser.add_argument(
        "--model", required=True, metavar="NAME", help="name of the registered model"
    )
    parser.add_argument(
        "--home", type=Path, default=home_folder(), help="folder of the runs (default: runs)"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be promoted")
    parser.add_argument("--force", action="store_true", help="replace a champion that is as good")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Promote."""
    from mixnmatch.metrics.report import finite_or_null
    from mixnmatch_platform.promote import format_promotion, promote
    from mixnmatch_platform.store import tracking_uri

    promotion = promote(
        tracking_uri(args.home),
        args.experiment,
        metric=args.metric,
        mode=args.mode,
        name=args.model,
        dry_run=args.dry_run,
        force=args.force,
    )
    if args.json:
        print(json.dumps(finite_or_null(dataclasses.asdict(promotion)), indent=2))
    else:
        print(format_promotion(promotion))
    return 0
