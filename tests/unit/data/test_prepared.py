import errno
import io
import multiprocessing
import os
import resource
import shutil
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_data import MakeCub, read_cub

from mixnmatch.data import prepared
from mixnmatch.data.crops import Squares, cut_squares
from mixnmatch.data.prepared import INDEX_NAME, PIXELS_NAME, PreparedViews, open_prepared
from mixnmatch.data.records import Split
from mixnmatch.data.store import Dataset, open_dataset, write_dataset
from mixnmatch.data.views import Views, read_views
from mixnmatch.errors import DataError, RunError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of the test's own."""
    monkeypatch.setenv("MIXNMATCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "prepared"


def folders(cache: Path) -> list[Path]:
    """The finished ones."""
    return sorted(path for path in cache.iterdir() if not path.name.startswith("."))


def equal(left: PreparedViews, right: PreparedViews) -> bool:
    return torch.equal(left.pixels, right.pixels) and all(
        np.array_equal(a, b) for a, b in zip(left[1:], right[1:], strict=True)
    )


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Ids of the pictures that are decoded."""
    ids: list[int] = []

    def read(record: Any, image_size: int) -> Views:
        ids.append(record.id)
        return read_views(record, image_size)

    monkeypatch.setattr(prepared, "read_views", read)
    return ids


@pytest.mark.parametrize("split", ["train", None])
def test_the_views_are_those_of_each_picture(
    drawn: Dataset, cache: Path, split: Split | None
) -> None:
    made = open_prepared(drawn, 32, split)
    rows = drawn.indices(split)
    assert len(made.starts) == len(rows)
    for number, row in enumerate(rows):
        views = read_views(drawn[int(row)], 32)
        for view, (pixels, box) in enumerate((views[:2], views[2:])):
            height, width = made.sizes[number, view]
            start = made.starts[number, view]
            flat = made.pixels[start : start + 3 * height * width]
            assert np.array_equal(flat.view(3, height, width).permute(1, 2, 0), pixels)
            assert np.array_equal(made.boxes[number, view], box)
    assert len(made.pixels) == 3 * made.sizes.prod(axis=2).sum()


def test_pictures_are_decoded_once(drawn: Dataset, cache: Path, reads: list[int]) -> None:
    first = open_prepared(drawn, 32)
    assert sorted(reads) == sorted(drawn.column("id"))
    assert equal(first, open_prepared(drawn, 32))
    assert len(reads) == len(drawn)
    (folder,) = folders(cache)
    assert sorted(path.name for path in folder.iterdir()) == [INDEX_NAME, PIXELS_NAME]


def test_what_changes_pixels_changes_the_key(
    drawn: Dataset, cache: Path, make_cub: MakeCub, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_cub()
    write_dataset(read_cub(root), root / "set", kind="cub")
    open_prepared(drawn, 32)
    open_prepared(drawn, 64)
    open_prepared(drawn, 32, "train")
    open_prepared(open_dataset(root / "set"), 32)
    assert len(folders(cache)) == 4
    for name, value in (("VIEWS_VERSION", -1), ("_FORMAT", -1)):
        monkeypatch.setattr(prepared, name, value)
        open_prepared(drawn, 32)
    monkeypatch.setattr("PIL.__version__", "0")
    open_prepared(drawn, 32)
    assert len(folders(cache)) == 7


def test_a_copy_of_the_data_set_elsewhere_shares_the_views(
    drawn: Dataset, cache: Path, tmp_path: Path, reads: list[int]
) -> None:
    open_prepared(drawn, 32)
    shutil.copytree(drawn.path, tmp_path / "copy")
    open_prepared(open_dataset(tmp_path / "copy"), 32)
    assert len(reads) == len(drawn)


def flip_byte(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def cut_short(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def retype(path: Path) -> None:
    """The same bytes of boxes, taken for whole numbers."""
    content = path.read_bytes()
    assert content.count(b'"F32"') == 1
    path.write_bytes(content.replace(b'"F32"', b'"I32"'))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: flip_byte(folder / PIXELS_NAME, 0),
        lambda folder: flip_byte(folder / PIXELS_NAME, -1),
        lambda folder: cut_short(folder / PIXELS_NAME, -1),
        lambda folder: cut_short(folder / PIXELS_NAME, 0),
        lambda folder: (folder / PIXELS_NAME).open("ab").write(b"more"),
        lambda folder: flip_byte(folder / INDEX_NAME, -1),
        lambda folder: flip_byte(folder / INDEX_NAME, 0),
        lambda folder: retype(folder / INDEX_NAME),
        lambda folder: cut_short(folder / INDEX_NAME, 100),
        lambda folder: cut_short(folder / INDEX_NAME, 0),
        lambda folder: shutil.copy(other_index(folder), folder / INDEX_NAME),
    ],
)
def test_a_damaged_folder_is_made_again(
    drawn: Dataset, cache: Path, capsys: pytest.CaptureFixture[str], damage: Any
) -> None:
    whole = open_prepared(drawn, 32)
    expected = PreparedViews(whole.pixels.clone(), *whole[1:])
    (folder,) = folders(cache)
    open_prepared(drawn, 32, "train")
    damage(folder)
    assert capsys.readouterr().err == ""
    assert equal(open_prepared(drawn, 32), expected)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{folder}: damaged")
    assert line.endswith(": it is made again")
    assert equal(open_prepared(drawn, 32), expected)
    assert capsys.readouterr().err == ""


def other_index(folder: Path) -> Path:
    (other,) = (path for path in folders(folder.parent) if path != folder)
    return other / INDEX_NAME


@pytest.mark.parametrize("name", [PIXELS_NAME, INDEX_NAME])
def test_a_folder_that_lacks_a_file_is_made_again(drawn: Dataset, cache: Path, name: str) -> None:
    open_prepared(drawn, 32)
    (folder,) = folders(cache)
    (folder / name).unlink()
    assert len(open_prepared(drawn, 32).starts) == len(drawn)
    assert sorted(path.name for path in folder.iterdir()) == [INDEX_NAME, PIXELS_NAME]


def test_views_of_other_pictures_are_not_taken(drawn: Dataset, cache: Path) -> None:
    open_prepared(drawn, 32)
    (folder,) = folders(cache)
    expected = open_prepared(drawn, 64).pixels.shape
    (other,) = (path for path in folders(cache) if path != folder)
    shutil.rmtree(other)
    folder.rename(other)
    assert open_prepared(drawn, 64).pixels.shape == expected


def test_what_is_in_use_may_be_deleted(drawn: Dataset, cache: Path) -> None:
    made = open_prepared(drawn, 32)
    before = made.pixels.sum()
    shutil.rmtree(cache)
    assert made.pixels.sum() == before


def test_a_stopped_preparation_leaves_nothing(
    drawn: Dataset, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(record: Any, image_size: int) -> Views:
        raise KeyboardInterrupt

    monkeypatch.setattr(prepared, "read_views", interrupt)
    with pytest.raises(KeyboardInterrupt):
        open_prepared(drawn, 32)
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_what_a_killed_process_has_left_is_removed(drawn: Dataset, cache: Path) -> None:
    open_prepared(drawn, 32)
    (folder,) = folders(cache)
    left = folder.rename(folder.with_name(f".{folder.name}.0123abcd.partial"))
    open_prepared(drawn, 32)
    assert not left.exists()
    assert folders(cache) == [folder]


def test_threads_that_prepare_at_once_do_the_work_once(
    drawn: Dataset, cache: Path, reads: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    together = threading.Barrier(3)

    def prepare(_: int) -> PreparedViews:
        together.wait()
        return open_prepared(drawn, 32)

    with ThreadPoolExecutor(3) as pool:
        first, *others = pool.map(prepare, range(3))
    assert all(equal(first, other) for other in others)
    assert len(reads) == len(drawn)
    assert set(capsys.readouterr().err.splitlines()) <= {
        f"{folders(cache)[0]}: waiting for another process that prepares the same pictures"
    }


def _meet(cache: str, together: Any) -> None:
    os.environ["MIXNMATCH_CACHE"] = cache
    torch.set_num_threads(1)
    together.wait()


def _prepare_in_a_process(path: Path) -> tuple[int, int]:
    made = open_prepared(open_dataset(path), 32)
    return len(made.starts), int(made.pixels.long().sum())


def test_processes_that_prepare_at_once_agree(drawn: Dataset, cache: Path) -> None:
    context = multiprocessing.get_context("spawn")
    meeting = (str(cache.parent), context.Barrier(2))
    # Of a pool one hears at once when a process of it dies.
    with ProcessPoolExecutor(2, context, initializer=_meet, initargs=meeting) as pool:
        answers = list(pool.map(_prepare_in_a_process, [drawn.path] * 2))
    made = open_prepared(drawn, 32)
    assert answers == [(len(made.starts), int(made.pixels.long().sum()))] * 2
    assert len(folders(cache)) == 1
    assert not list(cache.glob("*.partial"))


def test_without_locks_the_work_may_be_done_twice(
    drawn: Dataset, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", none)
    with ThreadPoolExecutor(3) as pool:
        first, *others = pool.map(lambda _: open_prepared(drawn, 32), range(3))
    assert all(equal(first, other) for other in others)
    assert len(folders(cache)) == 1


def test_a_cache_folder_that_cannot_be_written_to_is_said_aloud(
    drawn: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("MIXNMATCH_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    made = open_prepared(drawn, 32)
    (line,) = capsys.readouterr().err.splitlines()
    assert "prepared pictures cannot be kept there (Not a directory)" in line
    assert "set MIXNMATCH_CACHE to a folder with room" in line
    assert list((tmp_path / "tmp").iterdir()) == []
    monkeypatch.setenv("MIXNMATCH_CACHE", str(tmp_path / "cache"))
    assert equal(made, open_prepared(drawn, 32))


def test_a_cache_that_may_only_be_read_is_used(
    drawn: Dataset, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = open_prepared(drawn, 32)
    (folder,) = folders(cache)
    for path in (*folder.iterdir(), folder, cache):
        path.chmod(path.stat().st_mode & ~0o222)

    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(prepared, "_make", refused)  # permissions do not stop the superuser
    assert equal(open_prepared(drawn, 32), made)
    assert capsys.readouterr().err == ""
    for path in (cache, folder):
        path.chmod(0o755)


class FullDisk(io.BytesIO):
    def write(self, data: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fill(monkeypatch: pytest.MonkeyPatch, *full: Path) -> None:
    """No pixels can be written below these folders any more."""
    begin = Path.open

    def opened(self: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if mode == "wb" and any(self.is_relative_to(folder) for folder in full):
            return FullDisk()
        return begin(self, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", opened)


def test_a_full_disk_is_said_aloud(
    drawn: Dataset,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    fill(monkeypatch, cache)
    assert len(open_prepared(drawn, 32).starts) == len(drawn)
    assert "cannot be kept there (No space left on device)" in capsys.readouterr().err
    assert [path.suffix for path in cache.iterdir()] == [".lock"]
    fill(monkeypatch, tmp_path)
    with pytest.raises(
        RunError, match=r"tmp: 48 pictures cannot .*No space left .*MIXNMATCH_CACHE"
    ):
        open_prepared(drawn, 32)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_picture_that_cannot_be_read_is_named(cache: Path, make_cub: MakeCub) -> None:
    root = make_cub()
    records = list(read_cub(root))
    records[1] = replace(records[1], image=records[1].image[:200])
    write_dataset(records, root / "set", kind="cub")
    with pytest.raises(DataError, match=r"one/b\.jpg: corrupt or truncated"):
        open_prepared(open_dataset(root / "set"), 32)
    assert folders(cache) == []


@pytest.mark.skipif(sys.platform != "linux", reason="other systems may fill files with zeros")
def test_a_file_larger_than_memory_is_mapped(tmp_path: Path) -> None:
    size = 2**40  # nearly all of it a hole that takes no room on the disk
    with (tmp_path / "pixels.bin").open("wb") as file:
        file.truncate(size)
        file.seek(size - 32)
        file.write(bytes(range(32)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pixels = prepared._map(tmp_path / "pixels.bin")
    assert pixels.shape == (size,)
    rows = torch.stack([torch.arange(3 * 32), size - 32 * (3 * 32 - torch.arange(3 * 32))])
    squares = Squares(rows=rows.view(2, 3, 32), flipped=torch.tensor([1]), box=torch.zeros(2, 4))
    cut = cut_squares(pixels, squares)
    assert cut[0].max() == cut[1, :2].max() == cut[1, 2, :31].max() == 0
    assert cut[1, 2, 31].flip(0).tolist() == list(range(32))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB
