"""COCO JSON: ``images``, ``annotations`` and ``categories`` joined by id, in one file or several.

A box is ``[x, y, width, height]`` in pixels from the left and upper edge of the first pixel, as in
our store. Keypoints are ``[x, y, v]`` each and count pixels from 0; they are taken as they are, as
CUB's parts are: nothing is added to reach the middle of a pixel. Of them only those that can be
seen are kept (v = 2), not those that are labelled but hidden (1). Crowds are no objects, and
outlines and masks are not read.

Source: https://cocodataset.org/#format-data
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from reprlib import repr as brief
from typing import Any

from mixnmatch.data.info import one_line
from mixnmatch.data.layouts.coco_fields import (
    Category,
    Key,
    is_crowd,
    is_key,
    is_word,
    object_of,
    read_categories,
    size_of,
)
from mixnmatch.data.layouts.listing import (
    Annotation,
    Entry,
    Files,
    LayoutOptions,
    Listing,
    outermost,
    some,
)
from mixnmatch.data.layouts.lookup import Lookup, split_within
from mixnmatch.data.places import Place
from mixnmatch.errors import DataError

MOST_BYTES = 2 << 30
"""Of a JSON file, which is held in memory twice while it is parsed; COCO's largest has 0.5 GB, that
of LVIS 1.1 GB."""
_SAMPLE_BYTES = 1 << 20  # at each end of a file
_LISTS = re.compile(rb'"(images|annotations|categories)"\s*:\s*\[')
_BOXES = re.compile(rb'"bbox"|"annotations"\s*:\s*\[\s*\]')  # not in captions, not in test sets
_SEGMENTS = b'"segments_info"'  # of panoptic files
_SAME_PICTURES = ("person_keypoints_", "stuff_")  # in COCO's own folder, as "instances_"
_OUTLINE, _MASK = "outlines (segmentation) are not read", "masks (segmentation, RLE) are not read"


def recognise(place: Place, files: Files) -> str | None:
    """JSON files with COCO's lists, and boxes, near their beginning or their end."""
    names = _index_files(place, files)
    return f"COCO: {some(names)}" if names else None


def read_listing(place: Place, files: Files, options: LayoutOptions) -> Listing:
    """The pictures in the order of the files' names, and in each file's own order.

    The split is told by the name of a JSON file or its folder, else by the picture's folder.
    Classes are in the order of their categories' ids. Of a picture that is listed twice the second
    entry is left out.

    Raises:
        DataError: If there is no JSON file, one is too large or no JSON, or its lists, its
            categories or the ids of its pictures cannot be understood.
    """
    names = _index_files(place, files) or _json_files(files)
    if not names:
        raise DataError(
            f"{place.name}: no JSON file; the COCO layout needs one with images, annotations and "
            "categories"
        )
    again = {name: first for name in names if (first := _first_of_pair(name)) in names}
    kept = [name for name in names if name not in again]
    reader = _Reader(place, files, options)
    for name in kept:
        reader.read(name)
    for name, first in again.items():
        reader.notes.append(f"{name}: not read, because {first} has the same pictures")
    return Listing(
        kind="coco",
        entries=_with_unique_ids(reader.entries),
        class_names=tuple(reader.classes),
        part_names=tuple(reader.parts),
        saw=f"COCO: {len(reader.entries)} pictures in {some(kept)}",
        notes=(*reader.notes, *reader.counted()),
    )


