import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mixnmatch.data.pictures import encode_png
from mixnmatch.data.records import Box, Record
from mixnmatch.data.views import (
    VIEWS_VERSION,
    centre_crop,
    object_square,
    prepare_views,
    read_views,
    resize_object,
)
from mixnmatch.errors import DataError


@st.composite
def pictures(draw: st.DrawFn) -> tuple[Image.Image, Box]:
    width, height = draw(st.integers(8, 120)), draw(st.integers(8, 120))
    left, right = sorted(draw(st.tuples(*[st.floats(0, width, width=32)] * 2)))
    top, bottom = sorted(draw(st.tuples(*[st.floats(0, height, width=32)] * 2)))
    box = Box.from_corners(left, top, max(right, left + 0.01), max(bottom, top + 0.01))
    return Image.new("RGB", (width, height)), box.clip(width, height)


@given(pictures(), st.sampled_from([32, 64, 128]))
@settings(max_examples=40, deadline=None)
def test_views_cover_every_crop_and_carry_the_box(
    picture: tuple[Image.Image, Box], size: int
) -> None:
    image, box = picture
    if not box.area:
        return
    views = prepare_views(image, box, size)
    for pixels, corners, side in (
        (views.object_pixels, views.object_box, size),
        (views.background_pixels, views.background_box, size - 2),
    ):
        height, width = pixels.shape[:2]
        assert min(height, width) == int(side * 76 / 64) >= side
        x1, y1, x2, y2 = corners
        assert 0 <= x1 <= x2 <= width
        assert 0 <= y1 <= y2 <= height
        crop = centre_crop(pixels, corners, side)
        assert crop.pixels.shape == (side, side, 3)


def test_what_views_hold_changes_only_with_their_version() -> None:
    pixels = np.random.default_rng(0).integers(256, size=(90, 120, 3), dtype=np.uint8)
    record = Record(
        id=1,
        source="noise",
        image=encode_png(Image.fromarray(pixels)),
        width=120,
        height=90,
        box=Box(20, 30, 50, 40),
    )
    digest = hashlib.sha256()
    for part in read_views(record, 32):
        digest.update(np.ascontiguousarray(part))
    # Where this is meant to change, raise VIEWS_VERSION: caches hold views of the old kind.
    assert (VIEWS_VERSION, digest.hexdigest()[:16]) == (1, "b33f1b1d66a751ac")


def test_published_sizes_at_128() -> None:
    views = prepare_views(Image.new("RGB", (500, 375)), Box(100, 100, 60, 40), 128)
    assert views.object_pixels.shape == (152, 152, 3)
    assert views.background_pixels.shape == (149, int(149 * 500 / 375), 3)
    assert views.background_box == pytest.approx(
        np.array([100, 100, 160, 140]) * 149 / 375, rel=0.01
    )


def test_the_object_view_is_a_square_about_the_box_clipped_to_the_picture() -> None:
    assert object_square(Box(100, 100, 60, 40), 500, 375) == Box(85, 75, 90, 90)
    assert object_square(Box(0, 0, 60, 40), 500, 375) == Box(0, 0, 75, 65)


def test_a_bright_object_stays_inside_its_box() -> None:
    image = Image.new("RGB", (200, 150))
    image.paste((255, 255, 255), (120, 40, 160, 100))
    views = prepare_views(image, Box(120, 40, 40, 60), 64)
    for pixels, corners in (views[:2], views[2:]):
        x1, y1, x2, y2 = corners.round().astype(int)
        inside = pixels[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2]
        assert inside.min() > 200
        assert pixels.sum() < 1.1 * 255 * 3 * (x2 - x1) * (y2 - y1)


@pytest.mark.parametrize(
    ("box", "carried"),
    [
        ([25, 1, 35, 50], [1, 0, 11, 32]),
        ([0, 0, 80, 40], [0, 0, 32, 32]),
        ([0, 0, 24, 40], [0, 0, 0, 0]),
    ],
)
def test_the_square_in_the_middle(box: list[int], carried: list[int]) -> None:
    pixels = np.random.default_rng(0).integers(256, size=(40, 81, 3), dtype=np.uint8)
    crop = centre_crop(pixels, np.array(box, np.float32), 32)
    assert np.array_equal(crop.pixels, pixels[4:36, 24:56])
    assert crop.box.tolist() == carried
    assert crop.box.dtype == np.float32


def test_a_ribbon_of_a_picture_is_refused() -> None:
    with pytest.raises(DataError, match="4000x2 pixels: its sides may differ by a factor of 50"):
        prepare_views(Image.new("RGB", (4000, 2)), Box(0, 0, 10, 2), 64)


def test_a_mask_is_cut_as_the_object_view_is() -> None:
    box = Box(30, 20, 40, 30)
    mask = Image.new("L", (120, 90))
    mask.paste(255, (30, 20, 70, 50))
    picture = Image.merge("RGB", [mask] * 3)
    expected = prepare_views(picture, box, 64).object_pixels[..., 0]
    assert np.array_equal(np.asarray(resize_object(mask, box, 64)), expected)
