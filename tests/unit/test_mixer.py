import contextlib
import importlib.metadata
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageDraw
from torch import Tensor

from mixnmatch.animation import Frame
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
    wrapped,
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


# Varied, walked and animated


def test_a_batch_of_one_goes_with_all_others(mixer: Mixer) -> None:
    one = {**SOURCES, "texture": SOURCES["texture"][:1], "pose": SOURCES["pose"][:1]}
    expanded = {name: images.expand(2, -1, -1, -1) for name, images in one.items()}
    for mode in ("code", "feature"):
        mixed = mixer.mix_tensors(**one, mode=mode)
        expected = mixer.mix_tensors(**expanded, mode=mode)
        torch.testing.assert_close(mixed, expected, rtol=0, atol=1e-5)


def test_results_do_not_depend_on_the_batch_size(tiny_bundle: Path) -> None:
    made = []
    many = {name: pictures(i, count=5) for i, name in enumerate(FACTORS)}
    one = {name: images[:1] for name, images in many.items()}
    for batch_size in (1, 2, 32):
        mixer = Mixer.from_pretrained(tiny_bundle, batch_size=batch_size)
        results = [*mixer.encode(many["pose"]), mixer.shape_feature(many["shape"])]
        results += [mixer.mix_tensors(**many, mode=mode) for mode in ("code", "feature")]
        held = mixer.recipe(**one)
        results += [mixer.vary(held, "pose", count=5, seed=2), mixer.vary(held, "texture")]
        results.append(mixer.vary(held, "shape", images=many["shape"]))
        batches = list(mixer.walk(mixer.recipe(**many, mode="feature"), 7))
        assert max(map(len, batches)) <= batch_size
        made.append([*results, torch.cat(batches)])
    for other in made[1:]:
        for first, second in zip(made[0], other, strict=True):
            torch.testing.assert_close(first, second, rtol=0, atol=1e-5)
    with pytest.raises(InputError, match="batch size is 0: it must be at least 1"):
        Mixer.from_pretrained(tiny_bundle, batch_size=0)


@pytest.mark.parametrize("factor", FACTORS)
def test_a_varied_factor_leaves_the_layers_of_the_others(
    factor: Any, mixer: Mixer, painted: list[Layers]
) -> None:
    held = mixer.recipe(**{name: images[:1] for name, images in SOURCES.items()})
    mixer.paint(held)
    varied = mixer.vary(held, factor, count=2, seed=5)
    before, after = painted
    assert varied.shape == (2, 3, 32, 32)
    assert (varied[0] - varied[1]).abs().max() > 1e-3
    for name in Layers._fields:
        old, new = getattr(before, name).expand_as(getattr(after, name)), getattr(after, name)
        same = (old - new).abs().max() < 1e-5
        # A pose code alone is not the background's noise.
        assert same == (name not in REACHED["code"][factor]), name


def test_a_factor_is_taken_from_pictures_as_a_mix_takes_it(mixer: Mixer) -> None:
    one = {name: images[:1] for name, images in SOURCES.items()}
    others = pictures(7, count=3)
    for mode in ("code", "feature"):
        held = mixer.recipe(**one, mode=mode)
        for factor in FACTORS:
            if (mode, factor) == ("feature", "pose"):
                with pytest.raises(InputError, match="pose codes cannot be set in feature mode"):
                    mixer.vary(held, factor, images=others)
                continue
            varied = mixer.vary(held, factor, images=others)
            expected = mixer.mix_tensors(**{**one, factor: others}, mode=mode)
            torch.testing.assert_close(varied, expected, rtol=0, atol=1e-5)


def test_varied_codes_by_category_and_seed(mixer: Mixer) -> None:
    held = mixer.recipe(**{name: images[:1] for name, images in SOURCES.items()})
    assert [len(mixer.vary(held, f)) for f in FACTORS] == [4, 10, 2, 4]
    third = held.with_code("texture", torch.eye(4)[2:3])
    torch.testing.assert_close(mixer.vary(held, "texture")[2:3], mixer.paint(third))
    first = mixer.vary(held, "pose", count=3, seed=1)
    assert torch.equal(first, mixer.vary(held, "pose", count=3, seed=1))
    assert not torch.equal(first, mixer.vary(held, "pose", count=3, seed=2))
    with pytest.raises(InputError, match="from 1 to 4, the textures of this model"):
        mixer.vary(held, "texture", count=5)


