"""``mixnmatch walk``: the way from picture to picture."""

import argparse
from pathlib import Path

from mixnmatch.commands.mixing import (
    FACTORS,
    add_model_options,
    add_sheet_or_animation_options,
    open_mixer,
    wants_animation,
)
from mixnmatch.commands.options import check_range


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "walk",
        help="paint the way from picture to picture, in all factors or in one",
        description="Walk between the codes of two or more pictures, in even steps. Name the first "
        "picture again at the end for an animation that closes. In feature mode the outline "
        "itself is blended, and --factor shape takes the pose along.",
        epilog="example: mixnmatch walk a.jpg b.jpg a.jpg --frames 60 "
        "--model models:/mixnmatch-demo@champion --out walk.gif",
    )
    parser.add_argument(
        "pictures", type=Path, nargs="+", metavar="PICTURE", help="two or more, in order"
    )
    parser.add_argument(
        "--frames", type=int, default=50, metavar="N", help="pictures to paint (default: 50)"
    )
    parser.add_argument(
        "--factor",
        choices=FACTORS,
        help="change this alone, and hold the rest of the first picture",
    )
    add_model_options(parser)
    add_sheet_or_animation_options(parser, fps=25)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Walk."""
    import torch
    from tqdm import tqdm

    from mixnmatch.animation import Frame, save_animation
    from mixnmatch.errors import InputError
    from mixnmatch.sheets import save_picture, to_picture, wrapped

    moving = wants_animation(args)
    if len(args.pictures) < 2:
        raise InputError(f"{args.pictures[0]} is one picture: a walk needs two or more")
    check_range("--frames", args.frames, 2, 2000)
    mixer = open_mixer(args)
    images = mixer.read(*args.pictures)
    stops = mixer.recipe(
        background=images, pose=images, shape=images, texture=images, mode=args.mode
    )
    batches = mixer.walk(stops, args.frames, factor=args.factor)
    painted = tqdm(
        (image for batch in batches for image in batch),
        total=args.frames,
        unit="frame",
        disable=None,
    )
    if moving:
        frames = (Frame(to_picture(image), 1 / args.fps) for image in painted)
        width, height = save_animation(frames, args.out)[2:]
    else:
        sheet = wrapped(
            torch.stack(list(painted)),
            columns=args.columns,
            name="frame",
            title=f"{args.factor or 'every factor'} from picture to picture",
        )
        save_picture(sheet, args.out)
        width, height = sheet.size
    print(f"wrote {args.out} ({width}x{height} px, {args.frames} frames, {args.mode} mode)")
    return 0
