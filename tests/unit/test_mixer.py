import contextlib
import importlib.metadata
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from torch import Tensor

from mixnmatch.bundle import ModelBundle, load_bundle
from mixnmatch.codes import Codes
from mixnmatch.contact_sheet import contact_sheet
from mixnmatch.data.pictures import decode_picture
from mixnmatch.data.store import Dataset
from mixnmatch.errors import DataError, InputError, ModelError
from mixnmatch.mixer import Mixer, find_model
from mixnmatch.networks import Layers
from mixnmatch.sheets import (
    check_picture_name,
    grid,
    labelled,
    save_picture,
    to_picture,
    to_tensor,
    training_sheet,
)

FACTORS = ("background", "pose", "shape", "texture")


@pytest.fixture
def mixer(tiny_bundle: Path) -> Mixer:
    """An untrained model whose weights are large enough to tell pictures apart."""
    bundle = load_bundle(tiny_bundle)
    for encoder in bundle.encoders.children():
        encoder[1][3].weight *= 4
    return Mixer(bundle)


def pictures(seed: int, count: int = 2) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(count, 3, 32, 32, generator=random) - 1


SOURCES = {name: pictures(i) for i, name in enumerate(FACTORS)}


@pytest.fixture
def painted(mixer: Mixer, monkeypatch: pytest.MonkeyPatch) -> list[Layers]:
    """All layers of the mixes that the mixer makes."""
    layers: list[Layers] = []
    paint = mixer.bundle.generator.paint_object

    def spy(*arguments: Tensor) -> Layers:
        layers.append(paint(*arguments))
        return layers[-1]

    monkeypatch.setattr(mixer.bundle.generator, "paint_object", spy)
    return layers


# Which layers each source reaches, in code mode and in feature mode.
CHILD = {"child_foreground", "child_mask", "child_image"}
PARENT = CHILD | {"parent_foreground", "parent_mask", "parent_image", "shape_feature"}
REACHED = {
    "code": {
        "background": {"background", "parent_image", "child_image"},
        "pose": PARENT,
        "shape": PARENT,
        "texture": CHILD,
    },
    "feature": {
        "background": {"background", "parent_image", "child_image"},
        "pose": set(),
        "shape": PARENT,
        "texture": CHILD,
    },
}


@pytest.mark.parametrize("mode", ["code", "feature"])
@pytest.mark.parametrize("factor", FACTORS)
def test_each_source_reaches_its_layers_and_no_others(
    factor: str, mode: Any, mixer: Mixer, painted: list[Layers]
) -> None:
    mixed = mixer.mix_tensors(**SOURCES, mode=mode)
    changed = mixer.mix_tensors(**{**SOURCES, factor: pictures(99)}, mode=mode)
    assert torch.equal(mixed, painted[0].child_image)
    assert mixed.shape == (2, 3, 32, 32)
    assert not mixed.requires_grad
    before, after = painted
    differs = {n for n in Layers._fields if not torch.equal(getattr(before, n), getattr(after, n))}
    assert differs == REACHED[mode][factor]
    assert torch.equal(mixed, changed) == (not REACHED[mode][factor])


def test_a_mix_of_one_picture_is_its_reconstruction(mixer: Mixer) -> None:
    image = pictures(5)
    codes = mixer.encode(image)
    assert isinstance(codes, Codes)
    assert not codes.z.requires_grad
    again = mixer.bundle.generator(codes).child_image
    mixed = mixer.mix_tensors(background=image, pose=image, shape=image, texture=image)
    torch.testing.assert_close(mixed, again, rtol=0, atol=1e-6)


def test_feature_mode_paints_the_extracted_feature(mixer: Mixer, painted: list[Layers]) -> None:
    mixer.mix_tensors(**SOURCES, mode="feature")
    assert torch.equal(painted[0].shape_feature, mixer.shape_feature(SOURCES["shape"]))


def test_feature_mode_needs_stage_2(stage1_bundle: Path) -> None:
    mixer = Mixer.from_pretrained(stage1_bundle)
    mixer.mix_tensors(**SOURCES)
    for attempt in (
        lambda: mixer.mix_tensors(**SOURCES, mode="feature"),
        lambda: mixer.shape_feature(SOURCES["shape"]),
    ):
        with pytest.raises(ModelError, match="no shape extractor: feature mode needs stage 2"):
            attempt()


