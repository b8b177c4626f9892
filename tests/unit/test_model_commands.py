import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw, PngImagePlugin

from mixnmatch import cli
from mixnmatch.animation import Frame, read_frames, save_animation
from mixnmatch.bundle import load_bundle, save_bundle
from mixnmatch.config import RunConfig
from mixnmatch.data.store import Dataset
from mixnmatch.settings import flatten, to_dict
from mixnmatch.sheets import to_picture, to_tensor
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
    assert "stage1.beta1 = 0.5, not 0.3" in refused(*train, "--set", "stage1.beta1=0.3")
    assert "seed = 0, not 3" in refused(*train, "--set", "seed=3", "--dry-run")
    assert (out / "config.json").read_text() == kept
    assert run(*train, "--set", "stage2.steps=3") == 0
    assert json.loads((out / "config.json").read_text())["stage2"]["steps"] == 3


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("stage1.learning_rate=1", "unknown configuration key stage1.learning_rate: did you mean"),
        ("stage1.lr=fast", "stage1.lr is 'fast': it must be of type float"),
        ("stage1.lr", "'stage1.lr' is no setting: write key=value"),
        ("model.image_size=33", "model.image_size is 33: it must be a power of two"),
        ("seed=100000000000000", "seed is 100000000000000: it must be from 0 to 2147483647"),
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

    def diverge(self: CodeStage, batch: object, *, watch: bool) -> object:
        self.steps_done += 1
        return {"child_d/real": torch.tensor(float("nan"))}

    monkeypatch.setattr(CodeStage, "step", diverge)
    assert "stage 1, step 2: child_d/real = nan" in refused(*train, status=1)

    def interrupt(self: CodeStage, batch: object, *, watch: bool) -> object:
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


def test_mix_knows_the_letters_of_the_codes(
    mix: Callable[..., list[object]], photo: Path, tmp_path: Path
) -> None:
    Image.linear_gradient("L").rotate(90).convert("RGB").save(tmp_path / "other.png")
    assert run(*mix(pose=tmp_path / "other.png")) == 0
    named = (tmp_path / "mix.png").read_bytes()
    letters = [{"--background": "--b", "--pose": "--z"}.get(a, a) for a in mix()]
    letters = [{"--shape": "--p", "--texture": "--c"}.get(a, a) for a in letters]
    letters[letters.index("--z") + 1] = tmp_path / "other.png"
    (tmp_path / "mix.png").unlink()
    assert run(*letters) == 0
    assert (tmp_path / "mix.png").read_bytes() == named


# vary, walk, animate, sketch


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Six frames of 40 ms."""
    path = tmp_path / "film.gif"
    ramp = Image.linear_gradient("L").convert("RGB").resize((50, 40))
    save_animation((Frame(ramp.rotate(15 * i), 0.04) for i in range(6)), path)
    return path


@pytest.fixture(scope="module")
def lively_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model whose weights are large enough to paint pictures that differ."""
    bundle = load_bundle(tiny_bundle)
    for encoder in bundle.encoders.children():
        encoder[1][3].weight *= 4
    heads = (bundle.generator.background_image, bundle.generator.child_canvas.image)
    for head in heads:
        head[0].weight *= 20
    return save_bundle(bundle, tmp_path_factory.mktemp("lively") / "bundle")


@pytest.fixture
def use(photo: Path, lively_bundle: Path, tmp_path: Path) -> Callable[..., list[object]]:
    """Arguments of a command on a model and the photograph, with the options to add."""

    def arguments(command: str, *options: object, out: str = "out.png") -> list[object]:
        pictures = {"vary": 1, "walk": 2}.get(command, 0)
        common = ("--model", lively_bundle, "--out", tmp_path / out)
        return [command, *[photo] * pictures, *options, *common]

    return arguments


Use = Callable[..., list[object]]


