"""Plain pictures without boxes: of each, all but a margin is taken for its object.

Folders named for splits (train, test, val and their like) on the first level are splits if all
folders there are; the first level below, or else the first level, are classes.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath

from mixnmatch.data.layouts.listing import (
    Annotation,
    Entry,
    Files,
    LayoutOptions,
    Listing,
    files_below,
    numbered,
    pictures_below,
    split_of,
)
from mixnmatch.data.places import Place
from mixnmatch.data.records import Box


def recognise(place: Place, files: Files) -> str | None:
    """Any pictures."""
    count = len(pictures_below(files, None))
    return f"plain folder: {count} pictures" if count else None


def read_listing(place: Place, files: Files, options: LayoutOptions) -> Listing:
    """The pictures in the order of their paths, each with one box: the picture less a margin."""
    below = f"{options.image_folder}/" if options.image_folder else ""
    pictures = pictures_below(files, options.image_folder)
    others = set(files_below(files, options.image_folder)).difference(pictures)
    folders = {path: PurePosixPath(path[len(below) :]).parts[:-1] for path in pictures}
    first = {parts[0] for parts in folders.values() if parts}
    has_splits = all(split_of(name) for name in first)
    margin = options.margin
    box = Box(margin, margin, 1 - 2 * margin, 1 - 2 * margin)
    entries: list[Entry] = []
    names: set[str] = set()
    for path, parts in folders.items():
        split = split_of(parts[0]) if has_splits and parts else None
        class_name = next(iter(parts[1:] if has_splits else parts), None)
        if class_name is not None:
            names.add(class_name)
        objects = (Annotation(box, unit="shares", class_name=class_name),)
        entries.append(Entry(path=path, objects=objects, split=split))
    where = f"{len(names)} folders" if names else "no folders"
    below_note = f" below {below}" if below else ""
    return Listing(
        kind="folder",
        entries=entries,
        class_names=numbered(names),
        saw=f"plain folder: {len(entries)} pictures in {where}{below_note}, without boxes",
        notes=_notes(others, margin, entries if names else []),
    )


def _notes(paths: Iterable[str], margin: float, classified: list[Entry]) -> tuple[str, ...]:
    notes = [
        f"no boxes: the object is taken to be each picture less {100 * margin:g} % on each side; "
        "the background is learned from what lies outside a box, so boxes help much"
    ]
    if outside := sum(entry.objects[0].class_name is None for entry in classified):
        notes.append(f"{outside} pictures are in no folder of a class and have none")
    others = Counter(PurePosixPath(path).suffix for path in paths)
    if others:
        kinds = ", ".join(
            f"{count} {suffix or 'without'}" for suffix, count in sorted(others.items())
        )
        notes.append(f"{others.total()} other files are passed over, by suffix: {kinds}")
    return tuple(notes)
