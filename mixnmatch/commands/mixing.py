"""Options of the commands that use a trained model on pictures."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mixnmatch.commands.options import check_range

if TYPE_CHECKING:
    from mixnmatch.mixer import Mixer

FACTORS = ("background", "pose", "shape", "texture")
# The letters of the codes, by which the published command knows the pictures.
_LETTERS = {"background": "--b", "pose": "--z", "shape": "--p", "texture": "--c"}


def add_picture_options(
    parser: argparse.ArgumentParser,
    names: Sequence[str],
    *,
    required: Sequence[str] = (),
    default: str | None = None,
) -> None:
    """``--background``, ``--pose``, ``--shape``, ``--texture``, and the letter of each.

    Args:
        parser: Gets the options.
        names: Which of them.
        required: Those that must be given.
        default: What is taken in place of one left out, for the help.
    """
    for name in names:
        parser.add_argument(
            f"--{name}",
            _LETTERS[name],
            type=Path,
            required=name in required,
            metavar="FILE",
            help=f"picture that gives the {name}"
            + ("" if default is None or name in required else f" (default: {default})"),
        )


def add_model_options(
    parser: argparse.ArgumentParser, *, mode: str | None = "code", batches: bool = True
) -> None:
    """``--model``, ``--mode``, ``--device``, ``--batch-size``.

    Args:
        parser: Gets the options.
        mode: Default of ``--mode``; None where there is no choice.
        batches: Whether there is work for several batches.
    """
    parser.add_argument(
        "--model",
        required=True,
        metavar="MODEL",
        help="a bundle's folder, or models:/NAME@champion",
    )
    if mode is not None:
        parser.add_argument(
            "--mode",
            choices=("code", "feature"),
            default=mode,
            help=f"shape as a category, or as the outline it has (default: {mode})",
        )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    if batches:
        parser.add_argument(
            "--batch-size",
            type=int,
            default=32,
            metavar="N",
            help="pictures that go through the model at once (default: 32)",
        )


def add_sheet_or_animation_options(parser: argparse.ArgumentParser, *, fps: int) -> None:
    """``--out``, ``--animation``, ``--fps`` and ``--columns``."""
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="a sheet (.png, .jpg, .webp) or an animation (.gif, .mp4) to write",
    )
    parser.add_argument(
        "--animation", action="store_true", help="write an animation for .webp and .png too"
    )
    parser.add_argument(
        "--fps", type=float, default=fps, help=f"frames a second of an animation (default: {fps})"
    )
    parser.add_argument(
        "--columns",
        type=int,
        default=10,
        metavar="N",
        help="pictures a row of a sheet (default: 10)",
    )


def wants_animation(args: argparse.Namespace) -> bool:
    """Whether an animation is to be written, with its name and options checked.

    Raises:
        InputError: If nothing can be written under the name, or an option is out of range.
    """
    from mixnmatch.animation import ALWAYS_MOVING, check_animation_name
    from mixnmatch.sheets import check_picture_name

    check_range("--fps", args.fps, 0.1, 100)
    check_range("--columns", args.columns, 1, 100)
    moving = args.animation or args.out.suffix.lower() in ALWAYS_MOVING
    (check_animation_name if moving else check_picture_name)(args.out)
    return moving


def open_mixer(args: argparse.Namespace) -> "Mixer":
    """The model that the options of ``add_model_options`` name, on their device.

    Raises:
        InputError: If the batch size is out of range, or there is no such device.
        ModelError: If there is no such model, or it cannot be read.
    """
    from mixnmatch.device import choose_device
    from mixnmatch.mixer import Mixer

    batch_size = getattr(args, "batch_size", 32)
    check_range("--batch-size", batch_size, 1, 10_000)
    device = choose_device(args.device)
    return Mixer.from_pretrained(args.model, device, batch_size=batch_size)
