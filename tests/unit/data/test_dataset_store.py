import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_data import encoded

from mixnmatch.data import shards, store
from mixnmatch.data.factors import FactorSpec, draw_factor_dataset
from mixnmatch.data.store import Box, Dataset, Record, open_dataset, write_dataset
from mixnmatch.errors import DataError

PICTURE = encoded(16, 12)


def records(count: int, **changes: object) -> Iterator[Record]:
    for number in range(count):
        record = Record(
            id=10 * number,
            source=f"{number}.jpg",
            image=PICTURE + bytes([number % 256]),
            width=16,
            height=12,
            box=Box(1.5, 2, 3.25, 4),
        )
        yield dataclasses.replace(record, **changes)


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_everything_comes_back(tmp_path: Path) -> None:
    written = list(draw_factor_dataset(FactorSpec(count=5, side=32)))
    info = write_dataset(
        written,
        tmp_path / "new" / "set",
        kind="factors",
        source="a test",
        licence="none",
        factors={"background": 3, "shape": 3, "texture": 6, "pose": 4},
        labels=6,
    )
    dataset = open_dataset(tmp_path / "new" / "set")
    assert dataset.info == info
    assert (info.count, info.labels, info.source, info.licence) == (5, 6, "a test", "none")
    for before, after in zip(written, dataset, strict=True):
        assert before.factors is not None
        assert after.factors is not None
        rounded = {
            name: pytest.approx(value) for name, value in dataclasses.asdict(before.factors).items()
        }
        assert dataclasses.asdict(after.factors) == rounded
        assert [part.part for part in after.parts] == [part.part for part in before.parts]
        points = [part[1:] for part in before.parts]
        assert [part[1:] for part in after.parts] == [pytest.approx(point) for point in points]
        assert dataclasses.replace(after, factors=before.factors, parts=before.parts) == before


def test_rows_are_found_across_groups_and_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "SHARD_ROWS", 10)
    monkeypatch.setattr(shards, "ROW_GROUP_ROWS", 4)
    monkeypatch.setattr(store, "CACHE_BYTES", 1)
    write_dataset(records(23), tmp_path / "set", kind="cub")
    names = [f"part-{number:05d}.parquet" for number in range(3)]
    assert left_in(tmp_path / "set") == ["dataset.json", *names]
    dataset = open_dataset(tmp_path / "set")
    assert len(dataset) == 23
    for index in (22, 0, 9, 10, 11, 3, 4, 20):
        assert dataset[index].id == 10 * index
        assert dataset[index].image[-1] == index
    assert dataset[-1].id == 220
    assert dataset[0].factors is None
    with pytest.raises(IndexError):
        dataset[23]


def test_splits_and_columns(drawn: Dataset) -> None:
    parts = [drawn.indices(split) for split in ("train", "test", "judge")]
    assert sorted(int(row) for part in parts for row in part) == list(range(len(drawn)))
    assert all(drawn[int(row)].split == "test" for row in parts[1])
    assert drawn.column("texture") == [record.label for record in drawn]


def test_held_out_pictures_are_the_test_split_or_all(drawn: Dataset, tmp_path: Path) -> None:
    assert 0 < len(drawn.held_out_rows()) < len(drawn)
    assert drawn.held_out_rows().tolist() == drawn.indices("test").tolist()
    write_dataset(records(3, split="train"), tmp_path / "set", kind="cub")
    assert open_dataset(tmp_path / "set").held_out_rows().tolist() == [0, 1, 2]


def test_which_pictures_have_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "SHARD_ROWS", 10)
    monkeypatch.setattr(shards, "ROW_GROUP_ROWS", 4)
    some = (
        dataclasses.replace(each, mask=encoded(16, 12, "L", "PNG") if each.id % 30 else None)
        for each in records(23)
    )
    write_dataset(some, tmp_path / "set", kind="cub")
    dataset = open_dataset(tmp_path / "set")
    assert dataset.masked.tolist() == [each.mask is not None for each in dataset]
    assert 0 < dataset.masked.sum() < 23
    assert dataset.masked is dataset.masked, "read once"


