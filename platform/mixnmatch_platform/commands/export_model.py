"""``platform export``: a promoted model as a plain folder."""

import argparse
from pathlib import Path

from mixnmatch_platform.commands.options import add_home


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "export",
        help="copy a promoted model to a plain folder",
        description="Copy a promoted model to a plain folder: bundle, code, MLmodel, model card "
        "and the checksums of all files. `platform import` takes it in elsewhere; mixnmatch and "
        "mlflow.pyfunc.load_model use it as it is.",
        epilog="example: platform export models:/birds@champion birds-v3",
    )
    parser.add_argument("model", metavar="MODEL", help="models:/NAME@ALIAS or models:/NAME/VERSION")
    parser.add_argument("out", type=Path, metavar="FOLDER", help="to write; must be new or empty")
    add_home(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Export."""
    from mixnmatch_platform.promotion.transfer import export_model
    from mixnmatch_platform.store import tracking_uri

    out = export_model(args.model, args.out, tracking_uri(args.home))
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    print(f"wrote {out} ({size / 1e6:.1f} MB): its card is {out / 'README.md'}")
    return 0
