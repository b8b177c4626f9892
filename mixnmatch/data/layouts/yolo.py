"""YOLO: a text file of labels for each picture, and the names of the classes in a file of the set.

Labels are in ``labels`` where pictures are in ``images`` (``train/labels`` or ``labels/train``), or
beside them. Names are those of a YAML file, else of ``classes.txt`` or a ``.names`` file. Splits
are those of the lists of pictures that a YAML file names, else of folders called like them.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePosixPath
from typing import TypeVar

from mixnmatch.data.info import one_line
from mixnmatch.data.layouts.labels import read_label
from mixnmatch.data.layouts.listing import (
    Annotation,
    Entry,
    Files,
    LayoutOptions,
    Listing,
    numbered,
    pictures_below,
)
from mixnmatch.data.layouts.lookup import Lookup, split_within
from mixnmatch.data.layouts.pairs import (
    Where,
    folder_of,
    not_listed,
    pair,
    where,
    without_annotation,
)
from mixnmatch.data.layouts.yolo_fields import (
    Names,
    SetFile,
    looks_like_object,
    names_of_lines,
    object_of,
    read_set,
)
from mixnmatch.data.places import Place
from mixnmatch.data.records import Split
from mixnmatch.errors import DataError

MOST_BYTES = 16 << 20
"""Of a text file; labels of a picture have a few thousand."""
_TRIED = 20  # label files, to recognise the layout
_MOST_LIST_BYTES = 1 << 30  # of a list of pictures: ten million
_LISTS = ("classes.txt", ".names")  # ends of the names of files
_T = TypeVar("_T")


def recognise(place: Place, files: Files) -> str | None:
    """Text files that belong to pictures and, most of those that are tried, begin like labels."""
    labels = _labels(files, pictures_below(files, None))
    tried = labels[:: -(-len(labels) // _TRIED)] if labels else []
    begins = [line for label in tried if (line := _first_line(place, files, label))]
    if 2 * sum(map(looks_like_object, begins)) <= len(begins):
        return None
    return f"YOLO: {len(labels)} label files, such as {labels[0]}"


def read_listing(place: Place, files: Files, options: LayoutOptions) -> Listing:
    """The labelled pictures, and those in the same folders, in the order of their paths.

    A label file without a picture is an entry with that problem.

    Raises:
        DataError: If there are no label files, the names of the classes cannot be understood, or a
            list of pictures that a YAML file names cannot be read.
    """
    pictures = pictures_below(files, options.image_folder)
    labels = _labels(files, pictures)
    if not labels:
        raise DataError(
            f"{place.name}: no label files; YOLO has labels/NAME.txt for images/NAME.jpg, or both "
            "in one folder"
        )
    sets = _sets(place, files)
    source, names = _names(place, files, sets)
    splits, notes = _splits(place, files, sets, pictures)
    found, missing = pair(dict.fromkeys(labels, ""), pictures)
    entries = [Entry(path=label, problem=problem) for label, problem in missing.items()]
    for label, picture in found.items():
        objects, problem = _objects(place, files, label, names)
        split = splits.get(picture) or split_within(folder_of(picture))
        entries.append(
            Entry(
                path=picture,
                objects=objects,
                split=split or split_within(folder_of(label)),
                problem=problem,
            )
        )
    folders = {folder_of(picture) for picture in found.values()}
    unlabelled = {path for path in pictures if folder_of(path) in folders} - set(found.values())
    entries += [
        Entry(path=path, split=splits.get(path) or split_within(folder_of(path)))
        for path in unlabelled
    ]
    listed = [entry.path for entry in entries]
    used = {item.class_name or "" for entry in entries for item in entry.objects}
    return Listing(
        kind="yolo",
        entries=sorted(entries, key=lambda entry: entry.path),
        class_names=tuple(dict.fromkeys(names.classes.values())) or numbered(used),
        part_names=tuple(map(str, range(names.keypoints[0]))) if names.keypoints else (),
        saw=f"YOLO: {len(labels)} label files of {len(pictures)} pictures",
        notes=(
            f"names of classes: {source or 'none, they are called by their numbers'}",
            *without_annotation(pictures, listed, "label file, nor others in their folder"),
            *notes,
            *(not_listed(entries, "no list that a YAML file names") if splits else []),
        ),
    )


def _labels(files: Files, pictures: Iterable[str]) -> list[str]:
    """Text files in a folder ``labels``, or at the place of a picture of the same name."""
    places = {_at(path) for path in pictures}
    return [
        path
        for path in files
        if path.lower().endswith(".txt")
        and not path.endswith(_LISTS)
        and (_at(path) in places or "labels" in folder_of(path).lower().split("/"))
    ]


def _at(path: str) -> tuple[Where, str]:
    return where(path), PurePosixPath(path).stem.lower()


def _objects(
    place: Place, files: Files, label: str, names: Names
) -> tuple[tuple[Annotation, ...], str | None]:
    """The objects of a label file, and what is wrong with it."""
    objects: list[Annotation] = []
    at, problem = label, None
    try:
        for number, line in enumerate(_text(place, files, label).splitlines(), start=1):
            at = f"{label}:{number}"
            if line.strip():
                objects.append(object_of(line, names))
    except ValueError as error:
        problem = f"{at}: {one_line(error)}"
    return tuple(objects), problem


def _sets(place: Place, files: Files) -> dict[str, SetFile]:
    """What YAML files say that have names of classes, by their paths."""
    yamls = [path for path in files if path.lower().endswith((".yaml", ".yml"))]
    found = {path: _understood(place, files, path, read_set) for path in yamls}
    return {path: said for path, said in found.items() if said is not None}


def _names(place: Place, files: Files, sets: Mapping[str, SetFile]) -> tuple[str, Names]:
    """Names of classes and the file that has them; an empty name where there is none.

    Raises:
        DataError: If a file of names cannot be understood, or two of them differ.
    """
    found = {path: said.names for path, said in sets.items()} or {
        path: _understood(place, files, path, names_of_lines)
        for path in files
        if path.endswith(_LISTS)
    }
    if not found:
        return "", Names({})
    first, *others = found
    for other in others:
        if found[other] != found[first]:
            raise DataError(
                f"{place.full(other)}: other names of classes than in {first}; one set has one "
                "list of them"
            )
    return first, found[first]


def _splits(
    place: Place, files: Files, sets: Mapping[str, SetFile], pictures: Iterable[str]
) -> tuple[dict[str, Split], list[str]]:
    """The splits that lists give, and a note of what they name in vain.

    A picture of a list for tests is never trained on.

    Raises:
        DataError: If a list is not there or cannot be read.
    """
    splits: dict[str, Split] = {}
    strays = []
    lists = [(yaml, *item) for yaml, said in sets.items() for item in said.lists]
    if not lists:
        return splits, []
    every, known = Lookup(files), Lookup(pictures)
    for yaml, split, name in lists:
        try:
            path = every.find(name, (folder_of(yaml), ""))
        except ValueError as error:
            raise DataError(
                f"{place.full(yaml)}: {name!r}, its list of pictures to {split}, {error}: put it "
                "there, or take it out"
            ) from error
        lines = _understood(place, files, path, str.splitlines, most=_MOST_LIST_BYTES)
        for line in filter(None, map(str.strip, lines)):
            try:
                picture = known.find(line, (folder_of(path), folder_of(yaml), ""))
            except ValueError:
                strays.append(line)
                continue
            if splits.get(picture) != "test":
                splits[picture] = split
    if not strays:
        return splits, []
    return splits, [f"lines of lists that name no picture: {len(strays)}, such as {strays[0]:.80}"]


def _first_line(place: Place, files: Files, path: str) -> str:
    """The first line that is not empty; an empty one where there is none or it is no text."""
    try:
        lines = _text(place, files, path).splitlines()
    except ValueError:
        return ""
    return next((line for line in lines if line.strip()), "")


def _understood(
    place: Place, files: Files, path: str, understand: Callable[[str], _T], most: int = MOST_BYTES
) -> _T:
    """What a file of the whole set says.

    Raises:
        DataError: If it cannot be read or understood.
    """
    try:
        return understand(_text(place, files, path, most))
    except ValueError as error:
        raise DataError(f"{place.full(path)}: {error}") from error


def _text(place: Place, files: Files, path: str, most: int = MOST_BYTES) -> str:
    """The content of a file.

    Raises:
        ValueError: If it is too large, no text or may not be read.
        RunError: As ``read_label``.
    """
    if files[path].size > most:
        raise ValueError(f"{files[path].size} bytes: at most {most} are accepted")
    try:
        return read_label(place, path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text ({error})") from error
