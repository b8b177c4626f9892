"""The one format of a data set: a folder with ``dataset.json`` and Parquet shards.

The shards hold encoded pictures beside their boxes, labels and factors (``rows.SCHEMA``). A folder
appears whole or not at all.
"""

import shutil
import threading
import uuid
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Bool, Int64

from mixnmatch.data.fetch import local_copy
from mixnmatch.data.info import FORMAT_VERSION, INFO_NAME, DatasetInfo, Kind, one_line
from mixnmatch.data.places import Place
from mixnmatch.data.records import Box, Factors, Record, Reject, Split
from mixnmatch.data.rows import PICTURE_COLUMNS, SCHEMA, from_row
from mixnmatch.data.shards import OpenShards, fingerprint_of, read_summary, shard_name, write_shard
from mixnmatch.errors import DataError
from mixnmatch.files import absolute, is_url, replace_folder

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

SHARD_ROWS = 256  # 25 MB of photographs: enough shards for many readers
CACHE_BYTES = 512 * 2**20


class Dataset:
    """Random access to the pictures of a data set folder; safe to share between threads.

    Everything but the pictures is held in memory. Pictures are read from memory-mapped shards, a
    row group at a time, and the groups read last are kept.

    Args:
        path: The folder.
        info: What it says of itself.
        shards: Its shards, in their order.
        source: Its folder or URL, for other processes; the folder without it.

    Raises:
        DataError: If a shard is damaged, or not of a data set.
    """

    def __init__(
        self,
        path: Path,
        info: DatasetInfo,
        shards: Sequence[Path],
        source: Path | str | None = None,
    ) -> None:
        self.path = path
        self.source = path if source is None else source
        self.info = info
        self._shards = OpenShards(shards)
        self._groups: list[tuple[Path, int]] = []
        light = [name for name in SCHEMA.names if name not in PICTURE_COLUMNS]
        tables, rows = [SCHEMA.empty_table().select(light)], list[int]()
        for path in shards:
            with _damage_named(path):
                shard = self._shards[path]
                if shard.schema_arrow.names != SCHEMA.names:
                    raise DataError(f"{path}: its columns are not those of a data set")
                tables.append(shard.read(columns=light))
                groups = range(shard.metadata.num_row_groups)
                self._groups.extend((path, group) for group in groups)
                rows.extend(shard.metadata.row_group(group).num_rows for group in groups)
        self._table = pa.concat_tables(tables).combine_chunks()
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

    def held_out_rows(self) -> Int64[np.ndarray, "N"]:
        """Rows of the test split, or of all pictures where there is none."""
        rows = self.indices("test")
        return rows if len(rows) else self.indices()

    @cached_property
    def masked(self) -> Bool[np.ndarray, "N"]:
        """Whether each picture has a mask; their column is read for it, once."""
        parts = [np.empty(0, dtype=bool)]
        for path, group in self._groups:
            with self._lock, _damage_named(path):
                masks = self._shards[path].read_row_group(group, columns=["mask"]).column("mask")
            parts.append(masks.is_valid().to_numpy())
        return np.concatenate(parts)

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
                path, index = self._groups[group]
                with _damage_named(path):
                    shard = self._shards[path]
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

    Args:
        path: The folder, or a URL such as ``s3://bucket/folder``, from where it is fetched once.

    Raises:
        DataError: If the folder is missing, no data set, of a newer version, or damaged.
        RunError: If what is at a URL cannot be fetched.
    """
    source = absolute(path)
    path = local_copy(Place(path)) if is_url(path) else Path(path)
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
    dataset = Dataset(path, info, sorted(path.glob("part-*.parquet")), source=source)
    if len(dataset) != info.count or not info.count:
        raise DataError(
            f"{path}: {INFO_NAME} promises {info.count} pictures, the shards hold {len(dataset)}"
        )
    return dataset


def write_dataset(
    records: Iterable[Record],
    out: Path | str,
    *,
    kind: Kind,
    source: str = "",
    command: str = "",
    licence: str = "unknown",
    factors: Mapping[str, int] | None = None,
    labels: int | None = None,
    parts: Sequence[str] = (),
    overwrite: bool = False,
) -> DatasetInfo:
    """Write records of this process as a data set folder; an error leaves nothing behind.

    Args:
        records: The pictures.
        out: The folder; it must not exist, be empty, or be a data set to overwrite.
        kind: Layout that the pictures come from.
        source: Folder that they come from, or what they were drawn from.
        command: Command line, for the record.
        licence: Terms of the pictures.
        factors: Number of categories of each factor.
        labels: Number of classes; without it one more than the largest label.
        parts: Names of the keypoints.
        overwrite: Replace an existing data set.

    Raises:
        DataError: If ``out`` is in the way, or there are no pictures.
    """
    out = Path(out).absolute()
    check_free(out, overwrite)
    remaining = iter(records)
    first = next(remaining, None)
    if first is None:
        raise DataError(f"{source or 'the source'}: no picture to write to {out}")
    remaining = chain([first], remaining)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.partial")
    partial.mkdir()
    try:
        for number in count():
            shard = list(islice(remaining, 1))
            if not shard:
                break
            rows = chain(shard, islice(remaining, SHARD_ROWS - 1))
            write_shard(rows, str(partial / shard_name(number)))
        info = describe(
            (pq.ParquetFile(path) for path in sorted(partial.glob("part-*.parquet"))),
            kind=kind,
            licence=licence,
            factors=factors,
            labels=labels,
            parts=parts,
            source=source,
            command=command,
        )
        (partial / INFO_NAME).write_text(info.to_json(), encoding="utf-8")
        check_free(out, overwrite)
        replace_folder(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return info


def describe(shards: Iterable[pq.ParquetFile], *, kind: Kind, **known: Any) -> DatasetInfo:
    """What ``dataset.json`` says of shards.

    Args:
        shards: In their order; each is closed before the next one is asked for.
        kind: Layout that the pictures come from.
        known: Further fields of ``DatasetInfo``; of ``labels`` None stands for one more than the
            largest label.

    Raises:
        DataError: If two rows have the same id, or there is no row.
    """
    summaries, tables = [], []
    columns = ["id", "source", "sha256", "label", "split", "remarks"]
    for shard in shards:
        summaries.append(read_summary(shard))
        tables.append(shard.read(columns=columns))
        shard.close(force=True)
    rejects = tuple(reject for summary in summaries for reject in summary.rejects)
    table = pa.concat_tables(tables)
    if not table.num_rows:
        found = f"the first one: {rejects[0].reason}" if rejects else "there was none"
        raise DataError(f"{known.get('source')}: no picture can be used ({found})")
    ids = Counter(table.column("id").to_pylist())
    twice = next((key for key, count in ids.items() if count > 1), None)
    sources = table.column("source").to_pylist()
    if twice is not None:
        source = sources[table.column("id").to_pylist().index(twice)]
        raise DataError(f"{source}: id {twice} is there twice")
    same: dict[str, dict[str, None]] = {}
    for checksum, source in zip(table.column("sha256").to_pylist(), sources, strict=True):
        same.setdefault(checksum, {})[source] = None  # objects of one picture are no duplicates
    if known.get("labels") is None:
        largest = pc.max(table.column("label")).as_py()
        known["labels"] = None if largest is None else largest + 1
    return DatasetInfo(
        kind=kind,
        count=table.num_rows,
        fingerprint=fingerprint_of(summaries),
        splits=dict(sorted(Counter(filter(None, table.column("split").to_pylist())).items())),
        remarks=sum(map(bool, table.column("remarks").to_pylist())),
        rejects=rejects,
        duplicates=tuple(tuple(group) for group in same.values() if len(group) > 1),
        **known,
    )


def check_free(out: Path, overwrite: bool) -> None:
    """Refuse a place for a data set that something else takes.

    Raises:
        DataError: If there is something, and it is no data set or not to be overwritten.
    """
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
