"""Stanford Cars: MATLAB files of boxes and classes, in either form that is around.

* ``cars_annos.mat`` tells of all pictures, by paths such as ``car_ims/000001.jpg``;
* ``cars_train_annos.mat`` and ``cars_test_annos_withlabels.mat`` tell of those in ``cars_train``
  and ``cars_test``, and ``cars_meta.mat`` has the names of the classes.

They are found in any folder. Boxes are told by their first and last pixel, counted from 1.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from mixnmatch.data.layouts.listing import (
    Annotation,
    Entry,
    Files,
    LayoutOptions,
    Listing,
    numbered,
    pictures_below,
)
from mixnmatch.data.layouts.lookup import named
from mixnmatch.data.layouts.mat import Variables, read_mat
from mixnmatch.data.layouts.pairs import without_annotation
from mixnmatch.data.layouts.pixels import box_of_pixels
from mixnmatch.data.places import Place
from mixnmatch.data.records import Split
from mixnmatch.errors import DataError

_ALL = "cars_annos.mat"
_TRAIN = "cars_train_annos.mat"
_TEST = ("cars_test_annos_withlabels.mat", "cars_test_annos.mat")
_META = "cars_meta.mat"
_BOX = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")


class _Index(NamedTuple):
    """A MATLAB file with annotations."""

    path: str
    picture: str
    """Field with the picture's path."""
    folder: str
    """Of its pictures, where their paths do not say."""
    split: Split | None
    """Of its pictures; None where each says it itself."""


def recognise(place: Place, files: Files) -> str | None:
    """The names of the MATLAB files."""
    indexes = _indexes(files)
    return _saw(indexes) if indexes else None


def read_listing(place: Place, files: Files, options: LayoutOptions) -> Listing:
    """The pictures in the order of the MATLAB files; classes in that of their names there.

    Of a picture that is listed twice the second entry is left out.

    Raises:
        DataError: If there is none of the MATLAB files, or one cannot be understood.
    """
    indexes = _indexes(files)
    if not indexes:
        raise DataError(f"{place.full(_ALL)}: missing; so is {_TRAIN}: Stanford Cars has either")
    tables = {
        index.path: read_mat(place, index.path, ["annotations", "class_names"]) for index in indexes
    }
    names = _class_names(place, files, tables)
    pictures = _pictures(files, options.image_folder)
    entries = []
    listed: dict[str, str] = {}
    for index in indexes:
        rows = _rows(index, tables[index.path], place.full(index.path))
        for number, (tail, row) in enumerate(rows, start=1):
            found = pictures.get(tail, [])
            path = found[0] if found else str(PurePosixPath(options.image_folder or "", tail))
            try:
                if len(found) > 1:
                    raise ValueError(f"its picture may be {' or '.join(found[:3])}")
                where = f"annotation {number} of {index.path}"
                if (first := listed.setdefault(path, where)) != where:
                    raise ValueError(
                        f"annotation {number}: the picture is listed before, by {first}"
                    )
                objects = (_annotation(row, names),)
            except ValueError as error:
                entries.append(Entry(path=path, problem=f"{index.path}: {error}"))
                continue
            split = index.split or _flagged(row)
            entries.append(Entry(path=path, objects=objects, split=split))
    classes = {item.class_name for entry in entries for item in entry.objects if item.class_name}
    every = [path for paths in pictures.values() for path in paths]
    unlabelled = [index.path for index in indexes if index.path.endswith(_TEST[1])]
    return Listing(
        kind="cars",
        entries=entries,
        class_names=tuple(dict.fromkeys(names)) or numbered(classes),
        saw=_saw(indexes),
        notes=[
            *([] if names else [f"no {_META}: classes are called by their numbers"]),
            *(f"{path}: has no classes; {_TEST[0]} would" for path in unlabelled),
            *without_annotation(every, (entry.path for entry in entries), "annotation"),
        ],
    )


def _indexes(files: Files) -> list[_Index]:
    """Of the two forms, the one whose pictures are there."""
    whole, train = named(files, _ALL), named(files, _TRAIN)
    test = next(filter(None, (named(files, name) for name in _TEST)), None)
    parts: list[_Index] = []
    if train:
        parts.append(_Index(train, "fname", "cars_train", "train"))
    if test:
        parts.append(_Index(test, "fname", "cars_test", "test"))
    folders = {PurePosixPath(path).parent.name for path in files}
    if whole and not (parts and "car_ims" not in folders):
        return [_Index(whole, "relative_im_path", "", None)]
    return parts


def _class_names(place: Place, files: Files, tables: Mapping[str, Variables]) -> list[str]:
    """Names in the order of their numbers from 1; none where no file has them."""
    meta = named(files, _META)
    known = tables if meta is None else {meta: read_mat(place, meta, ["class_names"])}
    for path, table in known.items():
        names = table.get("class_names")
        if names is None:
            continue
        if not names or not all(isinstance(name, str) and name for name in names):
            raise DataError(f"{place.full(path)}: class_names must be a list of names")
        return names
    return []


def _rows(index: _Index, table: Variables, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Folder and name of each picture, and its row."""
    rows = table.get("annotations")
    if not rows:
        raise DataError(f"{name}: has no annotations")
    for number, row in enumerate(rows, start=1):
        fields = row if isinstance(row, dict) else {}
        missing = [field for field in (index.picture, *_BOX) if field not in fields]
        if missing:
            raise DataError(f"{name}: annotation {number} has no {' and no '.join(missing)}")
        picture = fields[index.picture]
        if not isinstance(picture, str) or not picture:
            raise DataError(f"{name}: {index.picture} of annotation {number} is not a file name")
        yield "/".join((index.folder, *PurePosixPath(picture).parts)).lstrip("/"), fields


def _annotation(row: Mapping[str, Any], names: Sequence[str]) -> Annotation:
    box = box_of_pixels([row[name] for name in _BOX])
    if "class" not in row:
        return Annotation(box)
    number = row["class"]
    if not isinstance(number, int | float) or number != number // 1 or number < 1:
        raise ValueError(f"class {number!r:.40} is not a whole number from 1")
    if names and number > len(names):
        raise ValueError(f"class {number:g} is above {len(names)}, the number of classes")
    return Annotation(box, class_name=names[int(number) - 1] if names else str(int(number)))


def _flagged(row: Mapping[str, Any]) -> Split | None:
    if "test" not in row:
        return None
    return "test" if row["test"] else "train"


def _pictures(files: Iterable[str], folder: str | None) -> dict[str, list[str]]:
    """Paths by their last folder and name."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in pictures_below(files, folder):
        found["/".join(PurePosixPath(path).parts[-2:])].append(path)
    return found


def _saw(indexes: Sequence[_Index]) -> str:
    return f"Stanford Cars: {' and '.join(index.path for index in indexes)}"
