import contextlib
import io

import numpy as np
import pytest
from conftest import encoded
from PIL import Image

from mixnmatch.data.pictures import decode_picture, encode_png
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
