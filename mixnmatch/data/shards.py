"""Parquet shards of a data set: each says in its own footer what it holds and what it left out."""

import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from mixnmatch.data.records import Record, Reject
from mixnmatch.data.rows import SCHEMA, row_digest, to_row
from mixnmatch.errors import DataError

ROW_GROUP_ROWS = 64
"""Most rows of a group, the unit of a random read: about 6 MB of photographs from the web."""
ROW_GROUP_BYTES = 16 * 2**20
"""A group is closed when its pictures are of so many bytes."""
MOST_OPEN = 256
"""Shards that a reader keeps open; systems allow a process as few as 1,024 files."""
_MOST_SHARDS = 10**5  # their names must sort as their numbers do
_KEY = b"mixnmatch"


class ShardSummary(NamedTuple):
    """What is in a shard."""

    ids: list[int]
    """Of its rows."""
    digests: list[str]
    """SHA-256 of its rows, in hexadecimal."""
    rejects: list[Reject]
    """What was left out, in the order of the source."""


def shard_name(number: int) -> str:
    """Name of a shard's file, by its number from 0.

    Raises:
        DataError: If there are too many.
    """
    if number >= _MOST_SHARDS:
        raise DataError(f"too many pictures: a data set has {_MOST_SHARDS} shards at most")
    return f"part-{number:05d}.parquet"


def is_shard_name(path: str) -> bool:
    """Whether ``shard_name`` may have given it."""
    return re.fullmatch(r"part-\d+\.parquet", path) is not None


def shard_bytes(rows: Iterable[Record | Reject]) -> bytes:
    """A shard in memory."""
    sink = pa.BufferOutputStream()
    write_shard(rows, sink)
    return bytes(sink.getvalue())


def write_shard(rows: Iterable[Record | Reject], sink: Any) -> ShardSummary:
    """Write a shard, the same bytes for the same rows.

    Args:
        rows: What it holds and what was left out, in the order of the source.
        sink: A file name, or a file of pyarrow's open for writing.
    """
    summary = ShardSummary([], [], [])
    records = _kept(rows, summary.rejects)
    with pq.ParquetWriter(
        sink,
        SCHEMA,
        compression="none",  # pictures are compressed already
        use_dictionary=["class_name", "split"],
        write_statistics=False,
        write_page_checksum=True,
    ) as writer:
        for group in _groups(records):
            summary.ids.extend(row["id"] for row in group)
            summary.digests.extend(row_digest(row).hex() for row in group)
            writer.write_table(pa.Table.from_pylist(group, SCHEMA))
        writer.add_key_value_metadata({_KEY: json.dumps(summary)})
    return summary


def read_summary(shard: pq.ParquetFile) -> ShardSummary:
    """What a shard says of itself.

    Raises:
        ValueError: If it does not.
    """
    text = (shard.metadata.metadata or {}).get(_KEY)
    if text is None:
        raise ValueError("not a shard of a data set")
    ids, digests, rejects = json.loads(text)
    return ShardSummary(ids, digests, [Reject(*reject) for reject in rejects])


def fingerprint_of(summaries: Iterable[ShardSummary]) -> str:
    """SHA-256 over the digests of all rows, in hexadecimal, however they are cut into shards."""
    digest = hashlib.sha256()
    for summary in summaries:
        digest.update(bytes.fromhex("".join(summary.digests)))
    return digest.hexdigest()


class OpenShards:
    """Shards of a folder, opened when they are asked for; the ones used last stay open.

    Args:
        paths: Their files.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._marks = {path: _mark(path) for path in paths}
        self._open: OrderedDict[Path, pq.ParquetFile] = OrderedDict()

    def __getitem__(self, path: Path) -> pq.ParquetFile:
        """One of them; it may be closed when others are asked for.

        Raises:
            DataError: If another file has taken its place since.
            OSError: If it cannot be opened.
        """
        if path not in self._open:
            if _mark(path) != self._marks[path]:
                raise DataError(f"{path}: was replaced while it was read: start again")
            self._open[path] = pq.ParquetFile(
                path, memory_map=True, page_checksum_verification=True
            )
            if len(self._open) > MOST_OPEN:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(path)
        return self._open[path]


def _mark(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _groups(records: Iterable[Record]) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    held = 0
    for record in records:
        group.append(to_row(record))
        held += len(record.image) + len(record.mask or b"")
        if len(group) == ROW_GROUP_ROWS or held >= ROW_GROUP_BYTES:
            yield group
            group, held = [], 0
    if group:
        yield group


def _kept(rows: Iterable[Record | Reject], rejects: list[Reject]) -> Iterator[Record]:
    for row in rows:
        if isinstance(row, Reject):
            rejects.append(row)
        else:
            yield row
