"""``mixnmatch data``: make data sets from photographs or by drawing, and look at them."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixnmatch.commands.options import check_range

if TYPE_CHECKING:
    from mixnmatch.data.store import DatasetInfo

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

_INGEST = """\
Read photographs and the boxes of their objects into a data set folder.

SRC has the layout of CUB-200-2011: images.txt, bounding_boxes.txt and images/;
image_class_labels.txt, classes.txt and train_test_split.txt are read if present.

example:
  mixnmatch data ingest CUB_200_2011 data/birds
"""
_SYNTHESIZE = """\
Draw a data set whose background, shape, texture and pose are known.

example:
  mixnmatch data synthesize data/factors --count 2400 --shapes 3 --textures-per-shape 2
"""
_VIEW = """\
Draw a contact sheet: each picture with its box beside its two training views.

example:
  mixnmatch data view data/factors --out sheet.png --count 24
"""
_EXPORT = """\
Write pictures of a data set as PNG files, cut to their objects as evaluation sees them.

They are named by number and class, and ready for `mixnmatch mix`.

example:
  mixnmatch data export data/factors pictures --count 12 --split test
"""


def register(subparsers: "Subparsers") -> None:
    """Add ``data`` and its sub-commands to the command line."""
    parser = subparsers.add_parser("data", help="make and look at data sets")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _register_ingest(commands)
    _register_synthesize(commands)
    _register_view(commands)
    _register_export(commands)


def run_ingest(arguments: argparse.Namespace) -> int:
    """Read a folder of photographs into a data set."""
    from tqdm import tqdm

    from mixnmatch.data.cub import read_cub, read_index
    from mixnmatch.data.records import Reject
    from mixnmatch.data.store import write_dataset

    index = read_index(arguments.src)
    rejects: list[Reject] = []
    with tqdm(total=len(index.paths), unit="picture", disable=None) as progress:
        records = read_cub(index, rejects.append if arguments.skip_bad else None)
        info = write_dataset(
            (record for record in records if progress.update() or True),
            arguments.out,
            kind=arguments.format,
            source=str(arguments.src),
            rejects=rejects,
            overwrite=arguments.overwrite,
        )
    _summarise(arguments, info)
    return 0


def run_synthesize(arguments: argparse.Namespace) -> int:
    """Draw a data set with known factors."""
    from tqdm import tqdm

    from mixnmatch.data.factors import FactorSpec, draw_factor_dataset
    from mixnmatch.data.store import write_dataset

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
    )
    records = draw_factor_dataset(spec)
    info = write_dataset(
        iter(tqdm(records, total=spec.count + spec.judge_count, unit="picture", disable=None)),
        arguments.out,
        kind="factors",
        source=str(spec),
        licence="drawn by mixnmatch, no third-party content",
        factors=spec.cardinalities,
        labels=spec.textures,
        overwrite=arguments.overwrite,
    )
    _summarise(arguments, info)
    return 0


def run_view(arguments: argparse.Namespace) -> int:
    """Draw a contact sheet of a data set."""
    from mixnmatch.data.contact import contact_sheet
    from mixnmatch.data.store import open_dataset
    from mixnmatch.sheets import check_picture_name, save_picture

    check_picture_name(arguments.out)
    check_range("--count", arguments.count, 1, 1000)
    check_range("--image-size", arguments.image_size, 8, 2048)
    dataset = open_dataset(arguments.data)
    sheet = contact_sheet(dataset, arguments.count, arguments.image_size)
    save_picture(sheet, arguments.out)
    shown = min(arguments.count, len(dataset))
    _report(
        arguments,
        {"out": str(arguments.out), "shown": shown, "count": len(dataset)},
        f"{arguments.out}: {shown} of {len(dataset)} pictures",
    )
    return 0


def run_export(arguments: argparse.Namespace) -> int:
    """Write pictures of a data set as files."""
    from mixnmatch.data.export import export_pictures
    from mixnmatch.data.store import open_dataset

    files, available = export_pictures(
        open_dataset(arguments.data),
        arguments.out,
        count=arguments.count,
        side=arguments.side,
        split=None if arguments.split == "all" else arguments.split,
        seed=arguments.seed,
    )
    of_split = "" if arguments.split == "all" else f" of split {arguments.split}"
    _report(
        arguments,
        {
            "out": str(arguments.out),
            "files": [file.name for file in files],
            "available": available,
        },
        f"{arguments.out}: {len(files)} of {available} pictures{of_split}, "
        f"{arguments.side}x{arguments.side} px",
    )
    return 0


def _register_ingest(commands: "Subparsers") -> None:
    parser = _add(commands, "ingest", "photographs with boxes → data set", _INGEST)
    parser.add_argument("src", metavar="SRC", type=Path, help="folder to read")
    parser.add_argument("out", metavar="OUT", type=Path, help="data set folder to write")
    parser.add_argument(
        "--format", choices=["cub"], default="cub", help="layout of SRC (%(default)s)"
    )
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave bad pictures out, and say which in OUT"
    )
    _add_overwrite(parser)
    parser.set_defaults(run=run_ingest)


def _register_synthesize(commands: "Subparsers") -> None:
    parser = _add(commands, "synthesize", "draw a data set with known factors", _SYNTHESIZE)
    parser.add_argument("out", metavar="OUT", type=Path, help="data set folder to write")
    for option, default, text in (
        ("--count", 2400, "pictures"),
        ("--side", 96, "side of the pictures in pixels"),
        ("--shapes", 3, "shapes, the super categories"),
        ("--textures-per-shape", 2, "textures of each shape"),
        ("--backgrounds", 3, "backgrounds"),
        ("--seed", 0, "seed of everything drawn"),
    ):
        parser.add_argument(option, type=int, default=default, help=f"{text} (%(default)s)")
    parser.add_argument(
        "--free-textures", action="store_true", help="any texture on any shape, as in mixes"
    )
    parser.add_argument(
        "--judge-count",
        type=int,
        help="pictures of split 'judge' besides, with free textures (half of --count)",
    )
    _add_overwrite(parser)
    parser.set_defaults(run=run_synthesize)


def _register_view(commands: "Subparsers") -> None:
    parser = _add(commands, "view", "draw a contact sheet of a data set", _VIEW)
    parser.add_argument("data", metavar="DATA", type=Path, help="data set folder")
    parser.add_argument("--out", type=Path, required=True, help="picture to write")
    parser.add_argument("--count", type=int, default=24, help="pictures (%(default)s)")
    parser.add_argument(
        "--image-size", type=int, default=128, help="side of the object view (%(default)s)"
    )
    parser.set_defaults(run=run_view)


def _register_export(commands: "Subparsers") -> None:
    parser = _add(commands, "export", "write pictures of a data set as files", _EXPORT)
    parser.add_argument("data", metavar="DATA", type=Path, help="data set folder")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write, new or empty")
    parser.add_argument("--count", type=int, default=12, help="most pictures (%(default)s)")
    parser.add_argument(
        "--split",
        choices=["train", "test", "judge", "all"],
        default="test",
        help="part to choose from (%(default)s)",
    )
    parser.add_argument("--side", type=int, default=128, help="of the files, pixels (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice (%(default)s)")
    parser.set_defaults(run=run_export)


def _add(commands: "Subparsers", name: str, text: str, description: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=text,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    return parser


def _add_overwrite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--overwrite", action="store_true", help="replace OUT if it is a data set already"
    )


def _summarise(arguments: argparse.Namespace, info: "DatasetInfo") -> None:
    parts = [f"{info.count} pictures"]
    if info.labels:
        parts.append(f"{info.labels} classes")
    if info.rejects:
        parts.append(f"{len(info.rejects)} bad left out, see dataset.json")
    text = f"{arguments.out}: {', '.join(parts)}; fingerprint {info.fingerprint[:12]}"
    _report(arguments, {"out": str(arguments.out), **json.loads(info.to_json())}, text)


def _report(arguments: argparse.Namespace, summary: dict[str, Any], text: str) -> None:
    print(json.dumps(summary) if arguments.json else text)
