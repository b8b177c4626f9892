"""All layouts by name, and which of them a folder has.

Only names are here until a folder is read, so that a command line starts quickly.
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from mixnmatch.errors import DataError

if TYPE_CHECKING:
    from mixnmatch.data.layouts.listing import Files, LayoutOptions, Listing
    from mixnmatch.data.places import Place

LAYOUTS: dict[str, tuple[str, ...]] = {
    "cub": ("image_folder",),
    "dogs": ("first_pixel", "image_folder"),
    "cars": ("image_folder",),
    "voc": ("first_pixel", "image_folder"),
    "coco": ("image_folder",),
    "yolo": ("image_folder",),
    "csv": ("columns", "boxes", "unit", "image_folder", "table"),
    "folder": ("margin", "image_folder"),
}
"""Layouts, each the name of a module beside this one, and the fields of ``LayoutOptions`` that it
uses; "folder", which fits any pictures, is the last resort."""
AUTO = "auto"

_CERTAIN = {"dogs": {"voc"}}
"""Layouts that are special cases of others: who has the first has no second one."""
_ANNOTATIONS = (".csv", ".tsv", ".parquet", ".json", ".jsonl", ".xml", ".mat", ".txt", ".txt.gz")
"""Suffixes of files that may hold boxes; where one is, pictures are not taken to have none."""
_PROSE = ("readme", "licen", "copying", "notice", "credits", "changelog", "requirements")
"""How the names of files begin that hold none."""


def list_files(place: "Place") -> "Files":
    """The files of a folder.

    Raises:
        DataError: If there is no such folder, or nothing in it.
    """
    if not place.is_folder():
        raise DataError(f"{place.name}: no such folder")
    files = dict(place.files())
    if not files:
        raise DataError(f"{place.name}: an empty folder; it must hold pictures")
    return files


def read_source(
    place: "Place", layout: str, options: "LayoutOptions", files: "Files | None" = None
) -> "Listing":
    """The pictures of a folder.

    Args:
        place: The folder.
        layout: A key of ``LAYOUTS``, or "auto".
        options: What the layout leaves open.
        files: Of the folder, where they are known already.

    Raises:
        DataError: If there is no such folder, its layout is not recognised or fits several, or its
            index cannot be understood.
    """
    if files is None:
        files = list_files(place)
    if layout == AUTO and (options.columns or options.table is not None):
        layout = "csv"  # nothing else has columns
    if layout == AUTO:
        layout = _recognise(place, files)
    listing: Listing = _module(layout).read_listing(place, files, options)
    if not listing.entries:
        raise DataError(f"{place.name}: {listing.saw or 'no picture is listed'}")
    return listing


def _recognise(place: "Place", files: "Files") -> str:
    from mixnmatch.data.layouts.listing import some

    seen = {
        name: saw for name in LAYOUTS if (saw := _module(name).recognise(place, files)) is not None
    }
    for name, general in _CERTAIN.items():
        if name in seen:
            seen = {other: saw for other, saw in seen.items() if other not in general}
    if len(seen) > 1:
        seen.pop("folder", None)
    formats = ", ".join(LAYOUTS)
    if not seen:
        raise DataError(
            f"{place.name}: no layout that is known, and no pictures, among {len(files)} files, "
            f"such as {next(iter(files))}; the layouts are {formats}"
        )
    if len(seen) > 1:
        raise DataError(
            f"{place.name}: {'; '.join(seen.values())}: say with --format which of them is meant "
            f"({', '.join(seen)})"
        )
    (layout,) = seen
    strangers = [path for path in files if _may_hold_boxes(path.lower())]
    if layout == "folder" and strangers:
        raise DataError(
            f"{place.name}: {seen[layout]}, and files of no layout that is known, which may hold "
            f"boxes: {some(strangers)}; --format says how to read them ({formats}; for a table "
            "--columns names its columns), --format folder reads pictures without boxes"
        )
    return layout


def _may_hold_boxes(path: str) -> bool:
    return path.endswith(_ANNOTATIONS) and not path.rpartition("/")[2].startswith(_PROSE)


def _module(layout: str) -> ModuleType:
    return importlib.import_module(f"mixnmatch.data.layouts.{layout}")
