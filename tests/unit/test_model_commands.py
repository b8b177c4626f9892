import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from mixnmatch import cli
from mixnmatch.bundle import load_bundle, save_bundle
from mixnmatch.config import RunConfig
from mixnmatch.data.store import Dataset
from mixnmatch.settings import flatten, override, to_dict
from mixnmatch.training.stage1 import CodeStage

Refused = Callable[..., str]
Capture = pytest.CaptureFixture[str]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def run(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


@pytest.fixture
def settings(tiny: RunConfig, tmp_path: Path) -> Path:
    """The tiny configuration as a file."""
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(to_dict(tiny)))
    return path


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    Image.linear_gradient("L").convert("RGB").resize((50, 40)).save(path)
    return path


@pytest.fixture
def mix(photo: Path, tiny_bundle: Path, tmp_path: Path) -> Callable[..., list[object]]:
    """Arguments of a mix, with some changed; None leaves one out."""

    def arguments(**changes: object) -> list[object]:
        options: dict[str, object] = dict.fromkeys(
            ("background", "pose", "shape", "texture"), photo
        )
        options |= {"model": tiny_bundle, "out": tmp_path / "mix.png", **changes}
        given = {name: value for name, value in options.items() if value is not None}
        return ["mix", *(part for k, v in given.items() for part in (f"--{k}", v))]

    return arguments


# train


def test_a_dry_run_checks_and_writes_nothing(
    tiny_dataset: Dataset, settings: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "run"
    data = tiny_dataset.path
    assert run("train", data, "--out", out, "--config", settings, "--dry-run") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("would train stage both on 64 pictures of ")
    assert "4 + 4 steps" in printed
    assert names(tmp_path) == ["settings.json"]


def test_train_then_go_on(
    tiny_dataset: Dataset, settings: Path, tmp_path: Path, capsys: Capture, refused: Refused
) -> None:
    out, data = tmp_path / "run", tiny_dataset.path
    steps = ("--set", "stage1.steps=2", "--set", "stage2.steps=2")
    train = ("train", data, "--out", out)
    assert run(*train, "--config", settings, *steps, "--device", "cpu") == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(f"trained {out / 'bundle'}: disentanglement_accuracy ")
    assert printed.err == ""
    assert load_bundle(out / "bundle").stages == (1, 2)
    kept = (out / "config.json").read_text()
    assert json.loads(kept)["stage1"]["steps"] == 2

    # Again: its own settings are found, and nothing is left to do but to measure.
    assert run(*train, "--json") == 0
    assert json.loads(capsys.readouterr().out)["disentanglement_accuracy"] >= 0
    # Other settings are refused, and do not take the place of the run's own.
    assert "stage1.lr = 0.0002, not 0.001" in refused(*train, "--set", "stage1.lr=1e-3")
    assert "seed = 0, not 3" in refused(*train, "--set", "seed=3", "--dry-run")
    assert (out / "config.json").read_text() == kept
    assert run(*train, "--set", "stage2.steps=3") == 0
    assert json.loads((out / "config.json").read_text())["stage2"]["steps"] == 3


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("stage1.learning_rate=1", "stage1.learning_rate: did you mean stage1.lr"),
        ("stage1.lr=fast", "stage1.lr is 'fast': it must be of type float"),
        ("stage1.lr", "'stage1.lr' is no setting: write key=value"),
        ("model.image_size=33", "model.image_size is 33: it must be a power of two"),
        ("stage1.batch_size=1000", "too few for batches of 1000"),
        ("evaluation.inception_weights=/nowhere.pth", "/nowhere.pth: no such file"),
    ],
)
def test_settings_that_train_refuses(
    change: str, named: str, tiny_dataset: Dataset, tmp_path: Path, refused: Refused
) -> None:
    out = tmp_path / "run"
    assert named in refused("train", tiny_dataset.path, "--out", out, "--set", change)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("none.json", None),
        ("bad.json", "{"),
        ("list.json", "[]"),
        ("bad.toml", "= 3"),
        ("key.json", '{"modle": {}}'),
        ("key.toml", "[stage1]\nlearning_rate = 1"),
        ("type.toml", "stage1 = 3"),
        ("bytes.json", b"\xff\xfe"),
    ],
)
def test_configuration_files_that_are_refused(
    name: str, text: str | bytes | None, tiny_dataset: Dataset, tmp_path: Path, refused: Refused
) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    message = refused("train", tiny_dataset.path, "--out", tmp_path / "run", "--config", path)
    assert name in message or "stage1" in message or "modle" in message
    assert not (tmp_path / "run").exists()


