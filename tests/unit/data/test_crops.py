import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from plain_crops import plain_crop

from mixnmatch.data.crops import carry_boxes, cut_squares, random_squares, scale_pixels

EDGE = st.floats(0, 60, width=32)
CHANCE = st.floats(0, 1, exclude_max=True)


@given(
    st.lists(
        st.tuples(
            st.integers(32, 40),
            st.integers(32, 60),
            st.tuples(EDGE, EDGE, EDGE, EDGE),
            st.tuples(CHANCE, CHANCE, CHANCE),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_squares_are_those_cut_one_by_one(
    drawn: list[tuple[int, int, tuple[float, ...], tuple[float, ...]]],
) -> None:
    rng = np.random.default_rng(0)
    views = [rng.integers(256, size=(h, w, 3), dtype=np.uint8) for h, w, _, _ in drawn]
    edges = np.array([box for _, _, box, _ in drawn], np.float32)
    boxes = np.concatenate([edges.reshape(-1, 2, 2).min(1), edges.reshape(-1, 2, 2).max(1)], 1)
    chances = np.array([chance for *_, chance in drawn])
    sizes = np.array([view.shape[:2] for view in views])
    starts = 3 * (np.cumsum(sizes.prod(1)) - sizes.prod(1))
    flat = torch.from_numpy(np.concatenate([v.transpose(2, 0, 1).ravel() for v in views]))
    squares = random_squares(starts, sizes, boxes, 32, chances)
    cut = cut_squares(flat, squares)
    assert cut.is_contiguous()
    for number, (view, box, (x, y, flip)) in enumerate(zip(views, boxes, chances, strict=True)):
        height, width = view.shape[:2]
        offset_x, offset_y = int(x * (width - 31)), int(y * (height - 31))
        crop = plain_crop(view, box, 32, offset_x, offset_y, flip=bool(flip < 0.5))
        assert np.array_equal(cut[number], crop.pixels.transpose(2, 0, 1))
        assert np.array_equal(squares.box[number], crop.box)


@pytest.mark.parametrize(
    ("flip", "expected"),
    [
        (False, [[2, 3, 12, 8], [0, 0, 32, 32], [0, 0, 0, 0]]),
        (True, [[20, 3, 30, 8], [0, 0, 32, 32], [0, 0, 0, 0]]),
    ],
)
def test_boxes_are_moved_clipped_and_mirrored(flip: bool, expected: list[list[float]]) -> None:
    boxes = torch.tensor([[12.0, 8, 22, 13], [0, 0, 90, 90], [0, 0, 10, 40]])
    offsets = torch.tensor([[10, 5], [10, 5], [10, 5]])
    assert carry_boxes(boxes, offsets, 32, torch.tensor([flip] * 3)).tolist() == expected


def test_pixels_are_scaled_as_numpy_does_it() -> None:
    levels = np.arange(256, dtype=np.uint8)
    scaled = scale_pixels(torch.from_numpy(levels).view(1, 1, 16, 16).repeat(1, 3, 1, 1))
    expected = levels.astype(np.float32) / np.float32(127.5) - np.float32(1)
    assert np.array_equal(scaled[0, 1].flatten(), expected)
    assert scaled.min() == -1
    assert scaled.max() == 1
