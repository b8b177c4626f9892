"""``mixnmatch data view``: look at a data set."""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mixnmatch.commands.data.common import add_command, printable, report
from mixnmatch.commands.options import check_range, check_seed, folder_or_url
from mixnmatch.errors import InputError

if TYPE_CHECKING:
    from mixnmatch.data.looks import Look

DESCRIPTION = """\
Show pictures with their boxes beside their two training views: as a contact sheet (--out sheet.png)
or as a gallery to browse, with filters (--out gallery.html, or --out gallery/ for many pictures).

example:
  mixnmatch data view data/factors --out sheet.png --count 24
  mixnmatch data view data/birds --out birds.html --odd
"""
_DEFAULT_COUNT = {"sheet": 24, "page": 200, "folder": None}
_LARGEST_COUNT = {"sheet": 1000, "page": 1000, "folder": 10**6}
_NAMED = 5
"""Damaged pictures that are named."""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = add_command(commands, "view", "look at the pictures of a data set", DESCRIPTION)
    parser.add_argument("data", metavar="DATA", type=folder_or_url, help="data set folder or URL")
    parser.add_argument(
        "--out",
        required=True,
        help="picture, .html file, or new folder (a name that ends in / or has no suffix)",
    )
    parser.add_argument(
        "--count",
        type=int,
        help="most pictures (24 in a contact sheet, 200 in one HTML file, all in a folder)",
    )
    parser.add_argument(
        "--split",
        choices=["train", "test", "judge", "all"],
        default="all",
        help="part to choose from (%(default)s)",
    )
    parser.add_argument("--class", dest="class_name", metavar="NAME", help="only of this class")
    parser.add_argument("--odd", action="store_true", help="only pictures with remarks")
    parser.add_argument(
        "--seed", type=int, help="choose pictures at random (else spread evenly over the data set)"
    )
    parser.add_argument(
        "--image-size", type=int, default=128, help="side of the object view (%(default)s)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Draw a contact sheet of a data set, or write a gallery."""
    from tqdm import tqdm

    from mixnmatch.data.contact import contact_sheet
    from mixnmatch.data.gallery import check_free, write_gallery_folder, write_gallery_page
    from mixnmatch.data.looks import LARGEST_SIDE, LEAST_SIDE, choose_rows, read_looks
    from mixnmatch.data.store import open_dataset
    from mixnmatch.data.words import counted
    from mixnmatch.sheets import save_picture

    out, form = Path(arguments.out), _form(arguments.out)
    if arguments.count is not None:
        check_range("--count", arguments.count, 1, _LARGEST_COUNT[form])
    check_range("--image-size", arguments.image_size, LEAST_SIDE, LARGEST_SIDE)
    if arguments.seed is not None:
        check_seed(arguments.seed)
    if form == "folder":
        check_free(out)
    dataset = open_dataset(arguments.data)
    rows = choose_rows(
        dataset,
        arguments.count or _DEFAULT_COUNT[form],
        split=None if arguments.split == "all" else arguments.split,
        class_name=arguments.class_name,
        odd=arguments.odd,
        seed=arguments.seed,
    )
    problems: list[str] = []
    bar = tqdm(total=len(rows), unit="picture", disable=None)

    def seen() -> Iterator["Look"]:
        for look in read_looks(dataset, rows.tolist(), arguments.image_size):
            if look.problem is not None:
                problems.append(look.problem)
            bar.update()
            yield look

    with bar:
        if form == "sheet":
            save_picture(contact_sheet(list(seen())), out)
        elif form == "page":
            write_gallery_page(out, dataset.path.name, dataset.info, seen())
        else:
            write_gallery_folder(out, dataset.path.name, dataset.info, seen())
    for problem in problems[:_NAMED]:
        print(f"cannot be shown: {printable(problem)}", file=sys.stderr)
    summary = {
        "out": str(out),
        "form": form,
        "shown": len(rows),
        "count": len(dataset),
        "damaged": len(problems),
    }
    damage = f", {len(problems)} of them damaged" if problems else ""
    report(arguments, summary, f"{out}: {len(rows)} of {counted(len(dataset), 'picture')}{damage}")
    return 0


def _form(name: str) -> Literal["sheet", "page", "folder"]:
    """What is to be written under a name.

    Raises:
        InputError: If no picture format, and nothing else, is written as that.
    """
    from PIL import Image

    suffix = Path(name).suffix.lower()
    if name.endswith(("/", os.sep)) or not suffix or Path(name).is_dir():
        return "folder"
    if suffix in (".html", ".htm"):
        return "page"
    if Image.registered_extensions().get(suffix) in Image.SAVE:
        return "sheet"
    raise InputError(
        f"{name}: no picture format is written as {suffix!r}: use .png, .html, or a folder's name "
        "with / at its end"
    )
