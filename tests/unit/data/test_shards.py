"""Rows to Parquet and back, what a shard says of itself, and readers of many shards."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixnmatch.data import shards, store
from mixnmatch.data.records import Box, Factors, Part, Record, Reject
from mixnmatch.data.rows import SCHEMA, from_row, row_digest, to_row
from mixnmatch.data.shards import (
    OpenShards,
    fingerprint_of,
    read_summary,
    shard_bytes,
    shard_name,
    write_shard,
)
from mixnmatch.data.store import open_dataset, write_dataset
from mixnmatch.errors import DataError

numbers = st.floats(0, 4096, width=32)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
indices = st.integers(0, 2**31 - 1)
factors = st.fixed_dictionaries(
    {
        "background": indices,
        "shape": indices,
        "texture": indices,
        "pose": indices,
        "position_x": st.floats(0, 1, width=32),
        "position_y": st.floats(0, 1, width=32),
        "scale": st.floats(0, 1, width=32),
        "rotation": st.floats(-360, 360, width=32),
        "mirrored": st.booleans(),
    }
)
columns = st.fixed_dictionaries(
    {
        "id": st.integers(-(2**63), 2**63 - 1),
        "source": texts,
        "image": st.binary(max_size=40),
        "width": indices,
        "height": indices,
        "box": st.tuples(numbers, numbers, numbers, numbers),
        "label": st.none() | indices,
        "class_name": st.none() | texts,
        "split": st.sampled_from([None, "train", "test", "judge"]),
        "mask": st.none() | st.binary(min_size=1, max_size=9),
        "factors": st.none() | factors,
        "parts": st.lists(st.tuples(indices, numbers, numbers), max_size=3),
        "remarks": st.lists(texts, max_size=3),
    }
)
rejects = st.tuples(texts, texts)


def made(drawn: Any) -> Record | Reject:
    """Not done by hypothesis: the checks of types draw random numbers of their own."""
    if isinstance(drawn, tuple):
        return Reject(*drawn)
    return Record(
        **drawn
        | {
            "box": Box(*drawn["box"]),
            "factors": drawn["factors"] and Factors(**drawn["factors"]),
            "parts": tuple(Part(*part) for part in drawn["parts"]),
            "remarks": tuple(drawn["remarks"]),
        }
    )


def record(number: int, size: int = 50) -> Record:
    return Record(
        id=number,
        source=f"{number}.jpg",
        image=number.to_bytes(4, "big") * (size // 4),
        width=9,
        height=9,
        box=Box(1, 2, 3, 4),
    )


def read_back(content: bytes) -> list[Record]:
    return [from_row(row) for row in pq.read_table(pa.BufferReader(content)).to_pylist()]


@given(st.lists(columns | rejects, max_size=6))
@settings(max_examples=60, deadline=None)
def test_every_field_comes_back(drawn: list[Any]) -> None:
    rows = [made(item) for item in drawn]
    content = shard_bytes(rows)
    written = [row for row in rows if isinstance(row, Record)]
    assert read_back(content) == written
    assert shard_bytes(rows) == content, "the same bytes"
    with pq.ParquetFile(pa.BufferReader(content)) as shard:
        assert shard.schema_arrow.equals(SCHEMA)
        summary = read_summary(shard)
        stored = shard.read().to_pylist()
    assert summary.ids == [row.id for row in written]
    assert summary.rejects == [row for row in rows if isinstance(row, Reject)]
    assert summary.digests == [row_digest(to_row(row)).hex() for row in written]
    assert summary.digests == [row_digest(row).hex() for row in stored], "of what is stored"


@given(columns)
def test_the_digest_follows_every_column(drawn: Any) -> None:
    one = made(drawn)
    assert isinstance(one, Record)
    row = to_row(one)
    changed = {
        name: not value
        if isinstance(value, bool)
        else value + b"x"
        if isinstance(value, bytes)
        else f"{value}x"
        if isinstance(value, str)
        else [*value, value[0]]
        if isinstance(value, list) and value
        else value + 1
        if isinstance(value, int)
        else 4097.5
        for name, value in row.items()
        if value not in (None, [])
    }
    digests = {row_digest(row | {name: value}) for name, value in changed.items()}
    assert len(digests | {row_digest(row)}) == len(changed) + 1


def test_the_digest_is_of_what_32_bits_hold() -> None:
    one = replace(record(0), box=Box(0.1, 0.2, 1 / 3, 0.7), parts=(Part(0, 0.1, 1 / 3),))
    (stored,) = read_back(shard_bytes([one]))
    assert stored.box != one.box
    assert row_digest(to_row(stored)) == row_digest(to_row(one))


def test_the_fingerprint_does_not_depend_on_parquet(tmp_path: Path) -> None:
    """Neither on where shards end, nor on how the library writes them."""
    rows = [record(number) for number in range(9)]

    def fingerprint(*cuts: slice, version: str | None = None) -> str:
        summaries = []
        for number, cut in enumerate(cuts):
            path = tmp_path / shard_name(number)
            write_shard(rows[cut], str(path))
            if version is not None:
                table = pq.read_table(path)
                pq.write_table(table, path, version=version, compression="zstd", row_group_size=2)
            with pq.ParquetFile(path) as shard:
                digests = [row_digest(row).hex() for row in shard.read().to_pylist()]
                assert read_summary(shard).digests == digests if version is None else True
                ids = shard.read(columns=["id"]).column("id").to_pylist()
            summaries.append(shards.ShardSummary(ids, digests, []))
        return fingerprint_of(summaries)

    first = fingerprint(slice(None))
    assert fingerprint(slice(0, 4), slice(4, 9)) == first
    assert fingerprint(slice(None), version="1.0") == fingerprint(slice(None), version="2.6")
    assert fingerprint(slice(None), version="1.0") == first
    rows.reverse()
    assert fingerprint(slice(None)) != first, "the order is content"


def test_groups_end_at_their_rows_or_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    def groups(sizes: list[int]) -> list[int]:
        rows = [record(number, size) for number, size in enumerate(sizes)]
        with pq.ParquetFile(pa.BufferReader(shard_bytes(rows))) as shard:
            metadata = shard.metadata
        return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]

    assert groups([8] * 150) == [64, 64, 22]
    monkeypatch.setattr(shards, "ROW_GROUP_BYTES", 1000)
    assert groups([400] * 7) == [3, 3, 1]
    assert groups([4000, 8, 4000]) == [1, 2]
    assert groups([]) == []


def test_names_sort_as_their_numbers() -> None:
    assert [shard_name(number) for number in (0, 99_999)] == [
        "part-00000.parquet",
        "part-99999.parquet",
    ]
    with pytest.raises(DataError, match="100000 shards at most"):
        shard_name(100_000)


@pytest.mark.parametrize("metadata", [None, {"mixnmatch": "[[], []]"}, {"mixnmatch": "x"}])
def test_other_parquet_files_are_no_shards(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    table = pa.table({"id": [1]}).replace_schema_metadata(metadata)
    pq.write_table(table, tmp_path / "other.parquet")
    with pq.ParquetFile(tmp_path / "other.parquet") as shard, pytest.raises(ValueError):  # noqa: PT011
        read_summary(shard)


# Readers


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set of 20 shards of 2 rows, of which a reader may keep 3 open."""
    monkeypatch.setattr(store, "SHARD_ROWS", 2)
    monkeypatch.setattr(store, "CACHE_BYTES", 1)
    monkeypatch.setattr(shards, "MOST_OPEN", 3)
    write_dataset((record(number) for number in range(40)), tmp_path / "set", kind="cub")
    return tmp_path / "set"


