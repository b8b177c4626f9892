"""``mixnmatch data ingest``: photographs with boxes to a data set."""

import argparse
import os
import shlex
import sys
import time
from typing import TYPE_CHECKING, Any

from mixnmatch.commands.data.common import add_command, add_overwrite, report, summarise
from mixnmatch.commands.options import check_range
from mixnmatch.data.info import DatasetInfo
from mixnmatch.data.layouts.known import AUTO, LAYOUTS, list_files, read_source
from mixnmatch.data.words import counted
from mixnmatch.errors import InputError

if TYPE_CHECKING:
    from mixnmatch.data.ingest import Maker
    from mixnmatch.data.places import Place
    from mixnmatch.data.plan import Plan

DESCRIPTION = """\
Read photographs and the boxes of their objects into a data set folder.

The layout of SRC is recognised, or named by --format. Pictures that cannot be used are left out and
named; an interrupted ingestion goes on where it was when the same command is run again.

example:
  mixnmatch data ingest CUB_200_2011 data/birds
  mixnmatch data ingest shoes data/shoes --columns image=file,x=left,y=top,width=w,height=h
"""
_LAYOUT_OPTIONS = {
    "columns": "--columns",
    "boxes": "--boxes",
    "unit": "--unit",
    "table": "--table",
    "first_pixel": "--first-pixel",
    "margin": "--margin",
    "image_folder": "--images",
}
"""Fields of ``LayoutOptions`` and the options that set them."""
_SHOWN = 5


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = add_command(commands, "ingest", "photographs with boxes → data set", DESCRIPTION)
    add_source_options(parser)
    parser.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count() or 1,
        help="processes; the data set is the same for any number (%(default)s)",
    )
    parser.set_defaults(run=run)


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """What is read and how; shared with ``platform ingest``."""
    parser.add_argument("src", metavar="SRC", help="folder or URL to read")
    parser.add_argument("out", metavar="OUT", help="data set folder or URL to write")
    parser.add_argument(
        "--format", choices=[AUTO, *LAYOUTS], default=AUTO, help="layout of SRC (%(default)s)"
    )
    parser.add_argument(
        "--objects",
        choices=["largest", "each", "refuse"],
        default="largest",
        help="of a picture with several objects: a row of the largest, a row of each, or leave "
        "the picture out (%(default)s)",
    )
    parser.add_argument(
        "--strict", action="store_true", help="stop at the first picture that cannot be used"
    )
    parser.add_argument(
        "--licence", default="unknown", help="terms of the pictures, for the record"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be read, then stop")
    add_overwrite(parser)
    add_layout_options(parser)


def add_layout_options(parser: argparse.ArgumentParser) -> None:
    """What a layout leaves open; each is None unless it is given."""
    group = parser.add_argument_group("what a layout leaves open")
    group.add_argument(
        "--images",
        dest="image_folder",
        metavar="FOLDER",
        help="where the pictures are, below SRC, if not where the layout has them",
    )
    group.add_argument(
        "--columns",
        metavar="OURS=THEIRS,...",
        help="table: its columns for image, x, y, width, height (x2, y2), class, split, where "
        "they have other names",
    )
    group.add_argument(
        "--boxes",
        choices=["xywh", "xyxy", "cxcywh"],
        help="table: corner and size, two corners, or middle and size (xywh)",
    )
    group.add_argument(
        "--unit",
        choices=["pixels", "shares"],
        help="table: of the boxes; shares of the picture are from 0 to 1 (pixels)",
    )
    group.add_argument("--table", metavar="FILE", help="table: which one, below SRC, of several")
    group.add_argument(
        "--first-pixel",
        type=int,
        choices=[0, 1],
        help="voc, dogs: number of the first pixel (1)",
    )
    group.add_argument(
        "--margin",
        type=float,
        metavar="SHARE",
        help="folder: of each side, taken for background (0.05)",
    )


def read_plan(arguments: argparse.Namespace, place: "Place") -> "Plan":
    """The plan that the options of ``add_source_options`` ask for; says what was recognised.

    Args:
        arguments: The options.
        place: The source.

    Raises:
        InputError: If the source cannot be understood, or an option has no meaning for its layout.
    """
    from mixnmatch.data.layouts.listing import LayoutOptions
    from mixnmatch.data.plan import Plan

    given = _given(arguments)
    if arguments.format != AUTO:
        _check_used(given, arguments.format)
    files = list_files(place)
    listing = read_source(place, arguments.format, LayoutOptions(**given), files)
    _check_used(given, listing.kind)
    for line in (listing.saw, *listing.notes):
        print(line, file=sys.stderr)
    return Plan(
        place=place,
        listing=listing,
        files=files,
        objects=arguments.objects,
        strict=arguments.strict,
    )


def run(arguments: argparse.Namespace) -> int:
    """Read a folder of photographs into a data set."""
    from functools import partial

    from mixnmatch.data.pool import make_in_pool

    check_range("--workers", arguments.workers, 1, 1024)
    return make_dataset(arguments, partial(make_in_pool, workers=arguments.workers))


def make_dataset(arguments: argparse.Namespace, make: "Maker") -> int:
    """What ``add_source_options`` ask for, by this maker of shards; shared with the platform."""
    from tqdm import tqdm

    from mixnmatch.data.ingest import Job, check_apart
    from mixnmatch.data.places import Place

    started = time.monotonic()
    source, out = Place(arguments.src), Place(arguments.out)
    check_apart(source, out)
    plan = read_plan(arguments, source)
    if arguments.dry_run:
        report_plan(arguments, plan)
        return 0
    job = Job(plan, out, overwrite=arguments.overwrite)
    if job.finished is not None and job.finished.licence == arguments.licence:
        print(f"{arguments.out}: made before of the same pictures, nothing to do", file=sys.stderr)
    with tqdm(total=len(plan.listing.entries), unit="picture", disable=None) as bar:
        info = job.run(make, licence=arguments.licence, command=command_line(), progress=bar.update)
    name_rejects(info)
    rows = "objects" if arguments.objects == "each" else "pictures"
    summarise(arguments, info, rows=rows, seconds=round(time.monotonic() - started, 3))
    return 0


def report_plan(arguments: argparse.Namespace, plan: "Plan") -> None:
    """Print what would be read, as a table or as JSON; no picture is read for it."""
    from collections import Counter

    listing = plan.listing
    objects = [item for entry in listing.entries for item in entry.objects]
    problems = [
        f"{plan.place.full(entry.path)}: {entry.problem or 'no such file'}"
        for entry in listing.entries
        if entry.problem is not None or entry.path not in plan.files
    ]
    splits = Counter(entry.split or "train" for entry in listing.entries)
    several = sum(len(entry.objects) > 1 for entry in listing.entries)
    summary = {
        "source": plan.place.name,
        "out": str(arguments.out),
        "layout": listing.kind,
        "saw": listing.saw,
        "notes": list(listing.notes),
        "pictures": len(listing.entries),
        "objects": len(objects),
        "pictures_with_several": several,
        "classes": list(listing.class_names),
        "splits": dict(sorted(splits.items())),
        "parts": list(listing.part_names),
        "problems": problems,
    }
    lines = {
        "layout": listing.kind,
        "pictures": str(len(listing.entries)),
        "objects": str(len(objects))
        + (f"; several in {counted(several, 'picture')}" if several else ""),
        "classes": _some(listing.class_names),
        "splits": ", ".join(f"{count} {name}" for name, count in sorted(splits.items())),
        "parts": _some(listing.part_names),
        "unusable": str(len(problems)) + (f", such as {problems[0]}" if problems else ""),
    }
    table = "\n".join(f"{name:10}{line}" for name, line in lines.items())
    count = len(listing.entries) - len(problems)
    report(arguments, summary, f"{table}\n{count} pictures would be read into {arguments.out}")


def command_line() -> str:
    """That of this process, for the record."""
    return shlex.join([os.path.basename(sys.argv[0]), *sys.argv[1:]])  # noqa: PTH119


def name_rejects(info: DatasetInfo) -> None:
    """Say on stderr what was left out, the first few by name, and what is there twice."""
    for reject in info.rejects[:_SHOWN]:
        print(f"left out: {reject.reason}", file=sys.stderr)
    if len(info.rejects) > _SHOWN:
        more = len(info.rejects) - _SHOWN
        print(f"left out: {more} more, see dataset.json", file=sys.stderr)
    if info.duplicates:
        first = " and ".join(info.duplicates[0])
        print(
            f"the same picture more than once: {len(info.duplicates)} groups, such as {first}",
            file=sys.stderr,
        )


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    """Fields of ``LayoutOptions`` whose options are given."""
    given = {
        name: value for name in _LAYOUT_OPTIONS if (value := getattr(arguments, name)) is not None
    }
    if "columns" in given:
        given["columns"] = _columns(arguments.columns)
    if "margin" in given:
        check_range("--margin", arguments.margin, 0, 0.45)
    return given


def _columns(text: str) -> tuple[tuple[str, str], ...]:
    columns: dict[str, str] = {}
    for item in text.split(","):
        ours, _, theirs = (part.strip() for part in item.partition("="))
        if not (ours and theirs):
            raise InputError(
                f"--columns is {text!r}: it must be like image=file,x=left,y=top, our name first"
            )
        if ours in columns:
            raise InputError(f"--columns is {text!r}: it gives {ours} twice")
        columns[ours] = theirs
    return tuple(columns.items())


def _check_used(given: dict[str, Any], layout: str) -> None:
    for name in given:
        if name not in LAYOUTS[layout]:
            users = ", ".join(key for key, names in LAYOUTS.items() if name in names)
            raise InputError(
                f"{_LAYOUT_OPTIONS[name]} has no meaning for the layout {layout}, only for {users}"
            )


def _some(names: Any) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"{len(names)}" + (f": {shown}" if names else "") + ("…" if len(names) > _SHOWN else "")
