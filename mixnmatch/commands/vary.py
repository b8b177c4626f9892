"""``mixnmatch vary``: one factor of a picture with many values, the others held."""

import argparse
from pathlib import Path

from mixnmatch.commands.mixing import (
    FACTORS,
    add_model_options,
    add_picture_options,
    add_sheet_or_animation_options,
    open_mixer,
    wants_animation,
)
from mixnmatch.commands.options import check_seed


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "vary",
        help="paint a picture with many values of one factor, the others held",
        description="Vary one factor of a picture, or of a mix, and hold the others. The values "
        "are those of other pictures (--from), or the model's categories in order; for the pose, "
        "samples of its noise.",
        epilog="example: mixnmatch vary bird.jpg --factor texture --count 20 "
        "--model models:/mixnmatch-demo@champion --out textures.png",
    )
    parser.add_argument("picture", type=Path, metavar="PICTURE", help="gives what is held")
    parser.add_argument("--factor", choices=FACTORS, required=True, help="what varies")
    parser.add_argument(
        "--from",
        dest="values",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="pictures to take the factor from",
    )
    parser.add_argument(
        "--count",
        type=int,
        metavar="N",
        help="without --from: first categories to paint, or poses to sample "
        "(default: all categories, 10 poses)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the sampled poses")
    add_picture_options(parser, FACTORS, default="PICTURE")
    add_model_options(parser)
    add_sheet_or_animation_options(parser, fps=2)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Vary."""
    import torch

    from mixnmatch.animation import Frame, save_animation
    from mixnmatch.errors import InputError
    from mixnmatch.sheets import save_picture, to_picture, wrapped

    moving = wants_animation(args)
    check_seed(args.seed)
    if args.values is not None and args.count is not None:
        raise InputError(
            f"--count is {args.count}: with --from the pictures themselves are counted"
        )
    mixer = open_mixer(args)
    paths = {name: getattr(args, name) or args.picture for name in FACTORS}
    sources = {name: mixer.read(path) for name, path in paths.items()}
    held = mixer.recipe(**sources, mode=args.mode)
    images = None if args.values is None else mixer.read(*args.values)
    varied = mixer.vary(held, args.factor, images=images, count=args.count, seed=args.seed)
    if moving:
        frames = (Frame(to_picture(image), 1 / args.fps) for image in varied)
        width, height = save_animation(frames, args.out)[2:]
    else:
        ignored = {args.factor} | ({"pose"} if args.mode == "feature" else set())
        kept = {paths[name]: sources[name] for name in FACTORS if name not in ignored}
        sheet = wrapped(
            varied,
            columns=args.columns,
            name=args.factor,
            title=f"{args.factor} varies, the rest is held",
            first=("held, then painted", torch.cat([*kept.values(), mixer.paint(held)])),
            above=None if images is None else ("taken from", images),
        )
        save_picture(sheet, args.out)
        width, height = sheet.size
    print(
        f"wrote {args.out} ({width}x{height} px, {len(varied)} values of {args.factor}, "
        f"{args.mode} mode)"
    )
    return 0