@pytest.mark.skipif(sys.platform != "linux", reason="counts what is in /proc")
def test_few_shards_are_open_at_a_time(many: Path) -> None:
    def opened() -> int:
        links = Path("/proc/self/fd").iterdir()
        return sum(str(many) in str(link.readlink()) for link in links if link.is_symlink())

    dataset = open_dataset(many)
    assert [found.id for found in dataset] == list(range(40))
    assert [dataset[index].id for index in (39, 0, 20, 39, 1)] == [39, 0, 20, 39, 1]
    assert opened() <= 3


def test_a_shard_that_is_replaced_is_not_mixed_in(many: Path) -> None:
    dataset = open_dataset(many)
    other = [replace(found, image=b"other") for found in dataset]
    write_dataset(other, many, kind="cub", overwrite=True)
    with pytest.raises(DataError, match=r"part-00000\.parquet: was replaced while it was read"):
        dataset[0]
    assert open_dataset(many)[0].image == b"other"


def test_what_is_open_stays_as_it_was(many: Path) -> None:
    paths = sorted(many.glob("part-*.parquet"))
    open_shards = OpenShards(paths)
    first = open_shards[paths[0]].read()
    paths[0].unlink()
    assert open_shards[paths[0]].read().equals(first)


def rows_of_many() -> Iterator[Record]:
    picture = np.random.default_rng(0).bytes(3000)
    for number in range(20_000):
        yield replace(record(number), image=picture, class_name="cat", parts=(Part(0, 1, 2),))


def test_pictures_are_not_in_memory(tmp_path: Path) -> None:
    """20,000 rows of 60 MB of pictures: only the other columns are held."""
    write_dataset(rows_of_many(), tmp_path / "set", kind="cub")
    before = pa.total_allocated_bytes()
    dataset = open_dataset(tmp_path / "set")
    assert pa.total_allocated_bytes() - before < 12e6
    assert len(dataset) == 20_000
    assert dataset[19_999].id == 19_999
    assert pa.total_allocated_bytes() - before < 13e6, "and one group of pictures"
    assert len(json.loads((tmp_path / "set/dataset.json").read_text())["duplicates"][0]) == 20_000