@pytest.mark.parametrize("mode", ["code", "feature"])
@pytest.mark.parametrize("factor", [None, "background", "shape", "texture"])
def test_a_walk_begins_and_ends_with_mixes(factor: Any, mode: Any, mixer: Mixer) -> None:
    ends = pictures(3)
    everywhere = dict.fromkeys(FACTORS, ends)
    walked = torch.cat(list(mixer.walk(mixer.recipe(**everywhere, mode=mode), 5, factor=factor)))
    assert walked.shape == (5, 3, 32, 32)
    first = dict.fromkeys(FACTORS, ends[:1])
    last = dict.fromkeys(FACTORS, ends[1:]) if factor is None else {**first, factor: ends[1:]}
    for frame, sources in ((walked[:1], first), (walked[-1:], last)):
        expected = mixer.mix_tensors(**sources, mode=mode)
        torch.testing.assert_close(frame, expected, rtol=0, atol=1e-5)
    assert (walked[2] - walked[0]).abs().max() > 1e-4


def test_walks_that_are_none(mixer: Mixer) -> None:
    one, two = (mixer.recipe(**dict.fromkeys(FACTORS, pictures(0, count=n))) for n in (1, 2))
    with pytest.raises(InputError, match="a walk of 5 frames along 1 pictures"):
        mixer.walk(one, 5)
    with pytest.raises(InputError, match="a walk of 1 frames along 2 pictures"):
        mixer.walk(two, 1)


@pytest.mark.parametrize("mode", ["code", "feature"])
def test_each_frame_is_a_mix_with_that_frame(mode: Any, tiny_bundle: Path) -> None:
    mixer = Mixer.from_pretrained(tiny_bundle, batch_size=2)
    background, texture = pictures(0, count=1), pictures(1, count=1)
    driving = pictures(2, count=5)
    taken = []

    def film() -> Iterator[Frame]:
        for i, image in enumerate(driving):
            taken.append(i)
            yield Frame(to_picture(image), 0.1 * (i + 1))

    frames = mixer.animate(film(), background=background, texture=texture, mode=mode)
    animated = [next(frames)]
    assert taken == [0, 1]  # no more than a batch is held
    animated += frames
    assert [frame.seconds for frame in animated] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    for image, frame in zip(driving, animated, strict=True):
        seen = to_tensor(to_picture(image), 32)
        mixed = mixer.mix_tensors(
            background=background, pose=seen, shape=seen, texture=texture, mode=mode
        )
        difference = np.abs(np.asarray(to_picture(mixed[0]), int) - np.asarray(frame.picture, int))
        assert difference.max() <= 1


def test_drawings_are_read_as_pictures_are(mixer: Mixer, tmp_path: Path) -> None:
    path = tmp_path / "drawing.png"
    drawing = Image.new("RGBA", (400, 300), (0, 0, 0, 0))
    ImageDraw.Draw(drawing).ellipse((50, 50, 150, 150), outline="black", width=6)
    drawing.save(path)
    plain = mixer.read_drawing(path)
    assert torch.equal(plain, mixer.read(path))
    assert plain[0, :, 0, -1].tolist() == [1, 1, 1]
    solid = mixer.read_drawing(path, fill=True, trim=True)
    assert solid.shape == (1, 3, 32, 32)
    assert solid[0, 0, 16, 16] == pytest.approx(0, abs=0.02)
    # Twice the side of a square of three, and so much of its middle row.
    assert int((solid[0, 0, 16] < 0.9).sum()) in (21, 22, 23)
    Image.new("L", (40, 40), 255).save(path)
    for wish in ("fill", "trim"):
        with pytest.raises(DataError, match=f"^{path}: "):
            mixer.read_drawing(path, **{wish: True})


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
    wide = labelled(sheet, ["first", "second"], title="A title wider than the sheet below it")
    assert wide.width > sheet.width + 175
    assert wide.crop((wide.width - 8, 0, *wide.size)).getextrema() == ((255, 255),) * 3


def test_a_long_row_is_broken_into_lines() -> None:
    row = torch.linspace(-1, 1, 5)[:, None, None, None].expand(-1, 3, 32, 32)
    sheet = wrapped(row, columns=2, name="frame", title="Title")
    assert sheet.size == (175 + 2 * 66 - 2, 34 + 3 * 66 - 2)
    assert [sheet.getpixel((180, 40 + 66 * line))[0] for line in range(3)] == [0, 128, 255]
    double = wrapped(row, columns=2, name="frame", title="Title", above=("from", -row))
    assert double.height == 34 + 6 * 66 - 2
    assert [double.getpixel((180, 40 + 66 * line))[0] for line in range(2)] == [255, 0]


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
