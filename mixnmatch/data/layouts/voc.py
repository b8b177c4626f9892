"""Pascal VOC: an XML file for each picture, in any folder.

A picture is found by the name in its XML, else by the XML's own, in ``JPEGImages``, ``images``,
beside the XML or wherever there is one of that name. Splits are those of ``ImageSets``, else of
folders called like them.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from mixnmatch.data.info import one_line
from mixnmatch.data.layouts.listing import (
    Entry,
    Files,
    LayoutOptions,
    Listing,
    numbered,
    pictures_below,
    split_of,
)
from mixnmatch.data.layouts.lookup import split_within
from mixnmatch.data.layouts.pairs import Where, not_listed, pair, where, without_annotation
from mixnmatch.data.layouts.xml import VocAnnotation, from_zero, is_annotation, read_annotation
from mixnmatch.data.places import Place
from mixnmatch.data.records import Split
from mixnmatch.errors import DataError

_TRIED = 10
"""XML files that are looked into to recognise the layout."""
_SEGMENTATIONS = {"segmentationclass", "segmentationobject"}
_FLAG = re.compile(r"\s+(-1|0|1)$")
"""Of the lists of one class: whether it is in the picture."""


def recognise(place: Place, files: Files) -> str | None:
    """An XML file with VOC's root element, among the first few."""
    xmls = _xmls(files)
    if any(is_annotation(place, files, path) for path in xmls[:_TRIED]):
        return _saw(xmls)
    return None


def read_listing(place: Place, files: Files, options: LayoutOptions) -> Listing:
    """The pictures in the order of their XML files.

    An XML that cannot be read, or whose picture is not there, is an entry with that problem.

    Raises:
        DataError: If there is no XML, or a list of ``ImageSets`` is no text.
    """
    xmls = _xmls(files)
    if not xmls:
        raise DataError(f"{place.name}: no XML file; Pascal VOC has one for each picture")
    read: dict[str, VocAnnotation] = {}
    problems: dict[str, str] = {}
    for path in xmls:
        try:
            read[path] = read_annotation(place, files, path, options.first_pixel)
        except ValueError as error:
            problems[path] = one_line(error)
    pictures = [
        path
        for path in pictures_below(files, options.image_folder)
        if _SEGMENTATIONS.isdisjoint(path.lower().split("/"))
    ]
    names = {path: read[path].filename if path in read else "" for path in xmls}
    found, missing = pair(names, pictures)
    splits = _Splits(place, files)
    entries = []
    for path in xmls:
        if path in problems or path in missing:
            entries.append(Entry(path=path, problem=problems.get(path) or missing[path]))
            continue
        annotation = read[path]
        entries.append(
            Entry(
                path=found[path],
                objects=annotation.objects,
                split=splits.find(path, found[path]),
                size=annotation.size,
                problem=annotation.problem and f"{path}: {annotation.problem}",
            )
        )
    return Listing(
        kind="voc",
        entries=entries,
        class_names=numbered(
            {item.class_name for entry in entries for item in entry.objects if item.class_name}
        ),
        saw=_saw(xmls),
        notes=[
            *without_annotation(pictures, found.values(), "XML"),
            *_renamed(names, found),
            *splits.notes(entries),
            *from_zero(read, options),
        ],
    )


class _Splits:
    """Which split a picture is of; one of a list for tests is never trained on."""

    def __init__(self, place: Place, files: Files) -> None:
        self._listed: dict[tuple[Where, str], Split] = {}
        for path in sorted((path for path in files if _is_list(path)), key=_rank):
            split = split_of(PurePosixPath(path).stem)
            assert split is not None
            parts = PurePosixPath(path).parts
            at = where("/".join(parts[: [part.lower() for part in parts].index("imagesets") + 1]))
            try:
                lines = place.read(path).decode("utf-8-sig").splitlines()
            except UnicodeDecodeError as error:
                raise DataError(f"{place.full(path)}: not UTF-8 text ({error})") from error
            for line in filter(None, map(str.strip, lines)):
                for name in (line, _FLAG.sub("", line)):
                    self._listed[at, name] = split

    def find(self, xml: str, picture: str) -> Split | None:
        """The split of a picture."""
        place = where(xml)
        for path in (xml, picture):
            for depth in range(len(place), -1, -1):
                if split := self._listed.get((place[:depth], PurePosixPath(path).stem)):
                    return split
        folders = (str(PurePosixPath(path).parent) for path in (xml, picture))
        return next(filter(None, map(split_within, folders)), None)

    def notes(self, entries: Iterable[Entry]) -> list[str]:
        """A note of the pictures that no list has, where there are lists."""
        return not_listed(entries, "no list of ImageSets") if self._listed else []


def _is_list(path: str) -> bool:
    *folders, name = PurePosixPath(path.lower()).parts
    stem, _, suffix = name.rpartition(".")
    where_lists_are = folders[-1:] == ["imagesets"] or folders[-2:] == ["imagesets", "main"]
    return where_lists_are and suffix == "txt" and split_of(stem) is not None


def _rank(path: str) -> tuple[bool, bool, str]:
    """Later lists win: "trainval" holds what "val" has, too."""
    stem = PurePosixPath(path.lower()).stem
    return split_of(stem) == "test", stem != "trainval", path


def _xmls(files: Files) -> list[str]:
    return [path for path in files if path.lower().endswith(".xml")]


def _saw(xmls: list[str]) -> str:
    folders = Counter(str(PurePosixPath(path).parent) for path in xmls)
    (most, _), *others = folders.most_common()
    more = f" and {len(others)} other folders" if others else ""
    place = "beside the pictures" if most == "." else f"in {most}"
    return f"Pascal VOC: {len(xmls)} XML files {place}{more}"


def _renamed(names: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """A note of the pictures that are not called what their XML says."""
    odd = [
        path
        for path, picture in found.items()
        if names[path] and PurePosixPath(picture).name.lower() not in _spellings(names[path])
    ]
    if not odd:
        return []
    first = min(odd)
    return [
        f"XML files that give another name than their picture has: {len(odd)}, such as {first}, "
        f"which says {names[first][:60]!r} and was taken for {found[first]}"
    ]


def _spellings(name: str) -> tuple[str, str]:
    return name.lower(), name.lower().replace("\\", "/").rpartition("/")[2]
