from pathlib import Path

import pytest

from mixnmatch.files import cache_folder, replace_folder, whole_file


@pytest.fixture
def new(tmp_path: Path) -> Path:
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "a").write_text("new")
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "a").write_text("old")
    (folder / "b").write_text("old")
    return folder


def tree(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text() for path in files}


def test_a_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "page.html"
    with whole_file(path) as first, whole_file(path) as second:
        assert first != second
        assert {first.suffix, second.suffix} == {".html"}
        first.write_text("half")
        second.write_text("other")
        assert not path.exists()
    assert tree(tmp_path) == {"new/page.html": "half"}, "the last one stays"


def test_a_file_that_is_not_finished_leaves_what_was_there(out: Path) -> None:
    def fail() -> None:
        with whole_file(out / "a") as partial:
            partial.write_text("half")
            raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        fail()
    assert tree(out) == {"a": "old", "b": "old"}
    with pytest.raises(FileNotFoundError), whole_file(out / "a"):
        pass  # nothing was written
    with pytest.raises(NotADirectoryError), whole_file(out / "a" / "b" / "c"):
        pass
    assert tree(out) == {"a": "old", "b": "old"}


def test_a_folder_takes_its_place(new: Path, tmp_path: Path) -> None:
    replace_folder(new, tmp_path / "out")
    assert tree(tmp_path) == {"out/a": "new"}


def test_a_folder_replaces_another_as_a_whole(new: Path, out: Path, tmp_path: Path) -> None:
    replace_folder(new, out)
    assert tree(tmp_path) == {"out/a": "new"}
    assert list(tmp_path.iterdir()) == [out]


def test_a_link_is_replaced_and_what_it_names_stays(new: Path, out: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(out)
    replace_folder(new, link)
    assert not link.is_symlink()
    assert tree(tmp_path) == {"link/a": "new", "out/a": "old", "out/b": "old"}


def test_a_file_is_not_replaced(new: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(NotADirectoryError):
        replace_folder(new, tmp_path / "out")
    assert tree(tmp_path) == {"out": "a file", "new/a": "new"}


@pytest.mark.parametrize("failures", [1, 2])
def test_the_old_folder_is_never_lost(
    failures: int, new: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, left = Path.rename, failures

    def failing(self: Path, target: Path) -> Path:
        nonlocal left
        if target == out and left:
            left -= 1
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="Input/output"):
        replace_folder(new, out)
    (kept,) = (path for path in tmp_path.iterdir() if path != new)
    assert (kept == out) == (failures == 1)  # else not even the old one could be put back
    assert tree(kept) == {"a": "old", "b": "old"}
    assert tree(new) == {"a": "new"}


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MIXNMATCH_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    for unset in (True, False):
        monkeypatch.setenv("MIXNMATCH_CACHE", "")
        if unset:
            monkeypatch.delenv("MIXNMATCH_CACHE")
        assert cache_folder() == tmp_path / ".cache" / "mixnmatch"
