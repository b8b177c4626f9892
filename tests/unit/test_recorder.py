import json
import math
from pathlib import Path

import pytest
from PIL import Image

from mixnmatch.recorder import FolderRecorder, Recorders


def lines(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_metrics_are_one_object_a_line(tmp_path: Path) -> None:
    recorder = FolderRecorder(tmp_path / "new" / "run")
    recorder.metrics({"loss": 0.5, "lr": 1}, step=1)
    recorder.metrics({"loss": 0.25}, step=2)
    first, second = lines(tmp_path / "new" / "run")
    assert (first["step"], first["values"]) == (1, {"loss": 0.5, "lr": 1.0})
    assert (second["step"], second["values"]) == (2, {"loss": 0.25})
    assert isinstance(first["time"], float)
    assert "non_finite" not in first


def test_non_finite_metrics_are_named_and_stay_valid_json(tmp_path: Path) -> None:
    FolderRecorder(tmp_path).metrics({"a": math.nan, "b": math.inf, "c": 1.0}, step=3)
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()
    (record,) = lines(tmp_path)
    assert record["values"] == {"a": None, "b": None, "c": 1.0}
    assert record["non_finite"] == ["a", "b"]


def test_a_line_torn_by_a_kill_does_not_swallow_the_next(tmp_path: Path) -> None:
    FolderRecorder(tmp_path).metrics({"loss": 1.0}, step=1)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "ti')
    FolderRecorder(tmp_path).metrics({"loss": 2.0}, step=2)
    written = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(written[0])["step"], json.loads(written[2])["step"]] == [1, 2]


def test_pictures_are_named_by_step_and_leave_nothing_else(tmp_path: Path) -> None:
    recorder = FolderRecorder(tmp_path)
    image = Image.new("RGB", (4, 4), "red")
    recorder.picture("child", image, step=12)
    recorder.picture("child", Image.new("RGB", (4, 4), "blue"), step=12)
    assert [path.name for path in (tmp_path / "samples").iterdir()] == ["child-0000012.png"]
    with Image.open(tmp_path / "samples" / "child-0000012.png") as saved:
        assert saved.getpixel((0, 0)) == (0, 0, 255)


@pytest.mark.parametrize("name", ["", "../up", "a b", "ä"])
def test_picture_names_are_plain(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="picture name"):
        FolderRecorder(tmp_path).picture(name, Image.new("RGB", (4, 4)), step=1)


def test_artifacts_are_copied_like_cp_r(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "a.txt").write_text("old")
    out = tmp_path / "out"
    recorder = FolderRecorder(out)
    recorder.artifact(source / "deep" / "a.txt", "notes")
    recorder.artifact(source)
    (source / "deep" / "a.txt").write_text("new")
    (source / "deep" / "b.txt").write_text("more")
    recorder.artifact(source)
    assert (out / "notes" / "a.txt").read_text() == "old"
    assert (out / "source" / "deep" / "a.txt").read_text() == "new"
    assert sorted(path.name for path in out.iterdir()) == ["notes", "source"]


@pytest.mark.parametrize("failures", [1, 2])
def test_a_failed_copy_does_not_lose_the_last_one(
    failures: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    (source / "a.txt").write_text("old")
    recorder = FolderRecorder(out)
    recorder.artifact(source)
    (source / "a.txt").write_text("new")
    rename, left = Path.rename, failures

    def failing(self: Path, target: Path) -> Path:
        nonlocal left
        if target == out / "source" and left:
            left -= 1
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="Input/output"):
        recorder.artifact(source)
    assert [path.read_text() for path in out.rglob("a.txt")] == ["old"]


def test_artifacts_already_in_the_run_folder_stay(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "weights").write_text("w")
    FolderRecorder(tmp_path).artifact(tmp_path / "bundle")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_recorders_hand_everything_to_all(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("n")
    outs = [tmp_path / "a", tmp_path / "b"]
    both = Recorders(*map(FolderRecorder, outs))
    both.metrics({"loss": 1.0}, step=1)
    both.picture("child", Image.new("RGB", (4, 4)), step=1)
    both.artifact(tmp_path / "note.txt")
    for out in outs:
        assert lines(out)[0]["step"] == 1
        assert (out / "samples" / "child-0000001.png").is_file()
        assert (out / "note.txt").is_file()