def test_a_toml_file_is_read(
    tiny: RunConfig, tiny_dataset: Dataset, tmp_path: Path, capsys: Capture
) -> None:
    lines = [f"{key} = {json.dumps(v)}" for key, v in flatten(tiny).items() if v is not None]
    (tmp_path / "tiny.toml").write_text("\n".join(lines))
    options = ("--out", tmp_path / "run", "--config", tmp_path / "tiny.toml", "--dry-run")
    assert run("train", tiny_dataset.path, *options, "--stage", "1") == 0
    assert "stage 1 on 64 pictures" in capsys.readouterr().out


def test_data_devices_and_folders_that_train_refuses(
    tiny_dataset: Dataset, settings: Path, tmp_path: Path, refused: Refused
) -> None:
    data, config = tiny_dataset.path, ("--config", settings)
    assert "nowhere" in refused("train", tmp_path / "nowhere", "--out", tmp_path / "run", *config)
    assert "not a data set" in refused("train", tmp_path, "--out", tmp_path / "run", *config)
    for device in ("tpu9", "cuda:99"):
        options = ("--out", tmp_path / "run", *config, "--device", device)
        assert device in refused("train", data, *options)
    options = ("--out", tmp_path / "run", *config, "--stage", "2")
    assert "stage 2 needs the model of stage 1" in refused("train", data, *options)
    assert "settings.json" in refused("train", data, "--out", settings, *config)


def test_a_damaged_checkpoint_ends_in_one_line(
    tiny_dataset: Dataset, settings: Path, tmp_path: Path, refused: Refused
) -> None:
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "stage1-step00000002.pt").write_bytes(b"PK\x03\x04 torn")
    message = refused("train", tiny_dataset.path, "--out", tmp_path / "run", "--config", settings)
    assert "stage1-step00000002.pt: not a checkpoint of ours, or damaged" in message


