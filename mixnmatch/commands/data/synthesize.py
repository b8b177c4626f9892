"""``mixnmatch data synthesize``: draw pictures whose factors are known."""

import argparse
import os
from pathlib import Path

from mixnmatch.commands.data.common import add_command, add_overwrite, report, summarise
from mixnmatch.commands.options import check_range

DESCRIPTION = """\
Draw a data set whose background, shape, texture and pose are known, with boxes, masks and ten
keypoints an object.

There are 26 shapes, 24 backgrounds and 320 textures (--shapes times --textures-per-shape). Textures
are children of shapes, as breeds are of species. The same options and seed draw the same
pictures. With --background-texture-correlation R and B backgrounds, a texture has its tied
background with probability R + (1 - R) / B and each other one with (1 - R) / B; pictures of split
"judge" have any background and any texture, whatever R is.

examples:
  mixnmatch data synthesize data/factors --count 2400 --shapes 3 --textures-per-shape 2
  mixnmatch data synthesize data/tied --backgrounds 6 --background-texture-correlation 0.9
  mixnmatch data synthesize data/large --shapes 20 --textures-per-shape 10 --backgrounds 20
"""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = add_command(commands, "synthesize", "draw a data set with known factors", DESCRIPTION)
    parser.add_argument("out", metavar="OUT", type=Path, help="data set folder to write")
    for option, default, text in (
        ("--count", 2400, "pictures of splits train and test, as in --count 10000"),
        ("--side", 96, "side of the pictures in pixels, 32 to 1024, as in --side 128"),
        ("--shapes", 3, "shapes, the super categories, as in --shapes 20"),
        (
            "--textures-per-shape",
            2,
            "textures of each shape; all of them are the fine categories, as in "
            "--textures-per-shape 10",
        ),
        ("--backgrounds", 3, "backgrounds, as in --backgrounds 20"),
        ("--seed", 0, "seed of everything drawn, as in --seed 7"),
    ):
        parser.add_argument(
            option, type=int, default=default, metavar="N", help=f"{text} (%(default)s)"
        )
    parser.add_argument(
        "--judge-count",
        type=int,
        metavar="N",
        help="pictures of split 'judge' besides, with free textures and backgrounds, as in "
        "--judge-count 1200 (half of --count)",
    )
    parser.add_argument(
        "--free-textures", action="store_true", help="any texture on any shape, as in mixes"
    )
    _add_pose(parser)
    parser.add_argument(
        "--background-texture-correlation",
        type=float,
        default=0.0,
        metavar="R",
        help="share of pictures with the background tied to their texture: 0 free, 1 always; "
        "each texture has its own where --backgrounds is as large as the number of textures, as "
        "in --background-texture-correlation 0.9 (%(default)s)",
    )
    parser.add_argument(
        "--noise",
        type=float,
        default=0.0,
        metavar="STD",
        help="standard deviation of Gaussian noise on every pixel, in grey levels of 255, 0 to "
        "64, as in --noise 8 (%(default)s)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes; the pictures are the same for any number, as in --workers 4 (%(default)s)",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be drawn, then stop")
    add_overwrite(parser)
    parser.set_defaults(run=run)


def _add_pose(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tilt",
        type=_pair,
        default=(10.0, 30.0),
        metavar="MIN,MAX",
        help="degrees that objects are turned, to either side, 1 to 90, as in --tilt 5,60 (10,30)",
    )
    parser.add_argument(
        "--scale",
        type=_pair,
        default=(0.38, 0.58),
        metavar="MIN,MAX",
        help="longer side of objects as a share of the picture's, at most 0.9, as in "
        "--scale 0.3,0.8 (0.38,0.58)",
    )
    parser.add_argument(
        "--shift",
        type=float,
        default=0.16,
        metavar="MAX",
        help="most that objects are moved from the middle, as a share of the side, but never "
        "beyond the edge, as in --shift 0.3 (%(default)s)",
    )


def _pair(text: str) -> tuple[float, float]:
    try:
        least, most = map(float, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not two numbers with a comma between them, such as 10,30"
        ) from None
    return least, most


def run(arguments: argparse.Namespace) -> int:
    """Draw a data set with known factors."""
    from tqdm import tqdm

    from mixnmatch.commands.data.ingest import command_line
    from mixnmatch.data.drawn.keypoints import KEYPOINT_NAMES
    from mixnmatch.data.drawn.preview import preview, preview_text
    from mixnmatch.data.factors import FactorSpec, draw_factor_dataset
    from mixnmatch.data.store import write_dataset

    check_range("--workers", arguments.workers, 1, 1024)
    judges = arguments.count // 2 if arguments.judge_count is None else arguments.judge_count
    spec = FactorSpec(
        count=arguments.count,
        side=arguments.side,
        shapes=arguments.shapes,
        textures_per_shape=arguments.textures_per_shape,
        backgrounds=arguments.backgrounds,
        seed=arguments.seed,
        free_textures=arguments.free_textures,
        judge_count=judges,
        tilt=arguments.tilt,
        scale=arguments.scale,
        shift=arguments.shift,
        background_texture_correlation=arguments.background_texture_correlation,
        noise=arguments.noise,
    )
    if arguments.dry_run:
        told = preview(spec)
        report(arguments, told, preview_text(str(arguments.out), told))
        return 0
    records = draw_factor_dataset(spec, arguments.workers)
    info = write_dataset(
        iter(tqdm(records, total=spec.count + spec.judge_count, unit="picture", disable=None)),
        arguments.out,
        kind="factors",
        source=str(spec),
        command=command_line(),
        licence="drawn by mixnmatch, no third-party content",
        factors=spec.cardinalities,
        labels=spec.textures,
        parts=KEYPOINT_NAMES,
        overwrite=arguments.overwrite,
    )
    summarise(arguments, info)
    return 0
