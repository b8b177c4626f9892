import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_data import encoded
from PIL import Image

from mixnmatch import cli
from mixnmatch.data.records import Box, Record
from mixnmatch.data.store import Dataset, write_dataset

Refused = Callable[..., str]


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def view(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert cli.main(["data", "view", *map(str, arguments), "--json"]) == 0
    summary: dict[str, Any] = json.loads(capsys.readouterr().out)
    return summary


def test_a_sheet(drawn: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = tmp_path / "sheet.png"
    arguments = ["data", "view", str(drawn.path), "--out", str(sheet), "--count", "5"]
    assert cli.main([*arguments, "--image-size", "32"]) == 0
    assert capsys.readouterr().out == f"{sheet}: 5 of 48 pictures\n"
    assert Image.open(sheet).size[0] > 4 * 3 * 128
    new = tmp_path / "new" / "sheet.jpg"
    assert view(capsys, drawn.path, "--out", new, "--split", "judge")["shown"] == 8
    assert left_in(tmp_path) == ["new", "sheet.png"]


def test_galleries(
    drawn: Dataset, tmp_path: Path, refused: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "g.html"
    assert view(capsys, drawn.path, "--out", page, "--count", 3) == {
        "out": str(page), "form": "page", "shown": 3, "count": 48, "damaged": 0,
    }  # fmt: skip
    assert "<title>set</title>" in page.read_text(encoding="utf-8")
    assert view(capsys, drawn.path, "--out", page)["shown"] == 48, "a file is replaced"
    assert view(capsys, drawn.path, "--out", tmp_path / "folder")["form"] == "folder"
    assert view(capsys, drawn.path, "--out", f"{tmp_path}/g.v2/", "--count", 2)["shown"] == 2
    assert len(list((tmp_path / "folder").rglob("*.jpg"))) == 3 * 48
    taken = refused("data", "view", drawn.path, "--out", tmp_path / "folder")
    assert "exists already and is not an empty folder" in taken
    assert left_in(tmp_path) == ["folder", "g.html", "g.v2"]


def test_what_is_refused(drawn: Dataset, tmp_path: Path, refused: Refused) -> None:
    command = ("data", "view", drawn.path, "--count", "2", "--out")
    wrong = tmp_path / "wrong.png"
    assert "use .png, .html" in refused(*command, tmp_path / "sheet.txt")
    for option, value in (("count", 0), ("count", 1001), ("image-size", 7), ("image-size", 4000)):
        message = refused(*command, wrong, f"--{option}", value)
        assert f"--{option} is {value}: it must be from" in message
    page = refused(*command, tmp_path / "g.html", "--count", 10**20)
    assert f"--count is {10**20}: it must be from 1 to 1000" in page
    assert "--seed is -1" in refused(*command, wrong, "--seed", -1)
    assert "no class 'cat'" in refused(*command, wrong, "--class", "cat")
    assert "no picture with remarks" in refused(*command, wrong, "--odd")
    (tmp_path / "file").write_text("")
    for name in ("a.png", "a.html", "a/"):
        message = refused(*command, f"{tmp_path}/file/{name}")
        assert str(tmp_path / "file") in message
    nowhere = ("data", "view", tmp_path / "nowhere", "--out", wrong)
    assert "no such data set folder" in refused(*nowhere)
    assert left_in(tmp_path) == ["file"]


@pytest.mark.parametrize("name", ["sheet.png", "g.html", "g/"])
def test_a_damaged_picture_is_named(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [
        Record(id=i, source=f"{i}.jpg", image=image, width=40, height=30, box=Box(5, 5, 20, 20))
        for i, image in enumerate([encoded(), encoded()[:80]])
    ]
    write_dataset(records, tmp_path / "set", kind="cub")
    assert cli.main(["data", "view", str(tmp_path / "set"), "--out", f"{tmp_path}/{name}"]) == 0
    captured = capsys.readouterr()
    assert "2 of 2 pictures, 1 of them damaged" in captured.out
    assert "cannot be shown: 1.jpg: " in captured.err


@pytest.mark.parametrize("name", ["sheet.png", "g.html", "g/"])
def test_a_box_that_is_none_is_named(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, box = encoded(), Box(float("nan"), 5, 20, 20)
    bad = Record(id=0, source="\x1b[1m.jpg", image=image, width=40, height=30, box=box)
    write_dataset([bad], tmp_path / "set", kind="cub")
    assert cli.main(["data", "view", str(tmp_path / "set"), "--out", f"{tmp_path}/{name}"]) == 0
    captured = capsys.readouterr()
    assert captured.out.endswith(": 1 of 1 picture, 1 of them damaged\n")
    assert "cannot be shown: �[1m.jpg: box (nan, 5, 20, 20) has no area" in captured.err


@pytest.mark.parametrize("name", ["sheet.png", "g.html", "g/"])
def test_a_damaged_shard_ends_in_one_line(name: str, tmp_path: Path, refused: Refused) -> None:
    image = encoded(200, 200)
    box = Box(5, 5, 20, 20)
    write_dataset(
        [Record(id=0, source="a.jpg", image=image, width=200, height=200, box=box)],
        tmp_path / "set",
        kind="cub",
    )
    shard = tmp_path / "set" / "part-00000.parquet"
    content = shard.read_bytes()
    place = content.index(image) + len(image) // 2
    shard.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    command = ("data", "view", tmp_path / "set", "--out", f"{tmp_path}/{name}")
    assert "damaged or truncated" in refused(*command)
    assert left_in(tmp_path) == ["set"]
