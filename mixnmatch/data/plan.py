"""What is to be read into a data set, and the reading of one picture or one shard of it.

Whatever is wrong with a picture, or with what is annotated in it, leaves that picture out, with the
reason. Only what is wrong with the machine, such as a disk that fails, ends the work.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Generator, Hashable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, fields
from functools import cached_property, partial
from itertools import accumulate
from typing import Literal, TypeVar

from mixnmatch.data.ahead import made_ahead
from mixnmatch.data.info import FORMAT_VERSION, one_line
from mixnmatch.data.layouts.listing import Entry, Listing
from mixnmatch.data.oddities import check_inside, check_sides, is_cut, remarks_of
from mixnmatch.data.orientation import annotated_turn, stored_box, stored_part
from mixnmatch.data.pictures import decode_whole
from mixnmatch.data.places import FileMark, Place
from mixnmatch.data.records import Record, Reject
from mixnmatch.data.shards import shard_bytes, shard_name
from mixnmatch.errors import DataError, RunError

Objects = Literal["largest", "each", "refuse"]
"""What becomes of a picture with several objects: a row of the largest one, a row of each, none."""
SHARD_ENTRIES = 256
"""Most pictures of a shard, the unit of work: 25 MB of photographs from the web."""
SHARD_BYTES = 64 * 2**20
"""A shard is closed when its pictures are of so many bytes: it is made in memory."""
LARGEST_FILE = 256 * 2**20
"""Bytes of a picture file; Parquet's pages and Arrow's columns end at 2 GiB."""
FETCHED_AHEAD = 8
"""Picture files of an object store that are read at once; a shard, in memory too, holds more."""
_ID_LIMIT = 2**63
_T = TypeVar("_T", bound=Hashable)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A listing, and how its pictures become rows; it can be sent to other processes."""

    place: Place
    """Where the pictures are."""
    listing: Listing
    """Of them."""
    files: Mapping[str, FileMark] = field(repr=False)
    """That are there."""
    objects: Objects = "largest"
    """What becomes of a picture with several objects."""
    strict: bool = False
    """Whether the first picture that cannot be used ends the work."""

    def __post_init__(self) -> None:
        where, entries = self.place.name, self.listing.entries
        if (name := _twice(self.listing.class_names)) is not None:
            raise DataError(f"{where}: class name {name!r} is there twice")
        own_ids = map(self.own_id, range(len(entries)))
        if self.objects != "each" and (own := _twice(own_ids)) is not None:
            raise DataError(f"{where}: id {own} is there twice")

    @cached_property
    def digest(self) -> str:
        """Checksum of all that the rows depend on, sizes and times of the pictures included.

        ``strict`` is no part of it: it changes no row.
        """
        names = [item.name for item in fields(Entry)]
        entries = [
            [*(getattr(entry, name) for name in names), self.files.get(entry.path)]
            for entry in self.listing.entries
        ]
        limits = [FORMAT_VERSION, SHARD_ENTRIES, SHARD_BYTES]
        text = json.dumps([*limits, self.listing.kind, self.objects, self.names, entries])
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def names(self) -> list[list[str]]:
        """Names of classes and parts, in their order."""
        return [list(self.listing.class_names), list(self.listing.part_names)]

    @property
    def shards(self) -> int:
        """Number of shards."""
        return len(self._shard_starts) - 1

    def shard_entries(self, shard: int) -> range:
        """Numbers of a shard's entries."""
        return range(self._shard_starts[shard], self._shard_starts[shard + 1])

    def shard_ids(self, shard: int) -> set[int]:
        """All ids that a shard's rows can have."""
        numbers = self.shard_entries(shard)
        if self.objects == "each":
            return set(range(self.first_ids[numbers.start], self.first_ids[numbers.stop]))
        return {self.own_id(number) for number in numbers}

    def own_id(self, number: int) -> int:
        """Of an entry, where a picture is one row: the source's, or else its number."""
        own = self.listing.entries[number].id
        return number if own is None else own

    @cached_property
    def labels(self) -> Mapping[str, int]:
        """Class indices by name."""
        return {name: label for label, name in enumerate(self.listing.class_names)}

    @cached_property
    def first_ids(self) -> list[int]:
        """Of each entry, where every object is a row."""
        counts = (max(1, len(entry.objects)) for entry in self.listing.entries)
        return list(accumulate(counts, initial=0))

    @cached_property
    def _shard_starts(self) -> list[int]:
        """Number of the first entry of each shard, and the number of entries."""
        starts: list[int] = []
        held = 0
        for number, entry in enumerate(self.listing.entries):
            full = starts and number - starts[-1] == SHARD_ENTRIES
            if not starts or full or held >= SHARD_BYTES:
                starts.append(number)
                held = 0
            rows = len(entry.objects) if self.objects == "each" else 1
            if entry.path in self.files:
                held += rows * self.files[entry.path].size
        return [*starts, len(self.listing.entries)]


def make_shard(plan: Plan, out: Place, shard: int) -> int:
    """Read the pictures of a shard and write it; the number of its entries.

    Raises:
        DataError: If the plan is strict and a picture cannot be used.
        OSError: If the shard cannot be written.
    """
    numbers = plan.shard_entries(shard)
    with closing(_fetched(plan, numbers)) as files:
        rows = (
            row
            for number, file in zip(numbers, files, strict=True)
            for row in _entry_rows(plan, number, file)
        )
        out.write(shard_name(shard), shard_bytes(rows))
    return len(numbers)


