"""``mixnmatch animate``: a film moves the object of a still picture."""

import argparse
import sys
from pathlib import Path

from mixnmatch.commands.mixing import add_model_options, add_picture_options, open_mixer
from mixnmatch.commands.options import check_range


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "animate",
        help="move a texture in front of a background as the object of a film moves",
        description="Paint each frame of an animated picture (GIF, WebP, APNG) or a video: its "
        "shape and pose, the texture and background of still pictures. The object should fill the "
        "middle of the film: the model sees the middle square. What is written keeps the film's "
        "pace and loops.",
        epilog="example: mixnmatch animate flying.mp4 --texture b.jpg --background c.jpg "
        "--model models:/mixnmatch-demo@champion --out flying.gif",
    )
    parser.add_argument("film", type=Path, metavar="FILM", help="gives shape and pose")
    add_picture_options(
        parser, ("texture", "background"), required=("texture",), default="the texture's"
    )
    add_model_options(parser, mode="feature")
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="take one of N frames (default: 1, all)"
    )
    parser.add_argument(
        "--max-frames",
        type=int,
        default=1000,
        metavar="N",
        help="stop after as many painted frames (default: 1000)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="animation to write: .gif, .webp, .png or .mp4",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Animate."""
    from itertools import islice

    from tqdm import tqdm

    from mixnmatch.animation import check_animation_name, read_frames, save_animation, thin

    check_animation_name(args.out)
    check_range("--every", args.every, 1, 1_000_000)
    check_range("--max-frames", args.max_frames, 1, 1_000_000)
    mixer = open_mixer(args)
    texture = mixer.read(args.texture)
    background = texture if args.background is None else mixer.read(args.background)
    frames = thin(read_frames(args.film), args.every)
    painted = mixer.animate(
        islice(frames, args.max_frames), background=background, texture=texture, mode=args.mode
    )
    written = save_animation(iter(tqdm(painted, unit="frame", disable=None)), args.out)
    if written.frames == args.max_frames and next(frames, None) is not None:
        print(
            f"mixnmatch: {args.film} goes on after the first {written.frames} frames "
            f"({written.seconds:.1f} s): that is left out, --max-frames takes more",
            file=sys.stderr,
        )
    print(
        f"wrote {args.out} ({written.width}x{written.height} px, {written.frames} frames, "
        f"{written.seconds:.2f} s, {args.mode} mode)"
    )
    return 0
