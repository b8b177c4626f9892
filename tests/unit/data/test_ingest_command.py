import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mixnmatch import cli
from mixnmatch.data.info import INFO_NAME, DatasetInfo
from mixnmatch.data.records import Box
from mixnmatch.data.store import open_dataset

Refused = Callable[..., str]
REAL = Path(
    os.environ.get("MIXNMATCH_TEST_DATA", Path(__file__).parents[4] / "shared" / "data")
).resolve()
needs_real = pytest.mark.skipif(
    not REAL.is_dir(), reason=f"no real photographs at {REAL} (set MIXNMATCH_TEST_DATA)"
)


def picture(path: Path, mode: str = "RGB", side: int = 40) -> None:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((side, 30)).convert(mode).save(buffer, "PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())


@pytest.fixture
def shoes(tmp_path: Path) -> Path:
    """A table of four pictures, one with two objects, one grey, one twice, one missing."""
    root = tmp_path / "shoes"
    picture(root / "p/a.png")
    picture(root / "p/b.png", "L")
    picture(root / "p/c.png")
    rows = (
        "file,left,top,w,h,class,part",
        "a.png,1,2,10,10,boot,train",
        "a.png,5,5,20,20,clog,train",
        "b.png,1,2,10,10,boot,val",
        "c.png,1,2,10,10,clog,train",
        "d.png,1,2,10,10,clog,train",
    )
    (root / "shoes.csv").write_text("\n".join(rows))
    return root


COLUMNS = "image=file,x=left,y=top,width=w,height=h,split=part"


def ran(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[str, list[str]]:
    """What ``data ingest`` prints: its output, and the lines of the other one."""
    assert cli.main(["data", "ingest", *map(str, arguments)]) == 0
    captured = capsys.readouterr()
    return captured.out, captured.err.splitlines()


def test_a_table_becomes_a_data_set(
    shoes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "set"
    command = (shoes, out, "--columns", COLUMNS, "--images", "p", "--licence", "CC0")
    text, lines = ran(capsys, *command)
    start, took, end = text.split("; ")
    assert start == (
        f"{out}: 3 pictures (1 test, 2 train), 2 classes, 2 with remarks, 1 there more than once, "
        "1 bad left out, see dataset.json"
    )
    assert took.endswith(" s")
    assert end.startswith("fingerprint ")
    assert lines == [
        "table shoes.csv: 5 rows of 4 pictures; boxes are left, top, w, h (xywh, in pixels)",
        f"left out: {shoes}/d.png: shoes.csv, line 6: no such file below the source, in p",
        "the same picture more than once: 1 groups, such as p/a.png and p/c.png",
    ]
    dataset = open_dataset(out)
    assert (dataset.info.kind, dataset.info.licence) == ("csv", "CC0")
    assert (dataset.info.splits, dataset.info.remarks) == ({"test": 1, "train": 2}, 2)
    assert [record.box for record in dataset] == [
        Box(5, 5, 20, 20),
        Box(1, 2, 10, 10),
        Box(1, 2, 10, 10),
    ]
    described = DatasetInfo.from_json((out / INFO_NAME).read_text(), out / INFO_NAME)
    assert described == dataset.info


def test_a_job_done_before_is_said_to_be_done(
    shoes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "set"
    command = (shoes, out, "--columns", COLUMNS, "--images", "p")
    _, first = ran(capsys, *command)
    before = sorted((path.name, path.stat().st_mtime_ns) for path in out.iterdir())
    text, lines = ran(capsys, *command)
    done = f"{out}: made before of the same pictures, nothing to do"
    assert lines == [first[0], done, *first[1:]]
    assert text.startswith(f"{out}: 3 pictures")
    assert before == sorted((path.name, path.stat().st_mtime_ns) for path in out.iterdir())
    for other in (["--strict"], ["--licence", "CC0"]):
        assert cli.main(["data", "ingest", *map(str, command), *other]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert lines == [first[0], f"mixnmatch: error: {lines[-1][18:]}"]
    _, lines = ran(capsys, *command, "--licence", "CC0", "--overwrite")
    assert lines == first
    assert open_dataset(out).info.licence == "CC0"


def test_no_data_set_inside_its_source(shoes: Path, refused: Refused) -> None:
    """Not even one that is there already, whose shards could be tables."""
    (shoes / "set").mkdir()
    (shoes / "set/part-00000.parquet").write_bytes(b"PAR1")
    for out in (shoes / "set", shoes):
        for more in ([], ["--dry-run"], ["--overwrite"]):
            message = refused("data", "ingest", shoes, out, *more)
            assert f"{out}: is the source {shoes} or inside it" in message


def test_each_object_may_be_a_row(
    shoes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ["/usr/bin/mixnmatch", "data", "ingest", "my shoes", "set"]
    monkeypatch.setattr(sys, "argv", line)
    out = tmp_path / "set"
    text, _ = ran(
        capsys, shoes, out, "--columns", COLUMNS, "--images", "p", "--objects", "each", "--json"
    )
    summary = json.loads(text)
    assert summary["count"] == 4
    assert summary["splits"] == {"test": 1, "train": 3}
    assert summary["seconds"] >= 0
    assert summary["command"] == "mixnmatch data ingest 'my shoes' set"
    out = tmp_path / "other"
    text, _ = ran(capsys, shoes, out, "--columns", COLUMNS, "--images", "p", "--objects", "each")
    assert text.startswith(f"{out}: 4 objects (")


def test_dry_run_reads_no_picture(
    shoes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("a picture was opened"))
    command = (shoes, tmp_path / "set", "--columns", COLUMNS, "--images", "p", "--dry-run")
    text, lines = ran(capsys, *command)
    assert text.splitlines() == [
        "layout    csv",
        "pictures  4",
        "objects   5; several in 1 picture",
        "classes   2: boot, clog",
        "splits    1 test, 3 train",
        "parts     0",
        f"unusable  1, such as {shoes}/d.png: shoes.csv, line 6: no such file below the source, "
        "in p",
        f"3 pictures would be read into {tmp_path / 'set'}",
    ]
    assert len(lines) == 1
    summary = json.loads(ran(capsys, *command, "--json")[0])
    assert (summary["layout"], summary["pictures"], summary["objects"]) == ("csv", 4, 5)
    assert (summary["classes"], summary["splits"]) == (["boot", "clog"], {"test": 1, "train": 3})
    assert len(summary["problems"]) == summary["pictures_with_several"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["shoes"]


def test_a_plain_folder_says_that_it_has_no_boxes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture(tmp_path / "src/cat/a.png")
    _, lines = ran(capsys, tmp_path / "src", tmp_path / "set", "--margin", "0.1")
    assert lines[0] == "plain folder: 1 pictures in 1 folders, without boxes"
    assert lines[1].startswith("no boxes: the object is taken to be each picture less 10 % on each")
    (record,) = open_dataset(tmp_path / "set")
    assert record.box == pytest.approx(Box(4, 3, 32, 24))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--margin", "0.1"], "--margin has no meaning for the layout csv, only for folder"),
        (["--first-pixel", "0"], "--first-pixel has no meaning for the layout csv, only for"),
        (["--format", "cub", "--boxes", "xywh"], "--boxes has no meaning for the layout cub, only"),
        (["--format", "folder", "--margin", "0.5"], "--margin is 0.5: it must be from 0 to 0.45"),
        (["--format", "folder", "--table", "a"], "--table has no meaning for the layout folder"),
        (["--columns", "image"], "--columns is 'image': it must be like image=file"),
        (["--columns", "image=a,x="], "--columns is 'image=a,x=': it must be like"),
        (["--columns", "image=a,image=b"], "gives image twice"),
        (["--columns", "picture=a"], "column 'picture' has no meaning for boxes xywh"),
        (["--table", "b.csv"], "b.csv: no such table; there are shoes.csv"),
        (["--workers", "0"], "--workers is 0: it must be from 1 to 1024"),
    ],
)
def test_what_is_refused(
    shoes: Path, tmp_path: Path, refused: Refused, options: list[str], message: str
) -> None:
    (shoes / "shoes.csv").write_text("image,x,y,width,height\np/a.png,1,2,3,4\n")
    assert message in refused("data", "ingest", shoes, tmp_path / "set", *options)
    assert [path.name for path in tmp_path.iterdir()] == ["shoes"]


def test_undeclared_columns_are_listed(shoes: Path, tmp_path: Path, refused: Refused) -> None:
    command = ("data", "ingest", shoes, tmp_path / "set")
    assert "may hold boxes: shoes.csv; --format says" in refused(*command)
    message = refused(*command, "--format", "csv")
    assert "its columns are file, left, top, w, h, class, part: say" in message
    assert "--columns image=...,x=...,y=...,width=...,height=..." in message


@pytest.mark.parametrize("command", [["--help"], ["data", "ingest", "--help"]])
def test_help_is_quick(command: list[str]) -> None:
    script = (
        "import sys\nfrom mixnmatch import cli\n"
        "try:\n    cli.main(sys.argv[1:])\nexcept SystemExit:\n"
        "    print({'torch', 'pyarrow', 'numpy', 'PIL', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *command], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("\nset()\n")
    assert done.stdout.startswith("usage: ")


@needs_real
def test_raccoons(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def ingested(objects: str) -> dict[str, Any]:
        out = tmp_path / objects
        text, lines = ran(
            capsys, REAL / "raccoon_voc", out, "--objects", objects, "--workers", "1", "--json"
        )
        assert lines[0] == "Pascal VOC: 60 XML files in annotations"
        summary: dict[str, Any] = json.loads(text)
        return summary

    assert (ingested("largest")["count"], ingested("each")["count"]) == (60, 64)
    refuse = ingested("refuse")
    assert (refuse["count"], len(refuse["rejects"])) == (56, 4)
