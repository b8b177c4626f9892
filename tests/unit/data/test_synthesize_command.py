import json
from pathlib import Path

import pytest

from mixnmatch import cli
from mixnmatch.data.drawn.keypoints import KEYPOINT_NAMES
from mixnmatch.data.drawn.scenes import BACKGROUND_NAMES
from mixnmatch.data.drawn.silhouettes import SHAPE_NAMES
from mixnmatch.data.drawn.textures import TEXTURE_COUNT
from mixnmatch.data.store import open_dataset
from mixnmatch.errors import DataError


def test_options_arrive_in_the_data_set(tmp_path: Path) -> None:
    out = tmp_path / "set"
    options = "--count 12 --side 40 --backgrounds 6 --background-texture-correlation 1 --noise 4"
    poses = "--tilt 40,50 --scale 0.5,0.6 --shift 0 --judge-count 4 --workers 1"
    assert cli.main(["data", "synthesize", str(out), *options.split(), *poses.split()]) == 0
    dataset = open_dataset(out)
    assert tuple(dataset.info.parts) == KEYPOINT_NAMES
    assert "noise=4.0" in dataset.info.source
    assert "background_texture_correlation=1.0" in dataset.info.source
    assert dataset.info.command
    for record in dataset:
        assert record.factors is not None
        assert 40 <= abs(record.factors.rotation) <= 50
        assert 0.5 <= record.factors.scale <= 0.6
        assert (record.factors.position_x, record.factors.position_y) == (0.5, 0.5)
        assert len(record.parts) == 10
        if record.split != "judge":
            assert record.factors.background == record.factors.texture


def test_one_is_told_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "set"
    one = "--count 1 --judge-count 0 --side 40 --shapes 1 --textures-per-shape 1 --backgrounds 1"
    command = ["data", "synthesize", str(out), *one.split()]
    assert cli.main([*command, "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert ": 1 picture of 40x40 px would be drawn" in told
    assert "background: 1 category, chance 100.0%" in told
    assert cli.main(command) == 0
    assert ": 1 picture (1 train), 1 class; fingerprint" in capsys.readouterr().out


def test_a_data_set_of_an_older_format_is_replaced(tmp_path: Path) -> None:
    """As ``make demo`` does with its own."""
    out = tmp_path / "set"
    command = ["data", "synthesize", str(out), "--count", "1", "--judge-count", "0"]
    assert cli.main(command) == 0
    told = json.loads((out / "dataset.json").read_text())
    (out / "dataset.json").write_text(json.dumps(told | {"format_version": 1}))
    with pytest.raises(DataError, match="make it again"):
        open_dataset(out)
    assert cli.main([*command, "--overwrite"]) == 0
    assert len(open_dataset(out)) == 1


def test_a_dry_run_tells_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["data", "synthesize", str(tmp_path / "set"), "--count", "1000", "--dry-run"]
    assert cli.main(command) == 0
    told = capsys.readouterr().out
    assert "1500 pictures of 96x96 px would be drawn" in told
    assert "about 800 train and 200 test, exactly 500 judge" in told
    assert "texture: 6 categories, chance 16.7%" in told
    assert "P(background | texture): 0.333 for each, 0 bits" in told
    tie = ["--background-texture-correlation", "0.4"]
    assert cli.main([*command, *tie]) == 0
    told = capsys.readouterr().out
    assert "0.600 for the tied one, 0.200 for each other" in told
    assert "6 of 6 textures share their background" in told
    assert cli.main([*command, *tie, "--backgrounds", "6", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    given = told["background_given_texture"]
    assert (round(given["tied"], 6), round(given["other"], 6), given["sharing"]) == (0.5, 0.1, 0)
    assert told["pictures"] == {"train": 800, "test": 200, "judge": 500}
    assert 1500 * 1000 < told["bytes"] < 1500 * 60000
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--tilt", "0,30", "least tilt is 0.0: it must be from 1 to 90"),
        ("--scale", "0.5,0.4", "most scale is 0.4: it must be from 0.5 to 0.9"),
        ("--shift", "-1", "shift is -1.0: it must be from 0 to 0.45"),
        ("--background-texture-correlation", "2", "correlation is 2.0: it must be from 0 to 1"),
        ("--noise", "inf", "noise is inf: it must be from 0 to 64"),
        ("--backgrounds", "99", "backgrounds is 99: it must be from 1 to 24"),
        ("--workers", "0", "--workers is 0: it must be from 1"),
    ],
)
def test_bad_values_end_in_one_line(
    option: str, value: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["data", "synthesize", str(tmp_path / "x"), option, value]) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert message in line
    assert not list(tmp_path.iterdir())


def test_a_range_needs_two_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("5", "a,b", "1,2,3"):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["data", "synthesize", str(tmp_path / "x"), "--tilt", text])
        assert stopped.value.code == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert f"argument --tilt: {text!r} is not two numbers" in line


def test_the_help_gives_each_option_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["data", "synthesize", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    counts = (len(SHAPE_NAMES), len(BACKGROUND_NAMES), TEXTURE_COUNT)
    assert "There are {} shapes, {} backgrounds and {} textures".format(*counts) in text
    for option in ("count", "side", "shapes", "textures-per-shape", "backgrounds", "seed", "noise"):
        assert f"as in --{option} " in text.replace("- ", "-")