def read_entry(plan: Plan, number: int) -> Iterator[Record | Reject]:
    """The rows of a picture, and what of it is left out.

    Args:
        plan: Whose entry it is.
        number: Of the entry.

    Raises:
        DataError: If the plan is strict and something is left out.
        OSError: If a file that is there cannot be read, though it may be.
    """
    yield from _entry_rows(plan, number, _fetch(plan, number))


def _fetched(plan: Plan, numbers: range) -> Generator[bytes | Reject, None, None]:
    """Of each entry what ``_fetch`` gives."""
    fetch = partial(_fetch, plan)
    if not plan.place.is_store:
        return (fetch(number) for number in numbers)
    return made_ahead(fetch, numbers, threads=FETCHED_AHEAD, depth=FETCHED_AHEAD, name="fetch")


def _fetch(plan: Plan, number: int) -> bytes | Reject:
    """The picture's file, or why it is left out.

    Raises:
        RunError, OSError: As ``_read``.
    """
    entry = plan.listing.entries[number]
    try:
        _check_entry(plan, number, plan.place.full(entry.path))
        return _read(plan, entry.path)
    except DataError as error:
        return Reject(entry.path, one_line(error))


def _entry_rows(plan: Plan, number: int, file: bytes | Reject) -> Iterator[Record | Reject]:
    for row in [file] if isinstance(file, Reject) else _rows(plan, number, file):
        if isinstance(row, Reject) and plan.strict:
            raise DataError(row.reason)
        yield row


def _rows(plan: Plan, number: int, data: bytes) -> Iterator[Record | Reject]:
    entry = plan.listing.entries[number]
    name = plan.place.full(entry.path)
    try:
        decoded = decode_whole(data, name)
        check_sides(decoded, name)
        turn = annotated_turn(entry.size, decoded, name)
    except DataError as error:
        yield Reject(entry.path, one_line(error))
        return
    size = decoded.image.size
    found = [stored_box(item, size, turn) for item in entry.objects]
    chosen = range(len(found))
    if plan.objects == "largest":
        inside = [box.clip(*size).area if box.is_finite else 0 for box in found]
        chosen = range((best := inside.index(max(inside))), best + 1)
    for index in chosen:
        item, box = entry.objects[index], found[index]
        try:
            inside_box = check_inside(box, decoded, name)
        except DataError as error:
            yield Reject(entry.path, one_line(error))
            continue
        remarks = remarks_of(decoded)
        if len(found) > 1:
            how = "the largest" if plan.objects == "largest" else f"number {index + 1}"
            remarks.append(f"{how} of {len(found)} objects")
        if is_cut(box, inside_box):
            remarks.append(
                "box cut at the picture's edge: was ({:g}, {:g}, {:g}, {:g})".format(*box)
            )
        parts = [stored_part(part, item, size, turn) for part in item.parts]
        seen = tuple(part for part in parts if 0 <= part.x <= size[0] and 0 <= part.y <= size[1])
        if len(seen) < len(parts):
            remarks.append(f"keypoints outside the picture left out: {len(parts) - len(seen)}")
        each = plan.objects == "each"
        yield Record(
            id=plan.first_ids[number] + index if each else plan.own_id(number),
            source=entry.path,
            image=data,
            width=size[0],
            height=size[1],
            box=inside_box,
            label=None if item.class_name is None else plan.labels[item.class_name],
            class_name=item.class_name,
            split=entry.split or "train",
            parts=seen,
            remarks=tuple(remarks),
        )


def _check_entry(plan: Plan, number: int, name: str) -> None:
    """Refuse what needs no look at the picture.

    Raises:
        DataError: If the entry has a problem, no object, several that the plan refuses, or an id or
            a text that cannot be stored.
    """
    entry, own_id = plan.listing.entries[number], plan.own_id(number)
    if entry.problem is not None:
        raise DataError(f"{name}: {entry.problem}")
    if not entry.objects:
        raise DataError(f"{name}: no object is annotated")
    if len(entry.objects) > 1 and plan.objects == "refuse":
        raise DataError(f"{name}: {len(entry.objects)} objects are annotated, not one")
    if not -_ID_LIMIT <= own_id < _ID_LIMIT:
        raise DataError(f"{name}: its id {own_id} does not fit 64 bits")
    for text in (entry.path, *(item.class_name for item in entry.objects)):
        if text is not None and not _is_unicode(text):
            raise DataError(f"{name}: {text!r} is no text of Unicode")


def _read(plan: Plan, path: str) -> bytes:
    """The picture's file.

    Raises:
        DataError: If there is none, it may not be read, or it is too large.
        RunError: If there was one when the work began.
        OSError: If the machine fails.
    """
    mark = plan.files.get(path)
    if mark is not None and mark.size > LARGEST_FILE:
        raise DataError(
            f"{plan.place.full(path)}: of {mark.size} bytes: at most {LARGEST_FILE} are accepted"
        )
    try:
        return plan.place.read(path)
    except DataError as error:
        if mark is None:
            raise
        raise RunError(f"{one_line(error)}, but it was there when the work began") from error
    except OSError as error:
        if mark is not None and not isinstance(error, PermissionError):
            raise
        raise DataError(f"{plan.place.full(path)}: cannot be read ({one_line(error)})") from error


def _is_unicode(text: str) -> bool:
    """Whether it can be stored: JSON may hold half a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _twice(values: Iterable[_T]) -> _T | None:
    return next((value for value, count in Counter(values).items() if count > 1), None)
