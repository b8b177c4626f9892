"""CUB-200-2011: text files joined by picture id, and a folder ``images``.

``images.txt`` and ``bounding_boxes.txt`` are needed; ``image_class_labels.txt``, ``classes.txt``,
``train_test_split.txt`` and ``parts/`` are read if present, each also as ``.gz``.
"""

import gzip
import io
import zlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath

from mixnmatch.data.layouts.listing import Annotation, Entry, Files, LayoutOptions, Listing
from mixnmatch.data.places import Place
from mixnmatch.data.records import Box, Part, Split
from mixnmatch.errors import DataError

_NEEDED = ("images.txt", "bounding_boxes.txt")
_VISIBLE = {"0": False, "0.0": False, "1": True, "1.0": True}
_LARGEST_TEXT = 2**30  # bytes; the largest of CUB's own tables has 5 MB


def recognise(place: Place, files: Files) -> str | None:
    """CUB's two text files."""
    if all(_find(files, name) for name in _NEEDED):
        return f"CUB-200-2011: {' and '.join(_NEEDED)}"
    return None


def read_listing(place: Place, files: Files, options: LayoutOptions) -> Listing:
    """The pictures in the order of ``images.txt``.

    Classes are numbered from 0 in the order of their ids, because subsets have gaps.

    Raises:
        DataError: If ``images.txt`` or ``bounding_boxes.txt`` is missing, or a line of any file
            cannot be understood.
    """
    for name in _NEEDED:
        if not _find(files, name):
            raise DataError(f"{place.full(name)}: missing; the CUB layout needs it")
    paths = _table(place, files, "images.txt")
    boxes = _table(place, files, "bounding_boxes.txt")
    labels = _integers(place, files, "image_class_labels.txt")
    names = _table(place, files, "classes.txt")
    splits = _integers(place, files, "train_test_split.txt")
    part_names = _table(place, files, "parts/parts.txt")
    parts = _parts(place, files, {key: index for index, key in enumerate(sorted(part_names))})
    folder = "images" if options.image_folder is None else options.image_folder
    entries = []
    first_ids: dict[str, int] = {}
    for key, path in paths.items():
        first = first_ids.setdefault(path, key)
        class_id = labels.get(key)
        split: Split = "train" if splits.get(key, 1) else "test"
        problem: str | None = None
        objects: tuple[Annotation, ...] = ()
        if first != key:
            problem = f"images.txt lists it twice, as {first} and {key}"
        elif key not in boxes:
            problem = f"bounding_boxes.txt has no box for its id {key}"
        elif (box := _box(boxes[key])) is None:
            problem = f"box {boxes[key]!r} is not four numbers: x y width height"
        else:
            class_name = None if class_id is None else names.get(class_id, str(class_id))
            objects = (Annotation(box, class_name=class_name, parts=tuple(parts.get(key, ()))),)
        entries.append(
            Entry(
                path=str(PurePosixPath(folder) / path),
                objects=objects,
                id=key,
                split=split,
                problem=problem,
            )
        )
    order = sorted(names.keys() | set(labels.values()))
    return Listing(
        kind="cub",
        entries=entries,
        class_names=tuple(names.get(class_id, str(class_id)) for class_id in order),
        part_names=tuple(part_names[key] for key in sorted(part_names)),
        saw=f"CUB-200-2011: {len(paths)} pictures in images.txt",
    )


def _box(text: str) -> Box | None:
    try:
        x, y, width, height = map(float, text.split())
    except ValueError:
        return None
    return Box(x, y, width, height)


def _parts(place: Place, files: Files, index: dict[int, int]) -> dict[int, list[Part]]:
    found: dict[int, list[Part]] = defaultdict(list)
    name = "parts/part_locs.txt"
    if not index or not _find(files, name):
        return found
    for number, line in _lines(place, files, name):
        try:
            key, part, x, y, visible = line.split()
            if _VISIBLE[visible]:
                found[int(key)].append(Part(index[int(part)], float(x), float(y)))
        except (ValueError, KeyError) as error:
            raise DataError(
                f"{place.full(name)}:{number}: {line!r} is not a picture, a part, x, y and 0 or 1"
            ) from error
    return found


def _table(place: Place, files: Files, name: str) -> dict[int, str]:
    table: dict[int, str] = {}
    if not _find(files, name):
        return table
    for number, line in _lines(place, files, name):
        key, _, value = line.strip().partition(" ")
        if not (key.isascii() and key.isdecimal() and len(key) < 19) or not value.strip():
            raise DataError(f"{place.full(name)}:{number}: {line!r} is not an id and a value")
        if int(key) in table:
            raise DataError(f"{place.full(name)}:{number}: id {key} is there twice")
        table[int(key)] = value.strip()
    return table


def _integers(place: Place, files: Files, name: str) -> dict[int, int]:
    try:
        return {key: int(value) for key, value in _table(place, files, name).items()}
    except ValueError as error:
        raise DataError(f"{place.full(name)}: values must be whole numbers ({error})") from error


def _find(files: Files, name: str) -> str | None:
    return next((found for found in (name, f"{name}.gz") if found in files), None)


def _lines(place: Place, files: Files, name: str) -> Iterator[tuple[int, str]]:
    """Lines that are not empty, by their number from 1."""
    found = _find(files, name)
    assert found is not None
    content = place.read(found)
    try:
        if found.endswith(".gz"):
            with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
                content = file.read(_LARGEST_TEXT + 1)
        if len(content) > _LARGEST_TEXT:
            raise DataError(f"{place.full(found)}: longer than {_LARGEST_TEXT} bytes")
        text = content.decode("utf-8-sig")  # editors on Windows begin a file with a mark
    except UnicodeDecodeError as error:
        raise DataError(f"{place.full(found)}: not UTF-8 text ({error})") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{place.full(found)}: damaged gzip file ({error})") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield number, line
