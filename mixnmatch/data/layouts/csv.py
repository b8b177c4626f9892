"""A table of boxes: CSV or Parquet, a row an object, the path of its picture in one column.

Our own names of the columns are image, x, y, width and height (x2 and y2 in place of the last two
for boxes given by corners), and, where there are such, class and split.
"""

import math
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mixnmatch.data.layouts.cells import TABLE_SUFFIXES, Row, read_header, read_rows
from mixnmatch.data.layouts.listing import (
    Annotation,
    Entry,
    Files,
    LayoutOptions,
    Listing,
    numbered,
    outermost,
    some,
    split_of,
)
from mixnmatch.data.layouts.lookup import Lookup
from mixnmatch.data.places import Place
from mixnmatch.data.records import Box, Split
from mixnmatch.errors import DataError

NUMBERS = {
    "xywh": ("x", "y", "width", "height"),
    "xyxy": ("x", "y", "x2", "y2"),
    "cxcywh": ("x", "y", "width", "height"),
}
"""Columns of each kind of box; x and y of "cxcywh" are its middle."""
OPTIONAL = ("class", "split")
COLUMNS = ("image", "x", "y", "width", "height", "x2", "y2", *OPTIONAL)
"""Our names."""
_FAR = 2.0  # shares go past the edge, but never as far as numbers of pixels would


@dataclass
class _Picture:
    """What the rows of a picture say."""

    objects: list[Annotation] = field(default_factory=list)
    splits: set[Split] = field(default_factory=set)
    problem: str | None = None


def recognise(place: Place, files: Files) -> str | None:
    """Tables whose columns have our own names."""
    found = []
    for path in outermost(_tables(files)):
        try:
            header = set(read_header(place, path))
        except DataError:
            continue
        if any(header.issuperset(("image", *numbers)) for numbers in NUMBERS.values()):
            found.append(path)
    if not found:
        return None
    return f"table: columns image, x, y and so on in {some(found)}"


def read_listing(place: Place, files: Files, options: LayoutOptions) -> Listing:
    """The pictures in the order in which the table first names them.

    Raises:
        DataError: If no table is meant, or several may be; if it lacks a column, is damaged, names
            no picture that is there, or has shares where pixels are expected.
    """
    table, columns = _choose(place, files, options)
    pictures: dict[str, _Picture] = {}
    nameless: list[Entry] = []
    paths: dict[str, tuple[str, str | None]] = {}
    lookup = Lookup(files, options.image_folder)
    count, largest = 0, 0.0
    for row in read_rows(place, table, list(columns.values())):
        count += 1
        cells = dict(zip(columns, row.cells, strict=True))
        where = f"{table}, {row.where}"
        text = _text(cells["image"])
        if text is None:
            problem = f"{row.where}: column {columns['image']!r} names no picture"
            nameless.append(Entry(path=table, problem=problem))
            continue
        if text not in paths:
            paths[text] = _find(lookup, text, table)
        path, missing = paths[text]
        picture = pictures.setdefault(path, _Picture(problem=missing and f"{where}: {missing}"))
        try:
            numbers = _understand(row, cells, columns, options, picture)
        except DataError as error:
            picture.problem = picture.problem or f"{where}: {error}"
        else:
            largest = max([largest, *map(abs, numbers)])
    if pictures and not any(path in files for path in pictures):
        raise DataError(
            f"{place.full(table)}: none of its {len(pictures)} pictures is there, such as "
            f"{next(iter(pictures))}: they must be below {place.name}"
        )
    boxes = sum(len(picture.objects) for picture in pictures.values())
    if boxes and largest <= 1 and options.unit == "pixels":
        raise DataError(
            f"{place.full(table)}: all boxes lie between 0 and 1, so they seem to be shares of the "
            "picture: --unit shares"
        )
    names = {
        item.class_name
        for picture in pictures.values()
        for item in picture.objects
        if item.class_name is not None
    }
    return Listing(
        kind="csv",
        entries=[*_entries(pictures), *nameless],
        class_names=numbered(names),
        saw=f"table {table}: {count} rows of {len(pictures)} pictures; boxes are "
        f"{', '.join(columns[name] for name in NUMBERS[options.boxes])} ({options.boxes}, in "
        f"{options.unit})",
    )


