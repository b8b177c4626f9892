import dataclasses
import io
from collections import Counter
from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
from made_data import UPRIGHT
from PIL import Image

from mixnmatch.data.drawn.scenes import BACKGROUND_NAMES
from mixnmatch.data.drawn.silhouettes import SHAPE_NAMES
from mixnmatch.data.drawn.textures import TEXTURE_COUNT, texture
from mixnmatch.data.factors import FactorSpec, draw_factor_dataset, draw_picture, sample_factors
from mixnmatch.errors import DataError

SPEC = FactorSpec(count=1, side=48, shapes=len(SHAPE_NAMES), backgrounds=len(BACKGROUND_NAMES))
TILTED = dataclasses.replace(UPRIGHT, rotation=15.0)

PINNED: Any = [  # background, shape, texture, pose; split; box; colours of the picture's quarters
    (
        (2, 1, 2, 0),
        "train",
        (33, 28, 36, 54),
        [[28, 31, 74], [40, 35, 68], [53, 55, 100], [73, 65, 96]],
    ),
    (
        (0, 0, 0, 3),
        "train",
        (16, 22, 40, 28),
        [[142, 166, 207], [156, 199, 238], [176, 215, 247], [178, 217, 249]],
    ),
    (
        (1, 1, 2, 3),
        "train",
        (38, 28, 30, 41),
        [[120, 169, 85], [115, 167, 83], [85, 144, 64], [100, 151, 77]],
    ),
    (
        (2, 1, 5, 2),
        "judge",
        (24, 38, 32, 38),
        [[28, 31, 71], [25, 28, 69], [57, 54, 90], [36, 40, 90]],
    ),
]


def drawn(seed: int = 0, **changes: object) -> tuple[np.ndarray, np.ndarray]:
    factors = dataclasses.replace(TILTED, **changes)
    drawing = draw_picture(SPEC, factors, np.random.default_rng(seed))
    return np.asarray(drawing.image, dtype=float), np.asarray(drawing.mask) > 127


def test_the_same_spec_draws_the_same_bytes() -> None:
    spec = FactorSpec(count=6, side=48, seed=3)
    first = list(draw_factor_dataset(spec))
    assert list(draw_factor_dataset(spec)) == first
    assert list(draw_factor_dataset(dataclasses.replace(spec, count=3))) == first[:3]
    other = list(draw_factor_dataset(dataclasses.replace(spec, seed=4)))
    assert all(a.image != b.image for a, b in zip(first, other, strict=True))