def test_the_fingerprint_follows_content_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fingerprint(name: str, **changes: object) -> str:
        return write_dataset(records(9, **changes), tmp_path / name, kind="cub").fingerprint

    first = fingerprint("a")
    assert len(first) == 64
    assert fingerprint("b", box=Box(1.5, 2, 3.25, 5)) != first
    assert fingerprint("c", image=PICTURE) != first
    assert fingerprint("d", split="train") != first
    monkeypatch.setattr(store, "SHARD_ROWS", 4)
    assert fingerprint("e") == first


def test_labels_are_counted(tmp_path: Path) -> None:
    assert write_dataset(records(2), tmp_path / "a", kind="cub").labels is None
    assert write_dataset(records(2, label=4), tmp_path / "b", kind="cub").labels == 5


def failing(error: BaseException) -> Iterator[Record]:
    yield from records(70)
    raise error


@pytest.mark.parametrize("error", [DataError("bad"), KeyboardInterrupt(), OSError("disk full")])
def test_a_failing_write_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        write_dataset(failing(error), tmp_path / "set", kind="cub")
    assert left_in(tmp_path) == []
    kept = write_dataset(records(3), tmp_path / "set", kind="cub")
    with pytest.raises(type(error)):
        write_dataset(failing(error), tmp_path / "set", kind="cub", overwrite=True)
    assert left_in(tmp_path) == ["set"]
    assert open_dataset(tmp_path / "set").info == kept


def test_bad_records_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="id 5 is there twice"):
        write_dataset(records(2, id=5), tmp_path / "set", kind="cub")
    with pytest.raises(DataError, match="birds: no picture to write"):
        write_dataset([], tmp_path / "set", kind="cub", source="birds")
    assert left_in(tmp_path) == []


def test_what_is_in_the_way_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "set"
    out.mkdir()
    write_dataset(records(1), out, kind="cub")  # an empty folder is in nobody's way
    with pytest.raises(DataError, match="exists already"):
        write_dataset(records(2), out, kind="cub")
    assert len(open_dataset(out)) == 1
    write_dataset(records(2), out, kind="cub", overwrite=True)
    assert len(open_dataset(out)) == 2

    other = tmp_path / "home"
    other.mkdir()
    (other / "thesis.txt").write_text("dear")
    file = tmp_path / "file"
    file.write_text("dear")
    for path in (other, file):
        with pytest.raises(DataError, match="not a data set, so it is not replaced"):
            write_dataset(records(2), path, kind="cub", overwrite=True)
    assert (other / "thesis.txt").read_text() == file.read_text() == "dear"
    assert left_in(tmp_path) == ["file", "home", "set"]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write_dataset(records(200), tmp_path / "set", kind="cub")
    return tmp_path / "set"


def test_missing_and_foreign_folders_are_named(written: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such data set folder"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"there is no dataset\.json"):
        open_dataset(tmp_path)
    (written / "dataset.json").unlink()
    with pytest.raises(DataError, match=r"set: not a data set, there is no dataset\.json"):
        open_dataset(written)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a data set description"),
        ("[]", "not a data set description"),
        ('{"format_version": "x"}', "not a data set description"),
        ('{"format_version": 2}', "not a data set description"),
        ("[" * 10**5, "not a data set description"),
        ('{"format_version": 1}', "format_version is 1; this program reads 2: make it again"),
        ('{"format_version": 3}', "format_version is 3; .* reads 2: a newer program wrote it"),
    ],
)
def test_foreign_descriptions_are_refused(written: Path, text: str, message: str) -> None:
    (written / "dataset.json").write_text(text)
    with pytest.raises(DataError, match=message):
        open_dataset(written)


def test_damaged_shards_are_refused(written: Path) -> None:
    shard = written / "part-00000.parquet"
    whole = shard.read_bytes()
    for part in (whole[: len(whole) // 2], whole[:-1], b""):
        shard.write_bytes(part)
        with pytest.raises(DataError, match=r"part-00000\.parquet: damaged or truncated"):
            open_dataset(written)
    place = whole.index(PICTURE)
    shard.write_bytes(whole[:place] + b"\0" + whole[place + 1 :])
    with pytest.raises(DataError, match="damaged or truncated"):
        list(open_dataset(written))
    shard.unlink()
    with pytest.raises(DataError, match="promises 200 pictures, the shards hold 0"):
        open_dataset(written)


def test_the_description_is_for_people_too(written: Path) -> None:
    table = json.loads((written / "dataset.json").read_text())
    assert list(table)[:4] == ["format_version", "kind", "count", "fingerprint"]
    assert table["rejects"] == []
