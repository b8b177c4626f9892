import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mixnmatch.data.pictures import check_box
from mixnmatch.data.records import Box
from mixnmatch.errors import DataError

numbers = st.floats(-1e4, 1e4)
boxes = st.builds(Box, numbers, numbers, st.floats(0, 1e4), st.floats(0, 1e4))
sides = st.integers(1, 2000)


@given(boxes, sides, sides)
def test_a_clipped_box_is_inside_and_no_larger(box: Box, width: int, height: int) -> None:
    inside = box.clip(width, height)
    assert 0 <= inside.x <= inside.right <= width + 1e-6
    assert 0 <= inside.y <= inside.bottom <= height + 1e-6
    assert inside.area <= box.area * (1 + 1e-9) + 1e-6


@given(boxes, sides, sides)
def test_a_checked_box_has_area_or_is_refused(box: Box, width: int, height: int) -> None:
    if box.clip(width, height).area:
        assert check_box(box, width, height, "bird.jpg").area > 0
    else:
        with pytest.raises(DataError, match=r"bird\.jpg: box"):
            check_box(box, width, height, "bird.jpg")


@given(boxes, st.floats(0.1, 10), numbers)
def test_scaling_and_shifting_keep_proportions(box: Box, factor: float, offset: float) -> None:
    assume(box.width > 1e-3)
    changed = box.shift(offset, -offset).scale(factor, factor)
    assert changed.width == pytest.approx(box.width * factor)
    assert changed.centre[0] == pytest.approx((box.centre[0] + offset) * factor, abs=1e-6)


def test_a_box_past_the_edge_is_clipped() -> None:
    assert check_box(Box(-5, 10, 30, 100), 50, 40, "x") == Box(0, 10, 25, 30)


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        (Box(3, 4, 0, 10), "no area"),
        (Box(3, 4, 10, -1), "no area"),
        (Box(math.nan, 4, 10, 10), "no area"),
        (Box(3, 4, math.inf, 10), "no area"),
        (Box(60, 4, 10, 10), "outside its 50x40 picture"),
        (Box(-10, 4, 10, 10), "outside"),
    ],
)
def test_degenerate_boxes_are_refused_by_name_and_value(box: Box, reason: str) -> None:
    with pytest.raises(DataError, match=rf"bird\.jpg: box \(.*4.*\).*{reason}"):
        check_box(box, 50, 40, "bird.jpg")
