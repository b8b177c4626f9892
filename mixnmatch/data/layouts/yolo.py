"""YOLO: a text file of labels for each picture, and the names of the classes in a file of the set.

Labels are in ``labels`` where pictures are in ``images`` (``train/labels`` or ``labels/train``), or
beside them. Names are those of a YAML file, else of ``classes.txt`` or a ``.names`` file.
"""

from collections.abc import Iterable
from pathlib import PurePosixPath

from mixnmatch.data.info import one_line
from mixnmatch.data.layouts.listing import (
    Annotation,
    Entry,
    Files,
    LayoutOptions,
    Listing,
    numbered,
)
from mixnmatch.data.layouts.lookup import split_within
from mixnmatch.data.layouts.pairs import Where, pair, pictures_below, where, without_annotation
from mixnmatch.data.layouts.yolo_fields import (
    Names,
    looks_like_object,
    names_of_lines,
    names_of_yaml,
    object_of,
)
from mixnmatch.data.places import Place
from mixnmatch.errors import DataError

MOST_BYTES = 16 << 20
"""Of a text file; labels of a picture have a few thousand."""
_TRIED = 20  # label files, to recognise the layout
_LISTS = ("classes.txt", ".names")  # ends of the names of files


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

    Splits are told by folders. A label file without a picture is an entry with that problem.

    Raises:
        DataError: If there are no label files, or the names of the classes cannot be understood.
    """
    pictures = pictures_below(files, options.image_folder)
    labels = _labels(files, pictures)
    if not labels:
        raise DataError(
            f"{place.name}: no label files; YOLO has labels/NAME.txt for images/NAME.jpg, or both "
            "in one folder"
        )
    source, names = _names(place, files)
    found, missing = pair(dict.fromkeys(labels, ""), pictures)
    entries = [Entry(path=label, problem=problem) for label, problem in missing.items()]
    entries += [_entry(place, files, picture, label, names) for label, picture in found.items()]
    folders = {_folder(picture) for picture in found.values()}
    unlabelled = {path for path in pictures if _folder(path) in folders} - set(found.values())
    entries += [Entry(path=path, split=split_within(_folder(path))) for path in unlabelled]
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
        and (_at(path) in places or "labels" in _folder(path).lower().split("/"))
    ]


def _at(path: str) -> tuple[Where, str]:
    return where(path), PurePosixPath(path).stem.lower()


def _entry(place: Place, files: Files, picture: str, label: str, names: Names) -> Entry:
    objects: list[Annotation] = []
    at, problem = label, None
    try:
        for number, line in enumerate(_text(place, files, label).splitlines(), start=1):
            at = f"{label}:{number}"
            if line.strip():
                objects.append(object_of(line, names))
    except (ValueError, OSError) as error:
        problem = f"{at}: {one_line(error)}"
    return Entry(
        path=picture,
        objects=tuple(objects),
        split=split_within(_folder(picture)) or split_within(_folder(label)),
        problem=problem,
    )


def _names(place: Place, files: Files) -> tuple[str, Names]:
    """Names of classes and the file that has them; an empty name where there is none.

    Raises:
        DataError: If a file of names cannot be understood, or two of them differ.
    """
    found: dict[str, Names] = {}
    yamls = [path for path in files if path.lower().endswith((".yaml", ".yml"))]
    lists = [path for path in files if path.endswith(_LISTS)]
    for path in (*yamls, *lists):
        if path in lists and not found.keys().isdisjoint(yamls):
            break
        try:
            text = _text(place, files, path)
            names = names_of_lines(text) if path in lists else names_of_yaml(text)
        except ValueError as error:
            raise DataError(f"{place.full(path)}: {error}") from error
        if names is not None:
            found[path] = names
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


def _first_line(place: Place, files: Files, path: str) -> str:
    """The first line that is not empty; an empty one where there is none or it is no text."""
    try:
        lines = _text(place, files, path).splitlines()
    except ValueError:
        return ""
    return next((line for line in lines if line.strip()), "")


def _text(place: Place, files: Files, path: str) -> str:
    """The content of a file.

    Raises:
        ValueError: If it is too large or no text.
    """
    if files[path].size > MOST_BYTES:
        raise ValueError(f"{files[path].size} bytes: at most {MOST_BYTES} are accepted")
    try:
        return place.read(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text ({error})") from error


def _folder(path: str) -> str:
    return path.rpartition("/")[0]