class _Reader:
    """Gathers the pictures of several files, and what there is to say of them."""

    def __init__(self, place: Place, files: Files, options: LayoutOptions) -> None:
        self.place, self.files = place, files
        self.lookup = Lookup(files, options.image_folder)
        self.entries: list[Entry] = []
        self.classes: dict[str, None] = {}
        self.parts: dict[str, int] = {}
        self.notes: list[str] = []
        self._listed: dict[str, str] = {}
        self._counts: Counter[str] = Counter()

    def read(self, name: str) -> None:
        """Read a file."""
        table = _load(self.place, self.files, name)
        try:
            categories = read_categories(table["categories"])
            images = self._images(name, table["images"])
        except ValueError as error:
            raise DataError(f"{self.place.full(name)}: {error}") from error
        names = [category.name for category in categories.values()]
        self.classes.update(dict.fromkeys(names))
        for category in categories.values():
            for part in category.parts:
                self.parts.setdefault(part, len(self.parts))
        if len(set(names)) < len(names):
            self.notes.append(f"{name}: categories of the same name are one class")
        objects: dict[Key, list[Annotation]] = {key: [] for key in images}
        problems = self._objects(name, table["annotations"], categories, objects)
        folders = _folders(name)
        split = split_within(name.removesuffix(".json"))
        for key, (index, image) in images.items():
            entry = self._entry(name, index, image, folders)
            self.entries.append(
                replace(
                    entry,
                    objects=tuple(objects[key]),
                    id=key if isinstance(key, int) and 0 <= key < 2**63 else None,
                    split=split or split_within(entry.path.rpartition("/")[0]),
                    problem=entry.problem or problems.get(key),
                )
            )

    def counted(self) -> list[str]:
        """Notes on what was left out."""
        lines = [f"{count} {what}" for what, count in sorted(self._counts.items())]
        if self.parts:
            lines.append("keypoints that are labelled but hidden (v = 1) are left out")
        return lines

    def _images(self, name: str, items: Sequence[Any]) -> dict[Key, tuple[int, dict[str, Any]]]:
        """Pictures by their id, each with its index.

        Raises:
            ValueError: If an id is there twice.
        """
        found: dict[Key, tuple[int, dict[str, Any]]] = {}
        for index, item in enumerate(items):
            key = item.get("id") if isinstance(item, dict) else None
            if not is_key(key):
                problem = f"images[{index}]: {_told(item, 'id')} is no whole number and no word"
                self.entries.append(Entry(path=name, problem=problem))
            elif key in found:
                raise ValueError(f"images[{index}]: id {brief(key)} is there twice")
            else:
                found[key] = (index, item)
        return found

    def _objects(
        self,
        name: str,
        items: Sequence[Any],
        categories: Mapping[int, Category],
        objects: Mapping[Key, list[Annotation]],
    ) -> dict[Key, str]:
        """Fill each picture's list of objects; what is wrong with pictures, by their ids."""
        problems: dict[Key, str] = {}
        strays = []
        for index, item in enumerate(items):
            key = item.get("image_id") if isinstance(item, dict) else None
            if not is_key(key) or key not in objects:
                strays.append(index)
                continue
            if what := item.get("segmentation"):
                self._counts[what] += 1
            if item.get("keypoints") and not self.parts:
                self._counts["objects have keypoints that no category names: not read"] += 1
            try:
                if is_crowd(item):
                    self._counts["crowds (iscrowd) are left out"] += 1
                else:
                    objects[key].append(object_of(item, categories, self.parts))
            except ValueError as error:
                problems.setdefault(key, f"{name}: annotations[{index}]: {error}")
        if strays:
            first = f"annotations[{strays[0]}]: {_told(items[strays[0]], 'image_id')}"
            more = f", and {len(strays) - 1} more such" if len(strays) > 1 else ""
            problem = f"{first} is no picture of images{more}"
            self.entries.append(Entry(path=name, problem=problem))
        return problems

    def _entry(
        self, name: str, index: int, image: Mapping[str, Any], folders: Sequence[str]
    ) -> Entry:
        """A picture without its objects."""
        where = f"images[{index}]"
        file_name = image.get("file_name")
        if not is_word(file_name):
            problem = f"{where}: file_name {brief(file_name)} is not the name of a file"
            return Entry(path=name, problem=problem)
        where = f"{name}: {where}"
        try:
            path = self.lookup.find(file_name, folders)
        except ValueError as error:
            return Entry(path=file_name, problem=f"{where}: {error}")
        if (first := self._listed.setdefault(path, where)) != where:
            return Entry(path=path, problem=f"{where}: the picture is listed before, by {first}")
        try:
            return Entry(path=path, size=size_of(image))
        except ValueError as error:
            return Entry(path=path, problem=f"{where}: {error}")


