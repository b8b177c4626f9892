"""Small pictures, and folders of them read as the command line would.

A module with a name of its own: a process that a test starts finds it, where ``conftest`` may be
another suite's.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from mixnmatch.data.layouts.known import read_source
from mixnmatch.data.layouts.listing import LayoutOptions
from mixnmatch.data.places import Place
from mixnmatch.data.plan import Plan, read_entry
from mixnmatch.data.records import Factors, Record, Reject

MakeCub = Callable[..., Path]
UPRIGHT = Factors(
    background=0,
    shape=0,
    texture=0,
    pose=1,
    position_x=0.5,
    position_y=0.5,
    scale=0.5,
    rotation=0.0,
    mirrored=False,
)


def encoded(width: int = 40, height: int = 30, mode: str = "RGB", form: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert(mode).save(buffer, form)
    return buffer.getvalue()


def plan_of(root: Path, layout: str = "auto", **options: Any) -> Plan:
    """How the command line would read a folder."""
    place = Place(root)
    listing = read_source(place, layout, LayoutOptions())
    return Plan(place=place, listing=listing, files=place.files(), **options)


def rows_of(plan: Plan) -> list[Record | Reject]:
    return [row for number in range(len(plan.listing.entries)) for row in read_entry(plan, number)]


def read_cub(root: Path) -> list[Record]:
    """The pictures of a CUB folder; the first bad one raises."""
    rows = rows_of(plan_of(root, "cub", strict=True))
    return [row for row in rows if isinstance(row, Record)]
