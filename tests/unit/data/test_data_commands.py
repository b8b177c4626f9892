import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import MakeCub
from PIL import Image

from mixnmatch import cli
from mixnmatch.data.store import Dataset, open_dataset


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
    assert left_in(tmp_path) == ["set"]


def test_view(drawn: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = tmp_path / "sheet.png"
    arguments = ["data", "view", str(drawn.path), "--out", str(sheet), "--count", "5"]
    assert cli.main([*arguments, "--image-size", "32"]) == 0
    assert "5 of 48 pictures" in capsys.readouterr().out
    assert Image.open(sheet).size[0] > 4 * 3 * 128
    assert "must end in .png" in refused(
        capsys, "data", "view", drawn.path, "--out", tmp_path / "sheet.jpg"
    )
    missing = tmp_path / "no" / "sheet.png"
    assert str(missing) in refused(capsys, "data", "view", drawn.path, "--out", missing)


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
    "command", [[], ["data"], ["data", "ingest"], ["data", "synthesize"], ["data", "view"]]
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
