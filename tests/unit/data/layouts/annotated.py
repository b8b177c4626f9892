"""Pictures with XML or MATLAB annotations, written by hand, and boxes to write."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import numpy as np
from hypothesis import strategies as st
from made_data import encoded, rows_of
from scipy.io import savemat

from mixnmatch.data.layouts import mat
from mixnmatch.data.layouts.known import read_source
from mixnmatch.data.layouts.listing import LayoutOptions, Listing
from mixnmatch.data.places import Place
from mixnmatch.data.plan import Plan
from mixnmatch.data.records import Box, Record, Reject

WIDTH, HEIGHT = 40, 30
PICTURE = encoded(WIDTH, HEIGHT)

Corners = tuple[object, object, object, object]
"""Column and row of a box's first pixel, then of its last, from 1."""


def write(root: Path, **contents: Any) -> Path:
    """Files by name, bytes or text."""
    for name, content in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def annotation(
    *objects: tuple[str, Corners], filename: str = "a.jpg", size: tuple[object, object] = (40, 30)
) -> str:
    """Pascal VOC's XML."""
    told = "".join(
        f"<object><name>{name}</name><part><name>head</name><bndbox><xmin>9</xmin></bndbox></part>"
        f"<bndbox><xmax>{x2}</xmax><xmin>{x1}</xmin><ymin>{y1}</ymin><ymax>{y2}</ymax></bndbox>"
        "</object>"
        for name, (x1, y1, x2, y2) in objects
    )
    return (
        f"<annotation><filename>{filename}</filename><size><width>{size[0]}</width>"
        f"<height>{size[1]}</height><depth>3</depth></size>{told}</annotation>"
    )


def mat_structs(rows: list[dict[str, object]]) -> np.ndarray:
    """A structure array as MATLAB has it: a row of them, each field of any type."""
    array = np.zeros((1, len(rows)), [(name, object) for name in rows[0]])
    for index, row in enumerate(rows):
        array[0, index] = tuple(row.values())
    return array


def mat_cells(items: list[str], *, down: bool = False) -> np.ndarray:
    """A cell array of text."""
    array = np.empty(len(items), object)
    array[:] = items
    return array.reshape(-1, 1) if down else array.reshape(1, -1)


def save(path: Path, *, do_compression: bool = True, **variables: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, variables, do_compression=do_compression)


def read_mat_here(content: bytes, names: list[str]) -> Any:
    """Stands in for the reader's own process, where a test is of what becomes of its answer."""
    return json.loads(json.dumps(mat._read_here(content, names)))


def steps(work: Callable[[], object], module: ModuleType) -> int:
    """How often a line of a module is run, rounds of comprehensions included.

    It grows as the time does where many pictures must be told apart, but is always the same.
    """
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        if frame.f_code.co_filename != module.__file__:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def listing_of(root: Path, layout: str = "auto", **options: Any) -> Listing:
    return read_source(Place(root), layout, LayoutOptions(**options))


def rows(root: Path, layout: str = "auto", **options: Any) -> list[Record | Reject]:
    """All rows, every object one of them."""
    place = Place(root)
    listing = listing_of(root, layout, **options)
    return rows_of(Plan(place=place, listing=listing, files=place.files(), objects="each"))


def boxes_of(root: Path, layout: str = "auto") -> list[Box]:
    found = rows(root, layout)
    assert all(isinstance(row, Record) for row in found), found
    return [row.box for row in found if isinstance(row, Record)]


def cub_boxes(root: Path, boxes: list[Box], pictures: list[str]) -> list[Box]:
    """The boxes of these pictures, one each, as the CUB layout reads them."""
    ids = range(1, len(boxes) + 1)
    write(
        root,
        **{
            "images.txt": "".join(f"{i} {name}\n" for i, name in zip(ids, pictures, strict=True)),
            "bounding_boxes.txt": "".join(
                f"{i} {b.x} {b.y} {b.width} {b.height}\n" for i, b in zip(ids, boxes, strict=True)
            ),
        },
        **{f"images/{name}": PICTURE for name in pictures},
    )
    return boxes_of(root, "cub")


def pixels_from_one(box: Box) -> Corners:
    """What VOC and MATLAB write for a box of whole pixels."""
    columns = range(int(box.x), int(box.right))
    lines = range(int(box.y), int(box.bottom))
    return columns[0] + 1, lines[0] + 1, columns[-1] + 1, lines[-1] + 1


_EDGES = st.tuples(
    st.lists(st.integers(0, WIDTH + 5), min_size=2, max_size=2, unique=True).map(sorted),
    st.lists(st.integers(0, HEIGHT + 5), min_size=2, max_size=2, unique=True).map(sorted),
).filter(lambda edges: edges[0][0] < WIDTH and edges[1][0] < HEIGHT)
whole_boxes = _EDGES.map(lambda e: Box.from_corners(e[0][0], e[1][0], e[0][1], e[1][1]))
"""Of whole pixels; some go past the right and the lower edge."""
