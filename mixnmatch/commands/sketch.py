"""``mixnmatch sketch``: a drawing gives the shape, photographs the rest."""

import argparse
from pathlib import Path

from mixnmatch.commands.mixing import add_model_options, add_picture_options, open_mixer


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "sketch",
        help="paint the object of a drawing with the texture and background of pictures",
        description="Take the shape from a drawing, in feature mode. Transparent parts are white "
        "paper. The model has learnt pictures of solid objects that fill the middle: --fill makes "
        "outlines solid, --trim cuts off the paper about them.",
        epilog="example: mixnmatch sketch drawing.png --fill --trim --texture b.jpg "
        "--background c.jpg --model models:/mixnmatch-demo@champion --out painted.png",
    )
    parser.add_argument("drawing", type=Path, metavar="DRAWING", help="gives shape and pose")
    add_picture_options(
        parser, ("texture", "background"), required=("texture",), default="the texture's"
    )
    parser.add_argument("--fill", action="store_true", help="fill with grey what the lines enclose")
    parser.add_argument(
        "--trim", action="store_true", help="cut to the square about the lines, with some margin"
    )
    add_model_options(parser, mode=None, batches=False)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="picture to write")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Paint."""
    from mixnmatch.sheets import check_picture_name, save_picture, to_picture

    check_picture_name(args.out)
    mixer = open_mixer(args)
    shape = mixer.read_drawing(args.drawing, fill=args.fill, trim=args.trim)
    texture = mixer.read(args.texture)
    background = texture if args.background is None else mixer.read(args.background)
    mixed = mixer.mix_tensors(
        background=background, pose=shape, shape=shape, texture=texture, mode="feature"
    )
    picture = to_picture(mixed[0])
    save_picture(picture, args.out)
    print(f"wrote {args.out} ({picture.width}x{picture.height} px, feature mode)")
    return 0
