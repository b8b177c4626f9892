"""Stanford Dogs: Pascal VOC's XML in files without a suffix, a folder for each breed.

``Annotation/n02085620-Chihuahua/n02085620_7`` tells of
``Images/n02085620-Chihuahua/n02085620_7.jpg``. The file name inside is often a placeholder, so that
paths alone count. ``train_list.mat`` and ``test_list.mat`` are read if present.
"""

import re
from collections import defaultdict
from pathlib import PurePosixPath

from mixnmatch.data.info import one_line
from mixnmatch.data.layouts.listing import Entry, Files, LayoutOptions, Listing, pictures_below
from mixnmatch.data.layouts.lookup import named
from mixnmatch.data.layouts.mat import read_mat
from mixnmatch.data.layouts.pairs import not_listed, without_annotation
from mixnmatch.data.layouts.xml import VocAnnotation, from_zero, read_annotation
from mixnmatch.data.places import Place
from mixnmatch.data.records import Split
from mixnmatch.errors import DataError

_ANNOTATION = re.compile(r"(?:.*/)?annotations?/(n\d{8}-[^/]+)/([^/.]+)", re.IGNORECASE)
_LISTS: dict[str, Split] = {"train_list.mat": "train", "test_list.mat": "test"}

Key = tuple[str, str]
"""Folder of the breed, and file name without a suffix."""


def recognise(place: Place, files: Files) -> str | None:
    """Files without a suffix in folders that begin with a WordNet id."""
    count = len(_annotations(files))
    return _saw(count) if count else None


def read_listing(place: Place, files: Files, options: LayoutOptions) -> Listing:
    """The pictures in the order of their annotations; breeds in the order of their WordNet ids.

    Raises:
        DataError: If there is no annotation, or a list of a split cannot be understood.
    """
    annotations = _annotations(files)
    if not annotations:
        raise DataError(
            f"{place.full('Annotation')}: missing; Stanford Dogs has files such as "
            "Annotation/n02085620-Chihuahua/n02085620_7 there"
        )
    folders = sorted({folder for folder, _ in annotations})
    breeds = {folder: folder.partition("-")[2] for folder in folders}
    pictures = _pictures(files, options.image_folder, set(folders))
    splits = _splits(place, files)
    root = "Images" if options.image_folder is None else options.image_folder
    read: dict[str, VocAnnotation] = {}
    entries = []
    for key, path in annotations.items():
        found = pictures.get(key, [])
        picture = found[0] if found else str(PurePosixPath(root, *key).with_suffix(".jpg"))
        if len(found) > 1:
            problem = f"{path}: its picture may be {' or '.join(found[:3])}"
            entries.append(Entry(path=picture, problem=problem))
            continue
        try:
            annotation = read[path] = read_annotation(place, files, path, options.first_pixel)
        except ValueError as error:
            entries.append(Entry(path=picture, problem=f"{path}: {one_line(error)}"))
            continue
        breed = breeds[key[0]]
        entries.append(
            Entry(
                path=picture,
                objects=tuple(item._replace(class_name=breed) for item in annotation.objects),
                split=splits.get(key),
                size=annotation.size,
                problem=annotation.problem and f"{path}: {annotation.problem}",
            )
        )
    notes = [
        *without_annotation(
            [path for paths in pictures.values() for path in paths],
            [path for key in annotations for path in pictures.get(key, [])],
            "annotation",
        ),
        *from_zero(read, options),
    ]
    if splits:
        notes += not_listed(entries, "neither list")
    return Listing(
        kind="dogs",
        entries=entries,
        class_names=tuple(dict.fromkeys(breeds.values())),
        saw=_saw(len(annotations)),
        notes=notes,
    )


def _annotations(files: Files) -> dict[Key, str]:
    matches = ((path, _ANNOTATION.fullmatch(path)) for path in files)
    return {(match[1], match[2]): path for path, match in matches if match}


def _pictures(files: Files, root: str | None, folders: set[str]) -> dict[Key, list[str]]:
    found: dict[Key, list[str]] = defaultdict(list)
    for name in pictures_below(files, root):
        path = PurePosixPath(name)
        if path.parent.name in folders:
            found[path.parent.name, path.stem].append(name)
    return found


def _splits(place: Place, files: Files) -> dict[Key, Split]:
    """What is in both lists is of the test's, so that it is never trained on."""
    splits: dict[Key, Split] = {}
    for name, split in _LISTS.items():
        path = named(files, name)
        if path is None:
            continue
        listed = read_mat(place, path, ["file_list"]).get("file_list", [])
        for number, picture in enumerate(listed, start=1):
            parts = PurePosixPath(picture).parts if isinstance(picture, str) else ()
            if len(parts) < 2:
                raise DataError(
                    f"{place.full(path)}: item {number} of file_list must name a picture and its "
                    "folder, such as n02085620-Chihuahua/n02085620_7.jpg"
                )
            splits[parts[-2], PurePosixPath(parts[-1]).stem] = split
        if not listed:
            raise DataError(f"{place.full(path)}: has no file_list, or an empty one")
    return splits


def _saw(count: int) -> str:
    return f"Stanford Dogs: {count} XML files without a suffix in Annotation"
