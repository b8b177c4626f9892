"""``platform import``: a model from elsewhere as a run that can be promoted."""

import argparse
import dataclasses
import json
from pathlib import Path

from mixnmatch_platform.commands.options import add_home


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "import",
        help="take in a model from a plain folder",
        description="Check an exported model, or any bundle of `mixnmatch train` and `mixnmatch "
        "convert`, and record it as a finished run with its figures, which can then be promoted.",
        epilog="example: platform import birds-v3 --experiment from-the-other-lab",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="release or bundle")
    parser.add_argument(
        "--experiment", default="imported", help="MLflow experiment (default: imported)"
    )
    parser.add_argument("--name", metavar="RUN", help="of the run (default: the folder's)")
    add_home(parser)
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Import."""
    from mixnmatch_platform.promotion.transfer import import_model
    from mixnmatch_platform.tracking import Tracking

    done = import_model(args.folder, Tracking.at(args.home.absolute(), args.experiment), args.name)
    if args.json:
        print(json.dumps(dataclasses.asdict(done), indent=2))
    else:
        print(
            f"run {done.run_name} of experiment {done.experiment} holds it: platform promote --run "
            f"{done.run_id} --metric METRIC --model NAME"
        )
    return 0