def _load(place: Place, files: Files, name: str) -> dict[str, list[Any]]:
    """The lists of a file; without ``categories``, that one is empty."""
    full = place.full(name)
    if files[name].size > MOST_BYTES:
        raise DataError(
            f"{full}: {files[name].size} bytes: at most {MOST_BYTES} are accepted, split it"
        )
    try:
        table = json.loads(place.read(name).decode("utf-8-sig"), object_hook=_without_outline)
    except RecursionError as error:
        raise DataError(f"{full}: nested too deeply to be COCO JSON") from error
    except ValueError as error:  # of the text's encoding, its grammar, or endless digits
        raise DataError(f"{full}: not JSON ({one_line(error)})") from error
    if not isinstance(table, dict):
        raise DataError(f"{full}: {brief(table)} is not an object with images and annotations")
    table.setdefault("categories", [])
    lists: dict[str, list[Any]] = {}
    for key in ("images", "annotations", "categories"):
        if not isinstance(items := table.get(key), list):
            raise DataError(f"{full}: {key} {brief(items)} must be a list")
        lists[key] = items
    return lists


def _without_outline(item: dict[str, Any]) -> dict[str, Any]:
    """An object without its outline or mask, which are most of a file, but what it was."""
    if "segmentation" in item:
        outline = item["segmentation"]
        item["segmentation"] = outline and (_MASK if isinstance(outline, dict) else _OUTLINE)
    return item


def _told(item: Any, field: str) -> str:
    """A field of what should be an object, for messages."""
    return f"{field} {brief(item.get(field))}" if isinstance(item, dict) else brief(item)


def _folders(name: str) -> list[str]:
    """Where pictures of a file may be, the likeliest first: ``instances_X.json`` speaks of X."""
    path = PurePosixPath(name)
    words = [word for word in re.split(r"[_.]", path.stem) if word]
    own = [f"{parent}{word}" for word in words for parent in ("images/", "")]
    folders = (str(above / end) for end in (*own, "", "images") for above in path.parents)
    return ["" if folder == "." else folder for folder in folders]


def _with_unique_ids(entries: list[Entry]) -> list[Entry]:
    """The entries, without ids where those of several files collide or one has none."""
    ids = {entry.id for entry in entries}
    if None not in ids and len(ids) == len(entries):
        return entries
    return [replace(entry, id=None) for entry in entries]


def _first_of_pair(name: str) -> str:
    """COCO's file of objects for one of the same pictures with keypoints or stuff."""
    folder, slash, stem = name.rpartition("/")
    for prefix in _SAME_PICTURES:
        if stem.startswith(prefix):
            return f"{folder}{slash}instances_{stem.removeprefix(prefix)}"
    return ""


def _index_files(place: Place, files: Files) -> list[str]:
    return sorted(name for name in outermost(_json_files(files)) if _is_coco(place, name))


def _is_coco(place: Place, name: str) -> bool:
    with place.open(name) as file:
        sample = file.read(_SAMPLE_BYTES)
        rest = file.size() - len(sample)
        file.seek(len(sample) + max(0, rest - _SAMPLE_BYTES))
        sample += file.read(_SAMPLE_BYTES)
    if not sample.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
        return False
    lists = set(_LISTS.findall(sample))
    return len(lists) > 1 and bool(_BOXES.search(sample)) and _SEGMENTS not in sample


def _json_files(files: Files) -> list[str]:
    return [name for name in files if name.lower().endswith(".json")]
