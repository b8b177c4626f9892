"""Galleries of data sets: pages to browse pictures with their boxes, their views and what is odd.

A gallery is one HTML file with everything in it, or a folder with ``index.html`` and pictures as
files, which are loaded when they are looked at. Both open from a disk, without a server. The page
is of ``gallery.html``, ``gallery.css`` and ``gallery.js``; here are its data.
"""

import math
import shutil
import uuid
from collections.abc import Callable, Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

from PIL import Image

from mixnmatch.data.html import embedded_json, escape, jpeg, page, picture_uri
from mixnmatch.data.info import DatasetInfo
from mixnmatch.data.looks import Look, Panel
from mixnmatch.data.reasons import kind_of
from mixnmatch.data.words import counted
from mixnmatch.errors import DataError
from mixnmatch.files import replace_folder
from mixnmatch.sheets import written_whole

INDEX_NAME = "index.html"
DAMAGED = "cannot be shown"
"""Kind of remark of a picture that cannot be decoded."""
_PANELS = ("picture", "object view", "background view")
_FOLDER_PICTURES = 1000
_Keep = Callable[[Image.Image, str], str]
"""Keep a picture under a name; its address for the page."""


def write_gallery_page(out: Path, name: str, info: DatasetInfo, looks: Iterable[Look]) -> None:
    """A gallery in one file.

    Args:
        out: The file; it appears whole or not at all.
        name: Of the data set, for people.
        info: What the data set says of itself.
        looks: What to show; all of it is held in memory.

    Raises:
        InputError: If it cannot be written.
    """
    text = _page(name, info, looks, lambda image, _: picture_uri(image), "data:")
    with written_whole(out) as partial:
        partial.write_text(text, encoding="utf-8")


def write_gallery_folder(out: Path, name: str, info: DatasetInfo, looks: Iterable[Look]) -> None:
    """A gallery in a folder, for any number of pictures.

    Args:
        out: The folder; it must not exist, or be empty. It appears whole or not at all.
        name: Of the data set, for people.
        info: What the data set says of itself.
        looks: What to show.

    Raises:
        DataError: If something else is in the way.
        OSError: If it cannot be written.
    """
    out = out.absolute()
    check_free(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.partial")
    partial.mkdir()

    def keep(image: Image.Image, address: str) -> str:
        file = partial / address
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(jpeg(image))
        return address

    try:
        # A page that is opened from a disk is of no origin: 'self' would not be enough.
        text = _page(name, info, looks, keep, "'self' file:")
        (partial / INDEX_NAME).write_text(text, encoding="utf-8")
        check_free(out)
        replace_folder(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_free(out: Path) -> None:
    """Refuse a place for a folder that something else takes.

    Raises:
        DataError: If there is something.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: exists already and is not an empty folder")


def _page(name: str, info: DatasetInfo, looks: Iterable[Look], keep: _Keep, images: str) -> str:
    items = [_item(number, look, keep) for number, look in enumerate(looks)]
    about = [
        f"{len(items)} of {counted(info.count, 'picture')}",
        f"layout {info.kind}" + (f", read from {info.source}" if info.source else ""),
        f"licence: {info.licence}",
        f"fingerprint {info.fingerprint[:12]}",
    ]
    data = {
        "about": "; ".join(about),
        "panels": _PANELS,
        "parts": info.parts,
        "items": items,
        "rejects": [
            {"source": source, "reason": reason, "kind": kind_of(reason, source)}
            for source, reason in info.rejects
        ],
    }
    template, style, script = (
        files("mixnmatch.data").joinpath(f"gallery.{suffix}").read_text(encoding="utf-8")
        for suffix in ("html", "css", "js")
    )
    body = f"<h1>{escape(name)}</h1>\n{template}{embedded_json('data', data)}"
    return page(name, body, style=style, script=script, images=images)


def _item(number: int, look: Look, keep: _Keep) -> dict[str, Any]:
    """A row as the page's script reads it."""
    record, share = look.record, look.object_share
    kinds = {kind_of(remark, record.source) for remark in record.remarks}
    panels = []
    if look.panels is None:
        kinds.add(DAMAGED)
    else:
        folder = f"pictures/{number // _FOLDER_PICTURES:04d}/{number:06d}"
        panels = [
            _panel(panel, keep(panel.image, f"{folder}-{kind.partition(' ')[0]}.jpg"))
            for kind, panel in zip(_PANELS, look.panels, strict=True)
        ]
    return {
        "id": record.id,
        "source": record.source,
        "class": look.class_title,
        "split": record.split or "no split",
        "size": [record.width, record.height],
        "box": [value if math.isfinite(value) else None for value in record.box],
        "share": None if share is None else round(share, 6),
        "remarks": record.remarks,
        "kinds": sorted(kinds),
        "problem": look.problem,
        "panels": panels,
    }


def _panel(panel: Panel, address: str) -> dict[str, Any]:
    return {
        "src": address,
        "size": panel.size,
        "corners": [round(edge, 2) for edge in panel.corners],
        "parts": [[part.part, round(part.x, 1), round(part.y, 1)] for part in panel.parts],
    }