def test_failed_and_interrupted_training(
    tiny_dataset: Dataset,
    settings: Path,
    tmp_path: Path,
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train = ("train", tiny_dataset.path, "--out", tmp_path / "run", "--config", settings)

    def diverge(self: CodeStage, batch: object) -> object:
        self.steps_done += 1
        return {"child_d/real": torch.tensor(float("nan"))}

    monkeypatch.setattr(CodeStage, "step", diverge)
    assert "stage 1, step 2: child_d/real = nan" in refused(*train, status=1)

    def interrupt(self: CodeStage, batch: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(CodeStage, "step", interrupt)
    assert "interrupted" in refused(*train, status=130)


# mix


def test_mix_in_both_modes(
    mix: Callable[..., list[object]], photo: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert run(*mix()) == 0
    printed = capsys.readouterr()
    assert printed.out == f"wrote {tmp_path / 'mix.png'} (32x32 px, code mode)\n"
    assert printed.err == ""
    with Image.open(tmp_path / "mix.png") as picture:
        assert (picture.size, picture.mode) == ((32, 32), "RGB")
    assert run(*mix(mode="feature", pose=None, out=tmp_path / "new" / "feature.jpg")) == 0
    assert capsys.readouterr().err == ""
    assert names(tmp_path / "new") == ["feature.jpg"]
    # The pose of another picture is not used in feature mode, and that is said.
    other = shutil.copy(photo, tmp_path / "other.jpg")
    assert run(*mix(mode="feature", pose=other)) == 0
    assert f"--pose {other} is not used" in capsys.readouterr().err


def test_help_says_what_the_pictures_should_show(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        run("mix", "--help")
    assert "object should fill the middle" in " ".join(capsys.readouterr().out.split())


def broken_picture(photo: Path, kind: str) -> Path:
    path = photo.with_name("broken.jpg")
    data = photo.read_bytes()
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        damaged = {"text": b"hello", "empty": b"", "torn": data[: len(data) // 2]}
        path.write_bytes(damaged[kind])
    return path


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "empty", "torn"])
@pytest.mark.parametrize("option", ["background", "texture"])
def test_pictures_that_mix_refuses(
    kind: str,
    option: str,
    mix: Callable[..., list[object]],
    photo: Path,
    tmp_path: Path,
    refused: Refused,
) -> None:
    path = broken_picture(photo, kind)
    assert f"{path}: " in refused(*mix(**{option: path}))
    assert not (tmp_path / "mix.png").exists()
    assert set(names(tmp_path)) <= {"photo.jpg", "broken.jpg"}


def test_models_that_mix_refuses(
    mix: Callable[..., list[object]],
    tiny_bundle: Path,
    stage1_bundle: Path,
    photo: Path,
    tmp_path: Path,
    refused: Refused,
) -> None:
    nowhere = tmp_path / "nowhere"
    assert f"{nowhere}: no such model folder" in refused(*mix(model=nowhere))
    assert f"{photo}: no such model folder" in refused(*mix(model=photo))
    assert "is no model: it has no bundle.json" in refused(*mix(model=tmp_path))
    assert "knows the scheme nope:" in refused(*mix(model="nope:/birds"))
    torn = shutil.copytree(tiny_bundle, tmp_path / "torn")
    (torn / "model.safetensors").write_bytes(b"torn")
    assert "is damaged" in refused(*mix(model=torn))
    assert "feature mode needs stage 2" in refused(*mix(model=stage1_bundle, mode="feature"))
    assert not (tmp_path / "mix.png").exists()


def test_what_else_mix_refuses(
    mix: Callable[..., list[object]], photo: Path, tmp_path: Path, refused: Refused
) -> None:
    assert "--pose is missing" in refused(*mix(pose=None))
    for name in ("mix.txt", "mix", "mix.bufr"):
        assert name in refused(*mix(out=tmp_path / name))
    assert "cannot be written" in refused(*mix(out=photo / "mix.png"))
    assert "device 'tpu9' is unknown" in refused(*mix(device="tpu9"))
    assert names(tmp_path) == ["photo.jpg"]


# evaluate and sheet


def test_evaluate(tiny_bundle: Path, tiny_dataset: Dataset, capsys: Capture) -> None:
    data = tiny_dataset.path
    assert run("evaluate", tiny_bundle, data, "--samples", "9", "--json") == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["evaluation/samples"] == 9
    assert "fid" not in figures
    assert run("evaluate", tiny_bundle, data, "--samples", "9") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(figures)


def test_evaluate_can_leave_out_the_inception_weights_of_a_model(
    tiny_bundle: Path, tiny_dataset: Dataset, tmp_path: Path, capsys: Capture, refused: Refused
) -> None:
    bundle = load_bundle(tiny_bundle)
    config = override(bundle.config, {"evaluation.inception_weights": "/elsewhere/fid.pth"})
    save_bundle(replace(bundle, config=config), tmp_path / "bundle")
    evaluate = ("evaluate", tmp_path / "bundle", tiny_dataset.path)
    assert "/elsewhere/fid.pth: no such file" in refused(*evaluate)
    assert run(*evaluate, "--inception-weights", "none", "--json") == 0
    assert "fid" not in json.loads(capsys.readouterr().out)


def test_what_evaluate_refuses(
    tiny_bundle: Path, tiny_dataset: Dataset, tmp_path: Path, refused: Refused
) -> None:
    data = tiny_dataset.path
    assert "no such model folder" in refused("evaluate", tmp_path / "nowhere", data)
    assert "knows the scheme nope:" in refused("evaluate", "nope:x", data)
    assert "no such data set folder" in refused("evaluate", tiny_bundle, tmp_path / "nowhere")
    few = refused("evaluate", tiny_bundle, data, "--samples", "3")
    assert "evaluation.samples is 3: it must be at least 8" in few
    weights = ("--inception-weights", tmp_path / "none.pth")
    assert "none.pth: no such file" in refused("evaluate", tiny_bundle, data, *weights)
    (tmp_path / "text.pth").write_text("hello")
    weights = ("--inception-weights", tmp_path / "text.pth")
    assert "not the FID Inception weights" in refused("evaluate", tiny_bundle, data, *weights)


def test_sheet(tiny_bundle: Path, tiny_dataset: Dataset, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "sheet.png"
    options = ("--columns", "3", "--out", out)
    assert run("sheet", tiny_bundle, tiny_dataset.path, *options) == 0
    with Image.open(out) as sheet:
        assert capsys.readouterr().out == f"wrote {out} ({sheet.width}x{sheet.height} px)\n"
    assert names(tmp_path) == ["sheet.png"]


def test_what_sheet_refuses(
    tiny_bundle: Path, tiny_dataset: Dataset, tmp_path: Path, refused: Refused
) -> None:
    data, out = tiny_dataset.path, ("--out", tmp_path / "sheet.png")
    assert "no such model folder" in refused("sheet", tmp_path / "nowhere", data, *out)
    assert "not a data set" in refused("sheet", tiny_bundle, tmp_path, *out)
    for columns in ("1", "101"):
        assert "--columns is" in refused("sheet", tiny_bundle, data, *out, "--columns", columns)
    assert "use .png" in refused("sheet", tiny_bundle, data, "--out", tmp_path / "sheet.txt")
    assert names(tmp_path) == []
