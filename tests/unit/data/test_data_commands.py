import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import MakeCub
from PIL import Image

from mixnmatch import cli
from mixnmatch.data.batches import evaluation_pictures
from mixnmatch.data.export import file_name
from mixnmatch.data.records import Box, Record
from mixnmatch.data.store import Dataset, open_dataset
from mixnmatch.sheets import to_tensor


def refused(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 2) -> str:
    """The one line that a failing command prints."""
    assert cli.main([str(argument) for argument in arguments]) == status
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    assert len(lines) == 1
    assert lines[0].startswith("mixnmatch: error: ")
    return lines[0]


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_ingest(make_cub: MakeCub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "set"
    assert cli.main(["data", "ingest", str(make_cub()), str(out)]) == 0
    assert capsys.readouterr().out.startswith(f"{out}: 3 pictures, 2 classes; fingerprint ")
    assert open_dataset(out).info.source.endswith("cub")
    assert "exists already (--overwrite" in refused(capsys, "data", "ingest", make_cub(), out)
    assert cli.main(["data", "ingest", str(make_cub()), str(out), "--overwrite", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["out"], summary["count"], summary["rejects"]) == (str(out), 3, [])


def test_ingest_skips_bad_pictures_only_when_asked(
    make_cub: MakeCub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = make_cub(), tmp_path / "set"
    (root / "images/one/b.jpg").write_bytes(b"\xff\xd8\xff broken")
    assert "one/b.jpg: " in refused(capsys, "data", "ingest", root, out)
    assert left_in(tmp_path) == ["cub"]
    assert cli.main(["data", "ingest", str(root), str(out), "--skip-bad"]) == 0
    assert "2 pictures, 2 classes, 1 bad left out, see dataset.json" in capsys.readouterr().out
    assert [reject.source for reject in open_dataset(out).info.rejects] == ["one/b.jpg"]


def test_bad_folders_end_in_one_line(
    make_cub: MakeCub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_cub()
    assert "nowhere" in refused(capsys, "data", "ingest", tmp_path / "nowhere", tmp_path / "o")
    (root / "images.txt").unlink()
    assert "images.txt" in refused(capsys, "data", "ingest", root, tmp_path / "o")
    assert "not a data set" in refused(capsys, "data", "ingest", make_cub("b"), root, "--overwrite")
    under_file = root / "classes.txt" / "o"
    assert "classes.txt" in refused(capsys, "data", "ingest", make_cub("c"), under_file)
    view = ("data", "view", tmp_path / "nowhere", "--out", tmp_path / "a.png")
    assert "no such data set folder" in refused(capsys, *view)
    assert left_in(tmp_path) == ["b", "c", "cub"]


def test_synthesize(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "set"
    options = ["--count", "6", "--side", "32", "--shapes", "2", "--backgrounds", "4", "--json"]
    assert cli.main(["data", "synthesize", str(out), *options]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["factors"] == {"background": 4, "shape": 2, "texture": 4, "pose": 4}
    dataset = open_dataset(out)
    assert (len(dataset), dataset.info.labels) == (9, 4)
    assert len(dataset.indices("judge")) == 3
    assert "shapes is 99" in refused(capsys, "data", "synthesize", tmp_path / "x", "--shapes", "99")
    for option in ("count", "seed"):
        large = ("data", "synthesize", tmp_path / "x", f"--{option}", 10**20)
        assert f"{option} is {10**20}: it must be from" in refused(capsys, *large)
    assert left_in(tmp_path) == ["set"]


def test_view(drawn: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = tmp_path / "sheet.png"
    arguments = ["data", "view", str(drawn.path), "--out", str(sheet), "--count", "5"]
    assert cli.main([*arguments, "--image-size", "32"]) == 0
    assert "5 of 48 pictures" in capsys.readouterr().out
    assert Image.open(sheet).size[0] > 4 * 3 * 128
    view = ("data", "view", drawn.path, "--count", "2", "--out")
    assert "use .png" in refused(capsys, *view, tmp_path / "sheet.txt")
    for option, value in (("count", 0), ("count", 10**20), ("image-size", 7), ("image-size", 4000)):
        wrong = refused(capsys, *view, tmp_path / "wrong.png", f"--{option}", value)
        assert f"--{option} is {value}: it must be from" in wrong
    assert "cannot be written" in refused(capsys, *view, sheet / "under a file.png")
    assert cli.main([str(part) for part in (*view, tmp_path / "new" / "sheet.jpg")]) == 0
    assert left_in(tmp_path) == ["new", "sheet.png"]


def test_export(drawn: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def export(name: str, *options: str) -> dict[str, Any]:
        command = ["data", "export", str(drawn.path), str(tmp_path / name), "--json", *options]
        assert cli.main(command) == 0
        summary: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert left_in(tmp_path / name) == sorted(summary["files"])
        return summary

    (tmp_path / "a").mkdir()  # an empty folder is free
    summary = export("a", "--count", "3", "--side", "32")
    rows = drawn.indices("test")
    assert (len(summary["files"]), summary["available"]) == (3, len(rows))
    # They are what evaluation sees.
    seen = {file_name(drawn[row]): row for row in rows.tolist()}
    assert all(re.fullmatch(r"\d{4}-[a-z-]+\.png", name) for name in seen)
    for name in summary["files"]:
        picture = to_tensor(Image.open(tmp_path / "a" / name), 32)
        expected = evaluation_pictures(drawn, [seen[name]], 32).images
        assert torch.allclose(picture, expected, atol=1e-6)
    assert export("b", "--count", "3", "--side", "32")["files"] == summary["files"]
    assert export("c", "--count", "3", "--seed", "1")["files"] != summary["files"]
    assert len(export("d", "--count", "99", "--split", "judge", "--side", "8")["files"]) == 8
    assert Image.open(next((tmp_path / "c").iterdir())).size == (128, 128)
    assert cli.main(["data", "export", str(drawn.path), str(tmp_path / "e"), "--count", "1"]) == 0
    expected = f"{tmp_path / 'e'}: 1 of {len(rows)} pictures of split test, 128x128 px\n"
    assert capsys.readouterr().out == expected
    assert left_in(tmp_path) == ["a", "b", "c", "d", "e"]


def test_what_export_refuses(
    drawn: Dataset,
    make_cub: MakeCub,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    export = ("data", "export", drawn.path)
    assert "no such data set" in refused(capsys, "data", "export", tmp_path / "nowhere", out)
    for option, value in (("count", 0), ("side", 7), ("side", 10**6), ("seed", -1)):
        message = refused(capsys, *export, out, f"--{option}", value)
        assert f"{option} is {value}: it must be" in message
    assert "not an empty folder" in refused(capsys, *export, drawn.path)
    (tmp_path / "file").write_text("")
    for taken in (tmp_path / "file", tmp_path / "file" / "under"):
        assert str(taken.parent) in refused(capsys, *export, taken)
    assert left_in(tmp_path) == ["file"]
    without_splits = make_cub(train_test_split__txt="3 1\n7 1\n20 1\n")
    assert cli.main(["data", "ingest", str(without_splits), str(tmp_path / "set")]) == 0
    capsys.readouterr()
    none = refused(capsys, "data", "export", tmp_path / "set", out)
    assert "has no pictures of split 'test'" in none

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    assert "No space" in refused(capsys, *export, out, status=1)
    assert left_in(tmp_path) == ["cub", "file", "set"]


@pytest.mark.parametrize(
    ("class_name", "name"),
    [
        ("fish/red stripes", "0007-fish-red-stripes.png"),
        ("../../etc/pässwd\n", "0007-etc-p-sswd.png"),
        ("001.Black_footed", "0007-001-Black_footed.png"),
        ("x" * 500, f"0007-{'x' * 80}.png"),
        ("/", "0007.png"),
        (None, "0007.png"),
    ],
)
def test_names_of_exported_pictures_are_safe(class_name: str | None, name: str) -> None:
    box = Box(0, 0, 1, 1)
    record = Record(id=7, source="x", image=b"", width=1, height=1, box=box, class_name=class_name)
    assert file_name(record) == name


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (PermissionError(13, "Permission denied", "/root/x"), 2, "/root/x: Permission denied"),
        (OSError(28, "No space left on device"), 1, "No space left on device"),
    ],
)
def test_errors_of_the_machine_end_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    line: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("mixnmatch.data.store.open_dataset", fail)
    command = ("data", "view", "x", "--out", "x.png")
    assert refused(capsys, *command, status=status) == f"mixnmatch: error: {line}"


def test_unexpected_errors_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mixnmatch.data.store.open_dataset", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["data", "view", "x", "--out", "x.png"])


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["data"],
        *(["data", name] for name in ("ingest", "synthesize", "view", "export")),
    ],
)
def test_help_has_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([*command, "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert len(command) < 2 or f"example:\n  mixnmatch {' '.join(command)} " in text


def test_help_does_not_wait_for_torch() -> None:
    script = (
        "import sys; from mixnmatch import cli; cli.build_parser(); "
        "print({'torch', 'pyarrow', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("set()\n", "")
