"""The one format of a data set: a folder with ``dataset.json`` and Parquet shards.

The shards hold encoded pictures beside their boxes, labels and factors (``rows.SCHEMA``). A folder
appears whole or not at all.
"""

import hashlib
import shutil
import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64

from mixnmatch.data.info import FORMAT_VERSION, INFO_NAME, DatasetInfo, Kind, one_line
from mixnmatch.data.records import Box, Factors, Record, Reject, Split
from mixnmatch.data.rows import PICTURE_COLUMNS, SCHEMA, from_row, row_bytes, to_row
from mixnmatch.errors import DataError
from mixnmatch.files import replace_folder

__all__ = [
    "FORMAT_VERSION",
    "Box",
    "Dataset",
    "DatasetInfo",
    "Factors",
    "Record",
    "Reject",
    "open_dataset",
    "write_dataset",
]

SHARD_ROWS = 1024
ROW_GROUP_ROWS = 64  # the unit of a random read: about 6 MB of photographs
CACHE_BYTES = 512 * 2**20


class Dataset:
    """Random access to the pictures of a data set folder; safe to share between threads.

    Everything but the pictures is held in memory. Pictures are read from memory-mapped shards, a
    row group at a time, and the groups read last are kept.
    """

    def __init__(self, path: Path, info: DatasetInfo, shards: Sequence[pq.ParquetFile]) -> None:
        self.path = path
        self.info = info
        light = [name for name in SCHEMA.names if name not in PICTURE_COLUMNS]
        tables = [shard.read(columns=light) for shard in shards]
        self._table = pa.concat_tables(tables).combine_chunks()
        self._groups = [
            (shard, group) for shard in shards for group in range(shard.metadata.num_row_groups)
        ]
        rows = [shard.metadata.row_group(group).num_rows for shard, group in self._groups]
        self._starts = np.concatenate([[0], np.cumsum(rows, dtype=np.int64)])
        self._cache: OrderedDict[int, pa.Table] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, index: int) -> Record:
        """The picture at a row, from 0; negative ones count from the end."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of a data set of {len(self)}")
        index = int(index) % len(self)
        group = int(np.searchsorted(self._starts, index, side="right")) - 1
        pictures = self._pictures(group).slice(index - int(self._starts[group]), 1)
        return from_row(self._table.slice(index, 1).to_pylist()[0] | pictures.to_pylist()[0])

    def __iter__(self) -> Iterator[Record]:
        return (self[index] for index in range(len(self)))

    def indices(self, split: Split | None = None) -> Int64[np.ndarray, "N"]:
        """Rows of one split in ascending order, or of all for None."""
        if split is None:
            return np.arange(len(self))
        return np.flatnonzero(np.array(self.column("split"), dtype=object) == split)

    def column(self, name: str) -> list[Any]:
        """All values of a column that is not a picture, without reading pictures.

        Args:
            name: One of ``rows.SCHEMA``, for instance "label" or "texture".
        """
        values: list[Any] = self._table.column(name).to_pylist()
        return values

    def _pictures(self, group: int) -> pa.Table:
        with self._lock:
            if group not in self._cache:
                shard, index = self._groups[group]
                with _damage_named(self.path):
                    self._cache[group] = shard.read_row_group(index, columns=list(PICTURE_COLUMNS))
                while (
                    sum(t.nbytes for t in self._cache.values()) > CACHE_BYTES
                    and len(self._cache) > 1
                ):
                    self._cache.popitem(last=False)
            self._cache.move_to_end(group)
            return self._cache[group]


def open_dataset(path: Path | str) -> Dataset:
    """Open a data set folder.

    Raises:
        DataError: If the folder is missing, no data set, of a newer version, or damaged.
    """
    path = Path(path)
    if not path.is_dir():
        raise DataError(f"{path}: no such data set folder")
    if not (path / INFO_NAME).is_file():
        raise DataError(
            f"{path}: not a data set, there is no {INFO_NAME} (mixnmatch data ingest writes one)"
        )
    try:
        text = (path / INFO_NAME).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path / INFO_NAME}: not a data set description ({error})") from error
    info = DatasetInfo.from_json(text, path / INFO_NAME)
    shards = []
    for shard in sorted(path.glob("part-*.parquet")):
        with _damage_named(shard):
            shards.append(pq.ParquetFile(shard, memory_map=True, page_checksum_verification=True))
            if shards[-1].schema_arrow.names != SCHEMA.names:
                raise DataError(f"{shard}: its columns are not those of a data set")
    rows = sum(shard.metadata.num_rows for shard in shards)
    if rows != info.count or not rows:
        raise DataError(
            f"{path}: {INFO_NAME} promises {info.count} pictures, the shards hold {rows}"
        )
    with _damage_named(path):
        return Dataset(path, info, shards)


def write_dataset(
    records: Iterable[Record],
    out: Path | str,
    *,
    kind: Kind,
    source: str = "",
    licence: str = "unknown",
    factors: Mapping[str, int] | None = None,
    labels: int | None = None,
    rejects: Sequence[Reject] = (),
    overwrite: bool = False,
) -> DatasetInfo:
    """Write a data set folder; an error or an interrupt leaves nothing behind.

    Args:
        records: The pictures.
        out: The folder; it must not exist, be empty, or be a data set to overwrite.
        kind: Layout that the pictures come from.
        source: Folder or command that they come from.
        licence: Terms of the pictures.
        factors: Number of categories of each factor.
        labels: Number of classes; without it one more than the largest label.
        rejects: Pictures left out; read after the last record, so that reading may fill it.
        overwrite: Replace an existing data set.

    Raises:
        DataError: If ``out`` is in the way, or there are no pictures.
    """
    out = Path(out).absolute()
    _check_free(out, overwrite)
    remaining = iter(records)
    first = next(remaining, None)
    if first is None:
        raise DataError(f"{source or 'the source'}: no picture to write to {out}")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.partial")
    partial.mkdir()
    try:
        written = _write_shards(chain([first], remaining), partial)
        info = DatasetInfo(
            kind=kind,
            count=written.count,
            fingerprint=written.fingerprint,
            licence=licence,
            factors=factors,
            labels=written.labels if labels is None else labels,
            source=source,
            rejects=tuple(rejects),
        )
        (partial / INFO_NAME).write_text(info.to_json(), encoding="utf-8")
        _check_free(out, overwrite)
        replace_folder(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return info


@dataclass(frozen=True)
class _Written:
    count: int
    labels: int | None
    fingerprint: str


def _write_shards(records: Iterator[Record], folder: Path) -> _Written:
    digest = hashlib.sha256()
    ids: set[int] = set()
    largest_label = -1
    for number in range(10**5):
        shard = islice(records, SHARD_ROWS)
        group = [to_row(record) for record in islice(shard, ROW_GROUP_ROWS)]
        if not group:
            break
        with pq.ParquetWriter(
            folder / f"part-{number:05d}.parquet",
            SCHEMA,
            compression="none",  # pictures are compressed already
            use_dictionary=["class_name", "split"],
            write_statistics=False,
            write_page_checksum=True,
        ) as writer:
            while group:
                for row in group:
                    if row["id"] in ids:
                        raise DataError(f"{row['source']}: id {row['id']} is there twice")
                    ids.add(row["id"])
                    digest.update(row_bytes(row))
                    largest_label = max(largest_label, -1 if row["label"] is None else row["label"])
                writer.write_table(pa.Table.from_pylist(group, SCHEMA))
                group = [to_row(record) for record in islice(shard, ROW_GROUP_ROWS)]
    return _Written(len(ids), largest_label + 1 or None, digest.hexdigest())


def _check_free(out: Path, overwrite: bool) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / INFO_NAME).is_file():
        raise DataError(f"{out}: exists and is not a data set, so it is not replaced")
    if not overwrite:
        raise DataError(f"{out}: exists already (--overwrite replaces it)")


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: damaged or truncated ({one_line(error)})") from error