def test_files_are_mixed_as_tensors_are(mixer: Mixer, tmp_path: Path) -> None:
    paths = {}
    for name, colour in zip(FACTORS, ("red", "green", "blue", "grey"), strict=True):
        paths[name] = tmp_path / f"{name}.png"
        Image.linear_gradient("L").convert("RGB").resize((48, 40)).save(paths[name])
        picture = Image.open(paths[name])
        picture.paste(colour, (10, 10, 30, 30))
        picture.save(paths[name])
    mixed = mixer.mix(**paths, mode="code")
    tensors = {name: mixer.read(path) for name, path in paths.items()}
    assert mixed.size == (32, 32)
    assert mixed.tobytes() == to_picture(mixer.mix_tensors(**tensors)[0]).tobytes()
    feature = mixer.mix(**{**paths, "pose": None}, mode="feature")
    expected = mixer.mix_tensors(**tensors, mode="feature")
    assert feature.tobytes() == to_picture(expected[0]).tobytes()


def test_photographs_are_read_upright(mixer: Mixer, tmp_path: Path) -> None:
    upright = Image.new("RGB", (32, 32), "red")
    upright.paste("blue", (0, 0, 32, 8))
    upright.save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned a quarter clockwise
    stored = upright.transpose(Image.Transpose.ROTATE_90)
    expected = mixer.read(tmp_path / "upright.png")
    for form in ("png", "tiff", "jpg"):
        path = tmp_path / f"stored.{form}"
        stored.save(
            path, exif=exif, **({"quality": 100, "subsampling": 0} if form == "jpg" else {})
        )
        assert (mixer.read(path) - expected).abs().max() < 0.1, form
        # Boxes are in stored pixels, so that data sets must not be turned.
        if form != "tiff":  # Pillow itself turns these
            picture = decode_picture(path.read_bytes(), "x")
            assert picture.getpixel((2, 16))[2] > 200


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("form", ["jpg", "png", "webp", "tiff"])
def test_damaged_exif_blocks_do_no_harm(form: str, mixer: Mixer, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    exif[ExifTags.Base.Make] = "maker"
    exif[ExifTags.Base.XResolution] = 72.0
    block = exif.tobytes()
    path = tmp_path / f"a.{form}"
    picture = Image.linear_gradient("L").convert("RGB").resize((40, 40))
    for i in range(40):
        damaged = np.frombuffer(block, dtype=np.uint8).copy()
        places = rng.integers(8, len(damaged), size=rng.integers(1, 12))
        damaged[places] = rng.integers(256, size=len(places))
        data = damaged.tobytes()[: None if i % 2 else rng.integers(8, len(block))]
        if form == "tiff":
            # Its EXIF is its own directory, so what is damaged is the picture.
            picture.save(path, exif=exif)
            whole = np.frombuffer(path.read_bytes(), dtype=np.uint8).copy()
            whole[-places] = damaged[places]
            path.write_bytes(whole.tobytes())
            with contextlib.suppress(DataError):
                mixer.read(path)
        else:
            picture.save(path, exif=data)
            assert mixer.read(path).shape == (1, 3, 32, 32)


def test_an_orientation_is_used_though_the_rest_is_damaged(mixer: Mixer, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    picture = Image.linear_gradient("L").convert("RGB").resize((32, 32))
    picture.save(tmp_path / "plain.png")
    # One entry more is promised than there is.
    block = bytearray(exif.tobytes())
    assert block[6:8] in (b"MM", b"II")
    block[14 + (block[6:8] == b"MM")] = 2
    picture.save(tmp_path / "turned.png", exif=bytes(block))
    with warnings.catch_warnings(action="ignore"):
        turned = mixer.read(tmp_path / "turned.png")
    assert torch.equal(turned, mixer.read(tmp_path / "plain.png").flip(2, 3))


@pytest.mark.parametrize("content", [None, b"", b"hello", b"\x89PNG\r\n\x1a\n"])
def test_files_that_are_no_pictures(content: bytes | None, mixer: Mixer, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        mixer.read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError):
        mixer.read(tmp_path)


def test_models_by_path_and_by_scheme(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_model(tiny_bundle) == find_model(str(tiny_bundle)) == tiny_bundle
    with pytest.raises(ModelError, match="nowhere: no such model folder"):
        find_model(tmp_path / "nowhere")
    asked = []

    def fetch(source: str) -> Path:
        asked.append(source)
        return tiny_bundle

    class Group(list[Any]):
        def select(self, name: str) -> "Group":
            return Group(entry for entry in self if entry.name == name)

    entry = SimpleNamespace(name="test", load=lambda: fetch)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: Group([entry]))
    assert find_model("test:/birds@champion") == tiny_bundle
    assert asked == ["test:/birds@champion"]
    with pytest.raises(ModelError, match=r"knows the scheme other: \(known: test:\)"):
        find_model("other:/birds")
    colon = tmp_path / "a:b"
    colon.mkdir()
    assert find_model(colon) == colon


# Pictures and sheets


def test_tensors_and_pictures() -> None:
    image = pictures(3, count=1)[0]
    picture = to_picture(image)
    assert (picture.mode, picture.size) == ("RGB", (32, 32))
    assert (to_tensor(picture, 32)[0] - image).abs().max() <= 1 / 127.5
    extremes = to_picture(torch.tensor([[[-2.0, -1.0, 1.0, 3.0]]]))
    assert [extremes.getpixel((x, 0)) for x in range(4)] == [(0, 0, 0)] * 2 + [(255, 255, 255)] * 2
    wide = Image.new("RGB", (60, 20), "black")
    wide.paste("white", (20, 0, 40, 20))
    assert (to_tensor(wide, 32)[..., 2:-2] > 0.99).all()


def test_a_grid_holds_its_pictures() -> None:
    row = torch.ones(3, 3, 4, 4) * torch.tensor([-1.0, 0.0, 1.0])[:, None, None, None]
    sheet = grid([row, row[:2, :1]], zoom=2)
    assert sheet.size == (3 * 10 - 2, 2 * 10 - 2)
    assert [sheet.getpixel((x, 15))[0] for x in (0, 10, 20)] == [0, 128, 255]
    framed = labelled(sheet, ["first", "second"], title="Title", margin=60)
    assert framed.size == (sheet.width + 60, sheet.height + 34)
    assert framed.crop((60, 34, *framed.size)).tobytes() == sheet.tobytes()
    assert framed.crop((0, 34, 60, framed.height)).getextrema()[0][0] < 100


def test_a_training_sheet_shows_feature_mode_after_stage_2(
    tiny_bundle: Path, stage1_bundle: Path
) -> None:
    heights = []
    for path in (stage1_bundle, tiny_bundle):
        bundle: ModelBundle = load_bundle(path)
        codes = bundle.encoders(pictures(1))
        heights.append(training_sheet(bundle, pictures(0), codes).height)
    assert heights[1] - heights[0] == 64 + 2


def test_a_contact_sheet(
    tiny_bundle: Path, stage1_bundle: Path, tiny_dataset: Dataset, tiny: Any
) -> None:
    sheets = {}
    for path in (tiny_bundle, stage1_bundle):
        mixer = Mixer.from_pretrained(path)
        sheets[path] = contact_sheet(mixer, tiny_dataset, columns=3)
        again = contact_sheet(mixer, tiny_dataset, columns=3)
        assert sheets[path].tobytes() == again.tobytes()
        other = contact_sheet(mixer, tiny_dataset, columns=3, seed=1)
        assert sheets[path].tobytes() != other.tobytes()
    # Feature mode is a row of its own.
    assert sheets[tiny_bundle].height - sheets[stage1_bundle].height == 64 + 2


def test_names_that_no_picture_can_have() -> None:
    for name in ("a.png", "a.JPG", "b/c.webp"):
        check_picture_name(Path(name))
    for name in ("a", "a.txt", "a.png.zip", ".png", "a."):
        with pytest.raises(InputError, match=r"no picture format is written as .* use \.png"):
            check_picture_name(Path(name))


@pytest.mark.filterwarnings("ignore:IM image format:DeprecationWarning")
def test_every_name_that_is_accepted_can_be_written_or_is_refused(tmp_path: Path) -> None:
    Image.init()
    picture = Image.new("RGB", (32, 32), "red")
    for suffix in sorted(Image.registered_extensions()):
        path = tmp_path / f"mix{suffix}"
        try:
            check_picture_name(path)
            save_picture(picture, path)
        except InputError as error:
            message = str(error)
            assert (message.startswith(f"{path}: "), "\n" in message) == (True, False)
        else:
            path.unlink()
        assert list(tmp_path.iterdir()) == [], suffix


def test_a_picture_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    picture = Image.new("RGB", (4, 4))
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "folder.png", tmp_path / "file" / "a.png"):
        with pytest.raises(InputError, match="cannot be written"):
            save_picture(picture, path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.png"]
    save_picture(picture, tmp_path / "new" / "a.png")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.png"]