def test_what_is_drawn_does_not_change() -> None:
    """Published figures rest on these pictures.

    Mean colours with a tolerance are pinned, no checksums: releases of Pillow fill the edges of
    polygons, and compress, in slightly different ways.
    """
    records = list(draw_factor_dataset(FactorSpec(count=3, judge_count=1)))
    for record, (factors, split, box, colours) in zip(records, PINNED, strict=True):
        found = record.factors
        assert found is not None
        assert (found.background, found.shape, found.texture, found.pose) == factors
        assert (record.split, record.mask is not None) == (split, True)
        assert np.allclose(record.box, box, atol=1)
        image = Image.open(io.BytesIO(record.image)).reduce(record.width // 2)
        assert np.allclose(np.asarray(image).reshape(4, 3), colours, atol=2)


def test_records_say_what_was_drawn() -> None:
    for record in draw_factor_dataset(FactorSpec(count=12, side=64)):
        assert record.factors is not None
        assert record.mask is not None
        assert record.label == record.factors.texture
        assert record.factors.texture // 2 == record.factors.shape
        name = SHAPE_NAMES[record.factors.shape]
        assert record.class_name == f"{name}/{texture(record.factors.texture).name}"
        tilt_right = record.factors.rotation > 0
        assert record.factors.pose == 2 * record.factors.mirrored + tilt_right
        mask = np.asarray(Image.open(io.BytesIO(record.mask)))
        ys, xs = np.nonzero(mask >= 128)
        assert record.box.corners == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        assert Image.open(io.BytesIO(record.image)).size == mask.shape[::-1] == (64, 64)


def test_objects_stay_inside_and_are_a_third_to_two_thirds_of_the_side() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        box = draw_picture(SPEC, sample_factors(SPEC, rng), rng).box
        assert 0.35 <= max(box.width, box.height) / SPEC.side <= 0.62
        assert min(box.x, box.y) > 0
        assert max(box.right, box.bottom) < SPEC.side


def test_factors_are_uniform_and_independent() -> None:
    spec = FactorSpec(count=1)
    rng = np.random.default_rng(0)
    samples = [sample_factors(spec, rng) for _ in range(3000)]
    for name, categories in spec.cardinalities.items():
        counts = Counter(getattr(sample, name) for sample in samples)
        assert sorted(counts) == list(range(categories))
        assert min(counts.values()) > 0.8 * 3000 / categories
    for pair in combinations(("background", "shape", "pose"), 2):
        joint = Counter(tuple(getattr(sample, name) for name in pair) for sample in samples)
        cells = spec.cardinalities[pair[0]] * spec.cardinalities[pair[1]]
        assert len(joint) == cells
        assert min(joint.values()) > 0.6 * 3000 / cells


def test_free_textures_go_on_every_shape() -> None:
    spec = FactorSpec(count=1, free_textures=True)
    rng = np.random.default_rng(0)
    samples = [sample_factors(spec, rng) for _ in range(600)]
    assert len({(sample.shape, sample.texture) for sample in samples}) == 3 * 6


def test_pictures_for_judges_come_last_and_are_free() -> None:
    records = list(draw_factor_dataset(FactorSpec(count=10, side=32, judge_count=30)))
    assert [record.id for record in records] == list(range(40))
    judged = [record.factors for record in records if record.split == "judge"]
    assert len(judged) == 30
    assert any(factors and factors.texture // 2 != factors.shape for factors in judged)
    assert {record.split for record in records[:10]} == {"train", "test"}


@pytest.mark.parametrize("shape", range(len(SHAPE_NAMES)))
def test_mirroring_shows(shape: int) -> None:
    _, plain = drawn(shape=shape, scale=0.8)
    _, mirrored = drawn(shape=shape, scale=0.8, mirrored=True, rotation=-15.0)
    # A pixel either way along the edge is rounding: a thin object is mostly edge.
    edge = (plain ^ np.roll(plain, 1, axis=1)).sum() + (plain ^ np.roll(plain, 1, axis=0)).sum()
    assert (plain[:, ::-1] != mirrored).sum() < 0.25 * edge, "the flip of the picture"
    _, turned = drawn(shape=shape, scale=0.8, mirrored=True)
    assert (plain != turned).sum() > 0.15 * plain.sum()


def test_shapes_backgrounds_and_textures_all_differ() -> None:
    masks = [drawn(shape=shape)[1] for shape in range(len(SHAPE_NAMES))]
    for left, right in combinations(masks, 2):
        assert (left & right).sum() / (left | right).sum() < 0.85
    scenes = [drawn(background=index)[0].mean((0, 1)) for index in range(len(BACKGROUND_NAMES))]
    assert min(np.abs(a - b).max() for a, b in combinations(scenes, 2)) > 15
    painted = [texture(index) for index in range(TEXTURE_COUNT)]
    assert len({paint.name for paint in painted}) == TEXTURE_COUNT
    words = [set(paint.name.split("-")) for paint in painted]
    assert not any(left & right for left, right in pairwise(words))


@pytest.mark.parametrize(
    "indices",
    # Every palette, every pattern, and all the patterns of one palette.
    [
        [index for index in range(TEXTURE_COUNT) if texture(index).name.endswith("-stripes")],
        [index for index in range(TEXTURE_COUNT) if texture(index).name.startswith("red-")],
        range(96, 128),
    ],
)
def test_textures_can_be_told_apart(indices: Sequence[int]) -> None:
    bodies = []
    for index in indices:
        image, mask = drawn(texture=index, scale=0.8)
        bodies.append(image[mask])
    assert min(np.abs(a - b).max(-1).mean() for a, b in combinations(bodies, 2)) > 15


def test_only_the_body_changes_with_the_texture() -> None:
    before, mask = drawn(texture=0)
    after, same = drawn(texture=5)
    assert np.array_equal(mask, same)
    assert (before != after).any(-1)[mask].mean() > 0.5
    assert (before != after).any(-1)[~mask].mean() < 0.02


def test_rotation_is_counter_clockwise() -> None:
    ys, xs = np.nonzero(drawn(rotation=30.0)[1])
    assert np.corrcoef(xs, ys)[0, 1] < -0.2, "the nose of the fish points right and up"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 0}, "count is 0: it must be from 1"),
        ({"side": 8}, "side is 8: it must be from 32"),
        ({"shapes": 99}, "shapes is 99: it must be from 1 to 26"),
        ({"shapes": 0}, "shapes is 0"),
        ({"textures_per_shape": 107}, "textures_per_shape is 107: it must be from 1 to 106"),
        ({"backgrounds": 25}, "backgrounds is 25: it must be from 1 to 24"),
        ({"seed": -1}, "seed is -1"),
        ({"judge_count": -1}, "judge_count is -1"),
        ({"tilt": (0.0, 30.0)}, "least tilt is 0.0: it must be from 1 to 90"),
        ({"tilt": (10.0, 91.0)}, "most tilt is 91.0: it must be from 10.0 to 90"),
        ({"tilt": (10.0, 5.0)}, "most tilt is 5.0: it must be from 10.0 to 90"),
        ({"scale": (0.05, 0.5)}, "least scale is 0.05: it must be from 0.104 to 0.9"),
        ({"scale": (0.3, 0.5), "side": 32}, "least scale is 0.3: it must be from 0.312 to 0.9"),
        ({"scale": (0.4, 1.0)}, "most scale is 1.0: it must be from 0.4 to 0.9"),
        ({"shift": 0.5}, "shift is 0.5: it must be from 0 to 0.45"),
        ({"background_texture_correlation": 1.5}, "correlation is 1.5: it must be from 0 to 1"),
        ({"noise": 65.0}, "noise is 65.0: it must be from 0 to 64"),
        ({"noise": float("nan")}, "noise is nan: it must be from 0 to 64"),
    ],
)
def test_impossible_specs_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        FactorSpec(**{"count": 1, **changes})
