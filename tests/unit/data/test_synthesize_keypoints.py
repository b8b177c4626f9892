import dataclasses
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_data import UPRIGHT

from mixnmatch.data.drawn.keypoints import KEYPOINT_NAMES, keypoints
from mixnmatch.data.drawn.silhouettes import SHAPE_NAMES
from mixnmatch.data.factors import Drawing, FactorSpec, draw_factor_dataset, draw_picture
from mixnmatch.data.records import Factors

SPEC = FactorSpec(count=1, side=64)
SHAPES = range(len(SHAPE_NAMES))
LARGE = dataclasses.replace(UPRIGHT, scale=0.8)


def drawn(factors: Factors) -> Drawing:
    return draw_picture(SPEC, factors, np.random.default_rng(0))


def places(drawing: Drawing) -> np.ndarray:
    return np.array([(part.x, part.y) for part in drawing.parts])


@settings(max_examples=80, deadline=None)
@given(
    shape=st.sampled_from(SHAPES),
    rotation=st.floats(-90, 90),
    mirrored=st.booleans(),
    scale=st.floats(0.2, 0.9),
    shift=st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
)
def test_they_lie_on_the_object(
    shape: int, rotation: float, mirrored: bool, scale: float, shift: tuple[float, float]
) -> None:
    room = (1 - scale) / 2 - 0.02
    drawing = drawn(
        dataclasses.replace(
            UPRIGHT,
            shape=shape,
            position_x=0.5 + room * shift[0],
            position_y=0.5 + room * shift[1],
            scale=scale,
            rotation=rotation,
            mirrored=mirrored,
        )
    )
    mask = np.asarray(drawing.mask) > 127
    ys, xs = np.nonzero(mask)
    assert [part.part for part in drawing.parts] == list(range(len(KEYPOINT_NAMES)))
    for name, (x, y) in zip(KEYPOINT_NAMES, places(drawing), strict=True):
        distance = np.hypot(xs + 0.5 - x, ys + 0.5 - y).min()
        assert distance < 1.5, (SHAPE_NAMES[shape], name)
        assert 0 < x < SPEC.side
        assert 0 < y < SPEC.side


@pytest.mark.parametrize("shape", SHAPES)
def test_their_names_hold(shape: int) -> None:
    named = dict(zip(KEYPOINT_NAMES, keypoints(shape), strict=True))
    drawing = drawn(dataclasses.replace(LARGE, shape=shape))
    box = drawing.box
    found = dict(zip(KEYPOINT_NAMES, places(drawing), strict=True))
    # The dark outline lies around the outermost points.
    stroke = 0.045 * 0.8 * SPEC.side + 1.5
    assert abs(found["front"][0] - box.right) < stroke
    assert abs(found["back"][0] - box.x) < stroke
    assert abs(found["top"][1] - box.y) < stroke
    assert abs(found["bottom"][1] - box.bottom) < stroke
    assert named["back-core"][0] < 0 < named["front-core"][0]
    assert named["top-back"] @ (1, 1) < named["bottom-front"] @ (1, 1)
    assert named["top-front"] @ (1, -1) > named["bottom-back"] @ (1, -1)


@pytest.mark.parametrize("shape", SHAPES)
def test_cores_are_inside_and_points_are_spread(shape: int) -> None:
    drawing = drawn(dataclasses.replace(LARGE, shape=shape))
    mask = np.asarray(drawing.mask) > 127
    for x, y in places(drawing)[-2:]:
        assert mask[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2].all()
    distances = [np.hypot(*(a - b)) for a, b in combinations(keypoints(shape), 2)]
    assert sum(distance < 0.05 for distance in distances) <= 4, "few of them fall together"


@pytest.mark.parametrize("shape", SHAPES)
def test_they_are_mirrored_with_the_object(shape: int) -> None:
    factors = dataclasses.replace(LARGE, shape=shape, rotation=20.0)
    plain = places(drawn(factors))
    flipped = places(drawn(dataclasses.replace(factors, rotation=-20.0, mirrored=True)))
    assert np.allclose(flipped[:, 0], SPEC.side - plain[:, 0])
    assert np.allclose(flipped[:, 1], plain[:, 1])


def test_records_hold_them() -> None:
    (record,) = draw_factor_dataset(FactorSpec(count=1))
    assert [part.part for part in record.parts] == list(range(10))
    assert len(set(KEYPOINT_NAMES)) == 10