def test_vary(use: Use, photo: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out.png"
    assert run(*use("vary", "--factor", "texture")) == 0
    size = f"{175 + 4 * 66 - 2}x{34 + 2 * 66 - 2}"
    expected = f"wrote {out} ({size} px, 4 values of texture, code mode)\n"
    assert capsys.readouterr().out == expected
    taken = ("--factor", "shape", "--from", photo, photo, photo, "--mode", "feature")
    assert run(*use("vary", *taken, "--columns", 2, "--pose", photo)) == 0
    with Image.open(out) as sheet:
        assert sheet.size == (175 + 2 * 66 - 2, 34 + 5 * 66 - 2)
    poses = ("--factor", "pose", "--count", 3)
    made = []
    for seed in (1, 1, 2):
        assert run(*use("vary", *poses, "--seed", seed, "--batch-size", 2)) == 0
        made.append(out.read_bytes())
    assert made[0] == made[1] != made[2]
    assert run(*use("vary", *poses, out="out.gif")) == 0
    assert run(*use("vary", *poses, "--animation", "--fps", 4)) == 0
    for name, pace in (("out.gif", 500), ("out.png", 250)):
        with Image.open(tmp_path / name) as moving:
            assert (moving.n_frames, moving.size, moving.info["duration"]) == (3, (32, 32), pace)


def test_a_sheet_of_variation_begins_with_what_is_held(
    use: Use,
    mix: Callable[..., list[object]],
    lively_bundle: Path,
    photo: Path,
    tmp_path: Path,
) -> None:
    Image.new("RGB", (32, 32), "red").save(tmp_path / "red.png")

    def held(*options: object) -> list[bytes]:
        """Pixels of the pictures in the first line of a sheet, at the model's size."""
        assert run(*use("vary", "--factor", "texture", *options)) == 0
        with Image.open(tmp_path / "out.png") as sheet:
            lefts = range(175, sheet.width, 66)
            cells = [sheet.crop((x, 34, x + 64, 98)).resize((32, 32), 0) for x in lefts]
        return [cell.tobytes() for cell in cells if cell.getextrema() != ((255, 255),) * 3]

    source = to_picture(to_tensor(Image.open(photo), 32)[0]).tobytes()
    assert run(*mix(model=lively_bundle)) == 0
    painted = Image.open(tmp_path / "mix.png").tobytes()
    assert held() == [source, painted]
    # The picture of the factor that varies is not held, nor in feature mode that of the pose.
    red = tmp_path / "red.png"
    first = held("--pose", red, "--background", red)
    assert first[:2] == [Image.open(red).tobytes(), source]
    assert len(first) == 3
    assert len(held("--texture", red)) == 2
    assert len(held("--pose", red, "--mode", "feature")) == 2


def test_what_vary_refuses(use: Use, photo: Path, tmp_path: Path, refused: Refused) -> None:
    texture = ("--factor", "texture")
    assert "from 1 to 4, the textures" in refused(*use("vary", *texture, "--count", 5))
    assert "count is 0" in refused(*use("vary", *texture, "--count", 0))
    pose = ("--factor", "pose", "--count", 10**13)
    assert "pose count is 10000000000000: it must be from 1 to 2000" in refused(*use("vary", *pose))
    for seed in (-1, 10**20):
        assert f"--seed is {seed}: it must be" in refused(*use("vary", *texture, "--seed", seed))
    assert "--count is 2" in refused(*use("vary", *texture, "--count", 2, "--from", photo))
    assert "nowhere.png: " in refused(*use("vary", *texture, "--from", tmp_path / "nowhere.png"))
    assert "nowhere.png: " in refused(*use("vary", *texture, "--pose", tmp_path / "nowhere.png"))
    feature = ("--mode", "feature", "--factor")
    assert "pose codes cannot be set" in refused(*use("vary", *feature, "pose", "--from", photo))
    assert "shape codes cannot be set" in refused(*use("vary", *feature, "shape"))
    assert names(tmp_path) == ["photo.jpg"]


def test_walk(use: Use, photo: Path, tmp_path: Path, capsys: Capture) -> None:
    Image.linear_gradient("L").rotate(90).convert("RGB").save(tmp_path / "b.png")
    walk = use("walk", tmp_path / "b.png", "--frames", 5, "--batch-size", 2, out="walk.gif")
    assert run(*walk) == 0
    printed = capsys.readouterr()
    assert printed.out == f"wrote {tmp_path / 'walk.gif'} (32x32 px, 5 frames, code mode)\n"
    assert printed.err == ""
    for name in ("walk.mp4", "walk.webp"):
        options = ("--frames", 5, "--mode", "feature", "--animation", "--factor", "shape")
        assert run(*use("walk", tmp_path / "b.png", *options, out=name)) == 0
        frames = list(read_frames(tmp_path / name))
        assert len(frames) > 1  # equal ones are one in WebP
        assert sum(frame.seconds for frame in frames) == pytest.approx(0.2)
    for name in ("walk.png", "walk.jpg"):
        assert run(*use("walk", "--frames", 5, "--columns", 3, out=name)) == 0
        with Image.open(tmp_path / name) as sheet:
            assert sheet.size == (175 + 3 * 66 - 2, 34 + 2 * 66 - 2)


def test_what_walk_refuses(
    use: Use, tiny_bundle: Path, photo: Path, tmp_path: Path, refused: Refused
) -> None:
    assert "--frames is 1: it must be from 2" in refused(*use("walk", "--frames", 1))
    for option in ("fps", "columns", "batch-size"):
        assert f"--{option} is 0: it must be" in refused(*use("walk", f"--{option}", 0))
    large = refused(*use("walk", "--batch-size", 10**20))
    assert f"--batch-size is {10**20}: it must be from 1 to 10000" in large
    assert "--fps is nan" in refused(*use("walk", "--fps", "nan"))
    one = ("walk", photo, "--model", tiny_bundle, "--out", tmp_path / "a.gif")
    assert "is one picture: a walk needs two or more" in refused(*one)
    feature = ("--mode", "feature", "--factor", "pose")
    assert "pose codes cannot be set" in refused(*use("walk", *feature))
    assert "use .gif, .webp, .png or .mp4" in refused(*use("walk", "--animation", out="a.jpg"))
    assert "use .png" in refused(*use("walk", out="a.txt"))
    assert names(tmp_path) == ["photo.jpg"]


def test_animate(use: Use, photo: Path, film: Path, tmp_path: Path, capsys: Capture) -> None:
    animate = ("animate", film, "--texture", photo)
    for name in ("out.gif", "out.webp", "out.png", "out.mp4"):
        assert run(*use(*animate, out=name)) == 0
        printed = capsys.readouterr()
        expected = f"wrote {tmp_path / name} (32x32 px, 6 frames, 0.24 s, feature mode)\n"
        assert (printed.out, printed.err) == (expected, "")
        assert sum(frame.seconds for frame in read_frames(tmp_path / name)) == pytest.approx(0.24)
    # What it wrote can drive it again; here in code mode, and thinned.
    again = ("animate", tmp_path / "out.mp4", "--texture", photo, "--background", photo)
    assert run(*use(*again, "--mode", "code", "--every", 4)) == 0
    assert "2 frames, 0.24 s, code mode" in capsys.readouterr().out
    assert run(*use(*animate, "--max-frames", 4)) == 0
    printed = capsys.readouterr()
    assert "4 frames, 0.16 s" in printed.out
    left_out = f"{film} goes on after the first 4 frames (0.2 s): that is left out"
    assert left_out in printed.err
    assert run(*use(*animate, "--max-frames", 6)) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "empty", "torn"])
