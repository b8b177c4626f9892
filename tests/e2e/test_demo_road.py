"""The road of `make demo` with everything as small as it goes: data, sweep, promotion, pictures."""

import json
import runpy
from pathlib import Path

import pytest
from PIL import Image

from mixnmatch import cli
from mixnmatch_platform import cli as platform_cli
from mixnmatch_platform.experiment import main

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SMALLEST = {
    "stage1.steps": 4,
    "stage2.steps": 2,
    "stage1.batch_size": 4,
    "stage2.batch_size": 4,
    "model.generator_width": 8,
    "model.discriminator_width": 8,
    "evaluation.samples": 16,
    "evaluation.classifier_steps": 5,
    "checkpoint_every_steps": 2,
}
pytestmark = pytest.mark.e2e


@pytest.mark.usefixtures("ray_cluster")
def test_from_nothing_to_a_mixed_picture(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    draw = ["data", "synthesize", str(data), "--count", "60", "--judge-count", "30", "--side", "48"]
    assert cli.main(draw) == 0

    demo = runpy.run_path(str(EXPERIMENTS / "sweep_demo.py"))["SWEEP"]
    capsys.readouterr()
    changes = [f"--set={key}={value}" for key, value in SMALLEST.items()]
    where = ["--data", str(data), "--home", str(home), "--trials", "2", "--refit-steps", "6"]
    assert main(demo, [*where, *changes, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["finished"] == 2
    assert result["refit_value"] is not None

    metric = ["--metric", "disentanglement_accuracy", "--model", "demo"]
    assert platform_cli.main(["promote", "--experiment", "demo", *metric, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["candidates"] == 3

    sheet = tmp_path / "sheet.png"
    model = "models:/demo@champion"
    assert cli.main(["sheet", model, str(data), "--columns", "4", "--out", str(sheet)]) == 0
    with Image.open(sheet) as picture:
        assert picture.width > 4 * 64

    assert cli.main(["data", "view", str(data), "--out", str(tmp_path / "data.png")]) == 0
    sources = [f"--{name}={sheet}" for name in ("background", "pose", "shape", "texture")]
    mixed = tmp_path / "mix.png"
    assert cli.main(["mix", *sources, "--model", model, "--out", str(mixed)]) == 0
    assert mixed.is_file()

    capsys.readouterr()
    assert platform_cli.main(["champion", "demo", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["chance/accuracy/shape"] == pytest.approx(1 / 3, abs=0.1)


@pytest.mark.parametrize("name", ["sweep_demo", "sweep_cub"])
def test_experiments_say_what_they_would_do(
    name: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = runpy.run_path(str(EXPERIMENTS / f"{name}.py"))["SWEEP"]
    assert main(sweep, ["--dry-run"]) == 0
    said = capsys.readouterr().out
    assert f"{sweep.trials} trials" in said
    assert "a trial takes" in said
    assert str(home) in said
    assert len((EXPERIMENTS / f"{name}.py").read_text().splitlines()) < 80