def _choose(place: Place, files: Files, options: LayoutOptions) -> tuple[str, Mapping[str, str]]:
    """The table, and its names of our columns."""
    tables = _tables(files)
    if options.table is not None:
        if options.table not in files:
            there = f"; there are {some(tables)}" if tables else ""
            raise DataError(f"{place.full(options.table)}: no such table{there}")
        tables = [options.table]
    if not tables:
        raise DataError(f"{place.name}: no table ({', '.join(TABLE_SUFFIXES)}) is there")
    if len(tables) > 1:
        raise DataError(
            f"{place.name}: several tables, {some(tables)}: say with --table FILE which one "
            "is meant"
        )
    return tables[0], _columns(place, tables[0], options)


def _columns(place: Place, table: str, options: LayoutOptions) -> Mapping[str, str]:
    declared = dict(options.columns)
    needed = ("image", *NUMBERS[options.boxes])
    for name in declared:
        if name not in (*needed, *OPTIONAL):
            raise DataError(
                f"column {name!r} has no meaning for boxes {options.boxes}, which have "
                f"{', '.join((*needed, *OPTIONAL))}: --boxes {'|'.join(NUMBERS)} says what they are"
            )
    header = read_header(place, table)
    names = {name: declared.get(name, name) for name in (*needed, *OPTIONAL)}
    missing = [
        name for name in names if names[name] not in header and (name in needed or name in declared)
    ]
    if missing:
        lacks = ", ".join(repr(names[name]) for name in missing)
        example = ",".join(f"{name}=..." for name in missing)
        corners = options.boxes != "xyxy" and {"x2", "y2"} <= set(header)
        raise DataError(
            f"{place.full(table)}: no column {lacks}; its columns are {', '.join(header)}: say "
            f"which are meant with --columns {example}" + (" or --boxes xyxy" if corners else "")
        )
    for name in names.values():
        if header.count(name) > 1:
            raise DataError(f"{place.full(table)}: there are two columns {name!r}; rename one")
    return {name: column for name, column in names.items() if column in header}


def _understand(
    row: Row,
    cells: Mapping[str, Any],
    columns: Mapping[str, str],
    options: LayoutOptions,
    picture: _Picture,
) -> list[float]:
    """Add what a row says to its picture; the numbers of the box, none where there is no box."""
    if row.problem is not None:
        raise DataError(row.problem)
    text = _text(cells.get("split"))
    if text is not None:
        split = split_of(text)
        if split is None:
            raise DataError(f"split is {text!r}: it must be train, test or val")
        picture.splits.add(split)
        if len(picture.splits) > 1:
            raise DataError("the picture is in both splits")
    names = NUMBERS[options.boxes]
    given = {name: _number(cells[name], columns[name]) for name in names}
    numbers = [value for value in given.values() if value is not None]
    if not numbers:
        return []
    if len(numbers) < len(names):
        empty = next(name for name in names if given[name] is None)
        raise DataError(f"column {columns[empty]!r} is empty")
    far = max(numbers, key=abs)
    if options.unit == "shares" and abs(far) > _FAR:
        raise DataError(f"{far:g} is no share of a picture, from 0 to 1: --unit pixels?")
    a, b, c, d = numbers
    box = {
        "xywh": Box(a, b, c, d),
        "xyxy": Box.from_corners(a, b, c, d),
        "cxcywh": Box(a - c / 2, b - d / 2, c, d),
    }[options.boxes]
    picture.objects.append(Annotation(box, unit=options.unit, class_name=_text(cells.get("class"))))
    return numbers


def _number(value: Any, column: str) -> float | None:
    """A cell as a number; None if it is empty, as NaN is in Parquet made of a data frame."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"column {column!r} is {reprlib.repr(value)}, not a number") from error
    if math.isinf(number):
        raise DataError(f"column {column!r} is {number}, not a finite number")
    return None if math.isnan(number) else number


def _text(value: Any) -> str | None:
    """A cell as a text; None if it is empty. Data frames write whole numbers as 3.0."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() or None


def _find(lookup: Lookup, text: str, table: str) -> tuple[str, str | None]:
    """The picture that a cell means, or the cell itself and why there is none."""
    try:
        return lookup.find(text, ("", table.rpartition("/")[0])), None
    except ValueError as error:
        return text, str(error)


def _entries(pictures: Mapping[str, _Picture]) -> Iterator[Entry]:
    for path, picture in pictures.items():
        yield Entry(
            path=path,
            objects=tuple(picture.objects),
            split=next(iter(picture.splits), None),
            problem=picture.problem,
        )


def _tables(files: Files) -> list[str]:
    return [path for path in files if path.lower().endswith(TABLE_SUFFIXES)]
