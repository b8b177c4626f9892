"""``mixnmatch mix``: one picture from up to four."""

import argparse
import sys
from pathlib import Path


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
    for name in ("background", "pose", "shape", "texture"):
        needed = name != "pose"
        parser.add_argument(f"--{name}", type=Path, required=needed, metavar="FILE")
    parser.add_argument("--mode", choices=("code", "feature"), default="code")
    parser.add_argument(
        "--model",
        required=True,
        metavar="MODEL",
        help="a bundle's folder, or models:/NAME@champion",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="picture to write")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Mix."""
    from mixnmatch.device import choose_device
    from mixnmatch.errors import InputError
    from mixnmatch.mixer import Mixer
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
    mixer = Mixer.from_pretrained(args.model, choose_device(args.device))
    picture = mixer.mix(
        background=args.background,
        pose=args.pose,
        shape=args.shape,
        texture=args.texture,
        mode=args.mode,
    )
    save_picture(picture, args.out)
    print(f"wrote {args.out} ({picture.width}x{picture.height} px, {args.mode} mode)")
    return 0
