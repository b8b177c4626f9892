import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from made_data import MakeCub
from PIL import Image

from mixnmatch import cli
from mixnmatch.commands.data import COMMANDS
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
    root, out = make_cub(), tmp_path / "set"
    command = ["data", "ingest", str(root), str(out)]
    assert cli.main([*command, "--dry-run"]) == 0
    assert capsys.readouterr().out.endswith(f"\n3 pictures would be read into {out}\n")
    assert left_in(tmp_path) == ["cub"]
    assert cli.main(command) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{out}: 3 pictures (1 test, 2 train), 2 classes, 1 with rem")
    assert "CUB-200-2011: 3 pictures in images.txt" in captured.err
    assert open_dataset(out).info.source.endswith("cub")
    assert cli.main([*command, "--json"]) == 0, "done before"
    first = json.loads(capsys.readouterr().out)
    assert (first["out"], first["count"], first["rejects"]) == (str(out), 3, [])
    (root / "images/one/a.jpg").write_bytes((root / "images/two/c.jpg").read_bytes())
    assert cli.main(command) == 2
    assert "exists already (--overwrite" in capsys.readouterr().err
    assert cli.main([*command, "--overwrite", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["fingerprint"] != first["fingerprint"]
    twice = "1 groups, such as images/one/a.jpg and images/two/c.jpg"
    assert f"the same picture more than once: {twice}" in captured.err


def test_ingest_leaves_bad_pictures_out_unless_it_is_strict(
    make_cub: MakeCub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = make_cub(), tmp_path / "set"
    (root / "images/one/b.jpg").write_bytes(b"\xff\xd8\xff broken")
    command = ["data", "ingest", str(root), str(out)]
    assert cli.main([*command, "--strict"]) == 2
    assert "one/b.jpg: not a picture" in capsys.readouterr().err.splitlines()[-1]
    assert not out.exists()
    assert cli.main(command) == 0
    captured = capsys.readouterr()
    assert "2 pictures (2 train), 2 classes, 1 bad left out, see dataset.json" in captured.out
    assert f"left out: {root}/images/one/b.jpg: not a picture" in captured.err
    assert [reject.source for reject in open_dataset(out).info.rejects] == ["images/one/b.jpg"]
    assert left_in(tmp_path) == ["cub", "set"]


def test_bad_folders_end_in_one_line(
    make_cub: MakeCub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def last_line(*arguments: object) -> str:
        assert cli.main(["data", "ingest", *map(str, arguments)]) == 2
        captured = capsys.readouterr()
        recognised, line = captured.err.splitlines()
        assert (captured.out, recognised[:4], line[:18]) == ("", "CUB-", "mixnmatch: error: ")
        return line

    root = make_cub()
    assert "nowhere" in refused(capsys, "data", "ingest", tmp_path / "nowhere", tmp_path / "o")
    (root / "images.txt").unlink()
    command = ("data", "ingest", root, tmp_path / "o", "--format", "cub")
    assert "images.txt: missing" in refused(capsys, *command)
    assert "not a data set" in last_line(make_cub("b"), root, "--overwrite")
    assert "classes.txt" in last_line(make_cub("c"), root / "classes.txt" / "o")
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
        *(["data", name] for name in COMMANDS),
    ],
)
def test_help_has_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([*command, "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert len(command) < 2 or re.search(rf"examples?:\n  mixnmatch {' '.join(command)} ", text)


def test_help_does_not_wait_for_torch() -> None:
    script = (
        "import sys; from mixnmatch import cli; cli.build_parser(); "
        "print({'torch', 'pyarrow', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("set()\n", "")
