"""``mixnmatch sheet``: what a model can do, as one picture."""

import argparse
from pathlib import Path

from mixnmatch.commands.options import check_range, check_seed, folder_or_url


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "sheet",
        help="draw a contact sheet of mixes and single-factor variation",
        description="Draw a contact sheet: the four sources of some mixes, the mixes in code and "
        "feature mode, and pictures in which one factor varies while the others are held.",
        epilog="example: mixnmatch sheet models:/mixnmatch-demo@champion data/demo --out sheet.png",
    )
    parser.add_argument(
        "model", metavar="MODEL", help="a bundle's folder, or models:/NAME@champion"
    )
    parser.add_argument(
        "data", type=folder_or_url, metavar="DATA", help="data set of the sources, folder or URL"
    )
    parser.add_argument("--columns", type=int, default=10, help="pictures a row (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of sources")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="picture to write")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Draw."""
    from mixnmatch.contact_sheet import contact_sheet
    from mixnmatch.data.store import open_dataset
    from mixnmatch.device import choose_device
    from mixnmatch.mixer import Mixer
    from mixnmatch.sheets import check_picture_name, save_picture

    check_picture_name(args.out)
    check_range("--columns", args.columns, 2, 100)
    check_seed(args.seed)
    mixer = Mixer.from_pretrained(args.model, choose_device(args.device))
    sheet = contact_sheet(mixer, open_dataset(args.data), columns=args.columns, seed=args.seed)
    save_picture(sheet, args.out)
    print(f"wrote {args.out} ({sheet.width}x{sheet.height} px)")
    return 0