def test_films_that_animate_refuses(
    kind: str, use: Use, photo: Path, tmp_path: Path, refused: Refused
) -> None:
    path = broken_picture(photo, kind)
    assert f"{path}: " in refused(*use("animate", path, "--texture", photo, out="out.gif"))
    assert f"{path}: " in refused(*use("animate", photo, "--texture", path, out="out.gif"))
    assert set(names(tmp_path)) <= {"photo.jpg", "broken.jpg"}


def test_what_else_animate_refuses(
    use: Use, stage1_bundle: Path, photo: Path, film: Path, tmp_path: Path, refused: Refused
) -> None:
    animate = ("animate", film, "--texture", photo)
    assert "--every is 0" in refused(*use(*animate, "--every", 0))
    assert "--max-frames is 0" in refused(*use(*animate, "--max-frames", 0))
    for option in ("--every", "--max-frames"):
        large = refused(*use(*animate, option, 10**20))
        assert f"{option} is {10**20}: it must be from 1 to 1000000" in large
    assert "no animation is written as '.jpg'" in refused(*use(*animate, out="out.jpg"))
    no_stage2 = ("--model", stage1_bundle, "--out", tmp_path / "out.gif")
    assert "feature mode needs stage 2" in refused(*animate, *no_stage2)
    assert names(tmp_path) == ["film.gif", "photo.jpg"]


def test_films_that_read_well_and_cannot_be_used(
    use: Use, photo: Path, tmp_path: Path, refused: Refused
) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("story", "a" * 2 * PngImagePlugin.MAX_TEXT_CHUNK, zip=True)
    Image.new("RGB", (32, 32)).save(tmp_path / "text.png", pnginfo=text)
    animate = ("animate", tmp_path / "text.png", "--texture", photo)
    assert "text.png: corrupt or truncated picture" in refused(*use(*animate, out="out.gif"))
    slow = (Frame(Image.new("RGB", (32, 32), (80 * i, 0, 0)), 400) for i in range(4))
    save_animation(slow, tmp_path / "slow.webp")
    animate = ("animate", tmp_path / "slow.webp", "--texture", photo, "--every", 2)
    for name in ("out.gif", "out.mp4"):
        message = refused(*use(*animate, out=name))
        assert f"{name}: cannot be written (a frame is shown for 800 s: it must be" in message
    assert names(tmp_path) == ["photo.jpg", "slow.webp", "text.png"]


def test_sketch(use: Use, photo: Path, tmp_path: Path, capsys: Capture, refused: Refused) -> None:
    drawing = Image.new("RGBA", (200, 150), (0, 0, 0, 0))
    ImageDraw.Draw(drawing).ellipse((20, 20, 80, 80), outline="black", width=4)
    drawing.save(tmp_path / "drawing.png")
    made = []
    for options in ((), ("--fill",), ("--trim",), ("--fill", "--trim", "--background", photo)):
        assert run(*use("sketch", tmp_path / "drawing.png", "--texture", photo, *options)) == 0
        made.append((tmp_path / "out.png").read_bytes())
    assert len(set(made)) == 4
    out = tmp_path / "out.png"
    assert f"wrote {out} (32x32 px, feature mode)\n" in capsys.readouterr().out
    empty = tmp_path / "empty.png"
    Image.new("L", (30, 30), 255).save(empty)
    sketch = ("sketch", empty, "--texture", photo, "--model", "MODEL", "--out", out)
    assert "MODEL: no such model folder" in refused(*sketch)
    sketch = use("sketch", empty, "--texture", photo, "--trim")
    assert f"{empty}: no lines: they must differ from the paper" in refused(*sketch)


# sheet


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
    assert "--seed is -1: it must be" in refused("sheet", tiny_bundle, data, *out, "--seed", -1)
    assert "use .png" in refused("sheet", tiny_bundle, data, "--out", tmp_path / "sheet.txt")
    assert names(tmp_path) == []
