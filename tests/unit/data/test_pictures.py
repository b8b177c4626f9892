import contextlib
import io
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from made_data import encoded
from PIL import ExifTags, Image

from mixnmatch.data import pictures
from mixnmatch.data.pictures import (
    decode_picture,
    decode_upright,
    encode_png,
    read_upright,
    to_rgb,
)
from mixnmatch.errors import DataError


@pytest.mark.parametrize(
    ("mode", "form"),
    [("RGB", "JPEG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("P", "PNG"), ("1", "PNG"), ("L", "GIF")],
)
def test_every_mode_becomes_rgb(mode: str, form: str) -> None:
    image = decode_picture(encoded(mode=mode, form=form), "x")
    assert (image.mode, image.size) == ("RGB", (40, 30))


def test_sixteen_bit_greys_keep_their_range() -> None:
    greys = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    pixels = np.asarray(decode_picture(encode_png(Image.fromarray(greys)), "x"))
    assert np.array_equal(pixels[..., 0].ravel(), np.arange(256))


def test_transparent_parts_become_white() -> None:
    data = encode_png(Image.new("RGBA", (4, 4), (0, 0, 0, 0)))
    assert decode_picture(data, "x").getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_truncated_pictures_are_refused_by_name(form: str, share: float) -> None:
    data = encoded(200, 150, form=form)
    with pytest.raises(DataError, match=r"birds/x\.jpg: .*pictur"):
        decode_picture(data[: int(share * len(data))], "birds/x.jpg")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_damage_never_escapes_as_another_error(form: str) -> None:
    rng = np.random.default_rng(0)
    whole = np.frombuffer(encoded(form=form), dtype=np.uint8)
    for _ in range(60):
        damaged = whole.copy()
        places = rng.integers(len(damaged), size=rng.integers(1, 20))
        damaged[places] = rng.integers(256, size=len(places))
        with contextlib.suppress(DataError):
            decode_picture(damaged.tobytes(), "x")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("pixels", [100, 1000])
def test_pictures_beyond_pillows_limit_are_refused(
    monkeypatch: pytest.MonkeyPatch, pixels: int
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pixels)
    with pytest.raises(DataError, match=r"^huge\.png: "):
        decode_picture(encoded(40, 30, form="PNG"), "huge.png")


def test_png_keeps_every_pixel() -> None:
    image = Image.effect_noise((9, 7), 80).convert("RGB")
    assert Image.open(io.BytesIO(encode_png(image))).tobytes() == image.tobytes()


# Of all modes


def test_wide_integers_and_floats_become_greys() -> None:
    integers = np.array([[-5, 0, 128 << 8, 65535, 1 << 20]], dtype=np.int32)
    assert np.asarray(to_rgb(Image.fromarray(integers)))[0, :, 0].tolist() == [0, 0, 128, 255, 255]
    unit = np.array([[-1, 0, 0.5, 1, np.nan]], dtype=np.float32)
    assert np.asarray(to_rgb(Image.fromarray(unit)))[0, :, 0].tolist() == [0, 0, 127, 255, 0]
    byte = np.array([[-1, 0, 127, 255, 300]], dtype=np.float32)
    assert np.asarray(to_rgb(Image.fromarray(byte)))[0, :, 0].tolist() == [0, 0, 127, 255, 255]


@pytest.mark.parametrize("mode", ["YCbCr", "LAB", "HSV", "CMYK", "RGBX", "P", "L", "1"])
def test_colour_spaces_keep_white_and_black(mode: str) -> None:
    picture = Image.new("RGB", (8, 4), "white")
    picture.paste("black", (4, 0, 8, 4))
    if mode == "LAB":
        neutral = Image.new("L", picture.size, 128)
        converted = Image.merge("LAB", (picture.convert("L"), neutral, neutral))
    else:
        converted = picture.convert(mode)
    assert np.abs(np.asarray(to_rgb(converted), int) - np.asarray(picture, int)).max() <= 1


@pytest.mark.parametrize("mode", ["LA", "RGBA", "PA", "P", "RGB", "L"])
def test_transparency_of_any_kind_becomes_white(mode: str) -> None:
    clear = Image.new("RGBA", (8, 4), (0, 0, 0, 0))
    if mode in ("P", "RGB", "L"):
        picture = Image.new(mode, (8, 4), 0)
        picture.info["transparency"] = (0, 0, 0) if mode == "RGB" else 0
    else:
        picture = clear.convert(mode)
    assert to_rgb(picture).getpixel((1, 1)) == (255, 255, 255)


# Read to be made small


@pytest.mark.parametrize(
    ("mode", "form"),
    [
        *(("RGB", form) for form in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")),
        *((mode, "PNG") for mode in ("1", "L", "LA", "P", "RGBA", "I;16")),
        *((mode, "TIFF") for mode in ("CMYK", "YCbCr", "LAB", "F", "I")),
        *((mode, "JPEG") for mode in ("L", "CMYK")),
    ],
)
def test_large_pictures_are_reduced_to_what_they_show(mode: str, form: str, tmp_path: Path) -> None:
    ramp = Image.linear_gradient("L").resize((900, 600))
    if mode in ("LAB", "I;16", "I", "F"):
        scale = {"LAB": 1, "I;16": 257, "I": 257, "F": 1}[mode]
        kind = {"LAB": np.uint8, "I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
        values = np.asarray(ramp).astype(kind) * kind(scale)
        neutral = Image.new("L", ramp.size, 128)
        picture = (
            Image.merge("LAB", (ramp, neutral, neutral))
            if mode == "LAB"
            else Image.fromarray(values)
        )
    else:
        picture = ramp.convert(mode)
    path = tmp_path / "a"
    picture.save(path, form)
    read = read_upright(path, 8)
    whole = decode_picture(path.read_bytes(), "x").resize(read.size, Image.Resampling.BOX)
    assert read.mode == "RGB"
    assert 64 <= min(read.size) < 128
    assert decode_upright(path.read_bytes(), "a", 8).tobytes() == read.tobytes()
    assert np.abs(np.asarray(read, int) - np.asarray(whole, int)).mean() < 2.5


def test_small_pictures_are_read_as_they_are(tmp_path: Path) -> None:
    for size in ((1, 1), (1, 400), (400, 1), (190, 90)):
        path = tmp_path / "a.png"
        Image.effect_noise(size, 90).save(path)
        assert read_upright(path, 32).tobytes() == decode_picture(path.read_bytes(), "x").tobytes()


def test_reduced_pictures_are_upright_too(tmp_path: Path) -> None:
    upright = Image.new("RGB", (600, 400), "red")
    upright.paste("blue", (0, 0, 600, 100))
    exif = Image.Exif()
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        6: Image.Transpose.ROTATE_90,
        8: Image.Transpose.ROTATE_270,
    }
    for form in ("JPEG", "PNG", "TIFF", "WEBP"):
        for orientation, stored in turns.items():
            exif[ExifTags.Base.Orientation] = orientation
            upright.transpose(stored).save(tmp_path / "a", form, exif=exif)
            read = read_upright(tmp_path / "a", 8)
            assert 400 > read.width > read.height
            assert read.getpixel((read.width // 2, 2))[2] > 200
            assert read.getpixel((read.width // 2, read.height - 2))[0] > 200


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_large_jpegs_are_decoded_small_and_others_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50_000)
    picture = Image.linear_gradient("L").resize((600, 500)).convert("RGB")
    for name in ("baseline.jpg", "progressive.jpg", "a.png", "a.tiff"):
        picture.save(tmp_path / name, progressive=name == "progressive.jpg")
    assert read_upright(tmp_path / "baseline.jpg", 8).size == (150, 125)
    # Nothing is saved where all pixels are needed.
    for name, side in (("baseline.jpg", 100), ("progressive.jpg", 8)):
        with pytest.raises(DataError, match=rf"{name}: 600x500 pixels: at most 50000 are accepted"):
            read_upright(tmp_path / name, side)
    for name in ("a.png", "a.tiff"):
        with pytest.raises(DataError, match=rf"{name}: more than 100000 pixels: at most 50000"):
            read_upright(tmp_path / name, 32)
    monkeypatch.setattr(pictures, "REDUCED_JPEG_PIXELS", 200_000)
    with pytest.raises(DataError, match="600x500 pixels: at most 200000 are accepted, make it sm"):
        read_upright(tmp_path / "baseline.jpg", 8)


def test_a_header_that_promises_too_much_is_refused_undecoded(tmp_path: Path) -> None:
    data = bytearray(encode_png(Image.new("L", (1, 1))))
    for width, height, message in (
        (20_000, 20_000, "more than 178956970 pixels: at most 89478485 are accepted"),
        (10_000, 10_000, "10000x10000 pixels: at most 89478485 are accepted"),
        (1, 100_000_000, "1x100000000 pixels: at most"),
    ):
        header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + data[24:29]
        data[12:33] = header + zlib.crc32(header).to_bytes(4, "big")
        (tmp_path / "a.png").write_bytes(data)
        with warnings.catch_warnings(action="ignore"), pytest.raises(DataError, match=message):
            read_upright(tmp_path / "a.png", 32)


@pytest.mark.parametrize("content", [None, b"", b"hello", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0x"])
def test_files_that_are_no_pictures(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match=f"^{path}: "):
        read_upright(path, 32)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "TIFF", "WEBP"])
def test_torn_files_are_refused(form: str, tmp_path: Path) -> None:
    data = encoded(800, 600, form=form)
    for share in (0.2, 0.6, 0.9):
        (tmp_path / "a").write_bytes(data[: int(share * len(data))])
        with pytest.raises(DataError, match="pictur"):
            read_upright(tmp_path / "a", 32)
