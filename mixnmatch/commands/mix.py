"""``mixnmatch mix``: one picture from up to four."""

import argparse
import sys
from pathlib import Path

from mixnmatch.commands.mixing import FACTORS, add_model_options, add_picture_options, open_mixer


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "mix",
        help="mix the background, pose, shape and texture of up to four pictures",
        description="Mix pictures. The object should fill the middle of each: the model sees the "
        "middle square. In feature mode the shape picture gives the pose as well.",
        epilog="example: mixnmatch mix --pose a.jpg --background b.jpg --shape c.jpg "
        "--texture d.jpg --model models:/mixnmatch-demo@champion --out mix.png",
    )
    add_picture_options(parser, FACTORS, required=("background", "shape", "texture"))
    add_model_options(parser, batches=False)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="picture to write")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Mix."""
    from mixnmatch.errors import InputError
    from mixnmatch.sheets import check_picture_name, save_picture

    check_picture_name(args.out)
    if args.mode == "code" and args.pose is None:
        raise InputError("--pose is missing: code mode takes the pose of a picture of its own")
    if args.mode == "feature" and args.pose not in (None, args.shape):
        print(
            f"mixnmatch: feature mode takes the pose from --shape {args.shape}; "
            f"--pose {args.pose} is not used",
            file=sys.stderr,
        )
    picture = open_mixer(args).mix(
        background=args.background,
        pose=args.pose,
        shape=args.shape,
        texture=args.texture,
        mode=args.mode,
    )
    save_picture(picture, args.out)
    print(f"wrote {args.out} ({picture.width}x{picture.height} px, {args.mode} mode)")
    return 0
