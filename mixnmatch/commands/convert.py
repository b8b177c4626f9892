"""``mixnmatch convert``: the authors' published checkpoints as a model bundle."""

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from mixnmatch.errors import ModelError

if TYPE_CHECKING:
    from mixnmatch.bundle import ModelBundle


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "convert",
        help="turn the authors' published checkpoints into a model",
        description="Read G.pth, E.pth and, if it is there, EX.pth, as the authors' code saves "
        "them, and write a model for mix, sheet and evaluate. All sizes are read from the "
        "weights. Without EX.pth the model has no feature mode.",
        epilog="example: mixnmatch convert downloads/bird models/bird",
    )
    parser.add_argument("published", type=Path, metavar="PUBLISHED_DIR", help="folder of the files")
    parser.add_argument(
        "out", type=Path, metavar="OUT", help="model folder to write; an older model is replaced"
    )
    parser.add_argument("--dry-run", action="store_true", help="check all, and write nothing")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Convert."""
    from mixnmatch.bundle import save_bundle
    from mixnmatch.published import load_published
    from mixnmatch.settings import to_dict

    _check_free(args.out)
    bundle = load_published(args.published)
    if not args.dry_run:
        save_bundle(bundle, args.out.absolute())
    if args.json:
        summary = {
            "out": str(args.out),
            "written": not args.dry_run,
            "stages": bundle.stages,
            "model": to_dict(bundle.config.model),
            "data": bundle.data,
        }
        print(json.dumps(summary, indent=2))
    else:
        print(f"{'would write' if args.dry_run else 'wrote'} {args.out}: {_describe(bundle)}")
    return 0


def _describe(bundle: "ModelBundle") -> str:
    model = bundle.config.model
    stages = (
        "stage 1 only, without feature mode, as there is no EX.pth"
        if bundle.extractor is None
        else "stages 1 and 2"
    )
    return (
        f"{model.super_categories} super and {model.fine_categories} fine categories, "
        f"{model.noise_dim} noise dimensions, {model.image_size} px; {stages}"
    )


def _check_free(out: Path) -> None:
    """Refuse a place that holds anything but an older model, before any work is done.

    Raises:
        ModelError: If it is no folder, cannot become one, or holds other files.
    """
    from mixnmatch.bundle import DESCRIPTION, WEIGHTS

    nearest = next(path for path in (out, *out.absolute().parents) if os.path.lexists(path))
    if not nearest.is_dir():
        raise ModelError(f"{nearest}: is not a folder: OUT must be a new folder, or a model's")
    if nearest == out and (
        foreign := {path.name for path in out.iterdir()} - {DESCRIPTION, WEIGHTS}
    ):
        raise ModelError(
            f"{out}: exists and is no model: it holds {min(foreign)!r}; OUT must be a new folder"
        )
