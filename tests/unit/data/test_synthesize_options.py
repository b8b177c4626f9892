import dataclasses
import io
import math
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from mixnmatch.data.factors import FactorSpec, draw_factor_dataset, draw_record, sample_factors
from mixnmatch.data.records import Factors, Record

SAMPLES = 2000
SIXES = FactorSpec(count=1, backgrounds=6)


def sampled(spec: FactorSpec, count: int = SAMPLES) -> list[Factors]:
    return [sample_factors(spec, np.random.default_rng([spec.seed, n])) for n in range(count)]


def pixels(record: Record) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(record.image)), dtype=float)


def tied(spec: FactorSpec, correlation: float) -> FactorSpec:
    return dataclasses.replace(spec, background_texture_correlation=correlation)


@pytest.mark.parametrize("backgrounds", [3, 6, 9])
@pytest.mark.parametrize("correlation", [0.0, 0.5, 1.0])
def test_backgrounds_follow_the_stated_chances(correlation: float, backgrounds: int) -> None:
    spec = FactorSpec(count=1, backgrounds=backgrounds, background_texture_correlation=correlation)
    chances = spec.background_chances()
    assert np.allclose(chances.sum(axis=1), 1)
    samples = sampled(spec)
    textures = Counter(sample.texture for sample in samples)
    joint = Counter((sample.texture, sample.background) for sample in samples)
    for texture in range(spec.textures):
        for background in range(spec.backgrounds):
            chance, drawn = chances[texture, background], textures[texture]
            expected = correlation * (background == texture % backgrounds)
            assert chance == pytest.approx(expected + (1 - correlation) / backgrounds)
            bound = 4.5 * math.sqrt(drawn * chance * (1 - chance))
            assert abs(joint[texture, background] - drawn * chance) <= bound
    together = sum(sample.background == sample.texture % backgrounds for sample in samples)
    chance = correlation + (1 - correlation) / backgrounds
    assert abs(together - SAMPLES * chance) <= 4.5 * math.sqrt(SAMPLES * chance * (1 - chance))


def test_mutual_information_is_what_the_chances_give() -> None:
    assert tied(SIXES, 0).mutual_information_bits() == pytest.approx(0, abs=1e-12)
    assert tied(SIXES, 1).mutual_information_bits() == pytest.approx(math.log2(6))
    row = np.array([0.5 + 0.5 / 6] + 5 * [0.5 / 6])
    half = math.log2(6) + float((row * np.log2(row)).sum())
    assert tied(SIXES, 0.5).mutual_information_bits() == pytest.approx(half)
    fewer = FactorSpec(count=1, backgrounds=3, background_texture_correlation=1)
    assert fewer.mutual_information_bits() == pytest.approx(math.log2(3))


def test_a_tie_changes_nothing_but_the_background() -> None:
    for free, bound in zip(sampled(SIXES, 50), sampled(tied(SIXES, 1), 50), strict=True):
        assert dataclasses.replace(free, background=bound.background) == bound


def test_pictures_for_judges_stay_free() -> None:
    spec = FactorSpec(count=2, side=32, backgrounds=6, background_texture_correlation=1)
    judges = [draw_record(spec, number) for number in range(2, 92)]
    assert {record.split for record in judges} == {"judge"}
    factors = [record.factors for record in judges if record.factors]
    assert sum(f.background == f.texture for f in factors) < 30
    assert any(f.texture // 2 != f.shape for f in factors)
    # The very pictures of a data set without the tie.
    assert judges[:5] == [draw_record(tied(spec, 0), number) for number in range(2, 7)]


def test_noise_has_the_stated_deviation_and_changes_nothing_else() -> None:
    spec = FactorSpec(count=4, side=96)
    clean = list(draw_factor_dataset(spec))
    for noise in (2.0, 10.0):
        noisy = list(draw_factor_dataset(dataclasses.replace(spec, noise=noise)))
        assert noisy == list(draw_factor_dataset(dataclasses.replace(spec, noise=noise)))
        for before, after in zip(clean, noisy, strict=True):
            assert dataclasses.replace(after, image=before.image) == before
            away = (pixels(before) > 60) & (pixels(before) < 195)  # where nothing is cut off
            added = (pixels(after) - pixels(before))[away]
            expected = math.sqrt(noise**2 + 1 / 12)  # and rounding
            assert added.std() == pytest.approx(expected, rel=0.04)
            assert abs(added.mean()) < 5 * expected / math.sqrt(added.size)
    assert not np.array_equal(
        pixels(noisy[0]) - pixels(clean[0]), pixels(noisy[1]) - pixels(clean[1])
    )


def test_poses_stay_in_their_ranges_and_objects_inside() -> None:
    spec = FactorSpec(count=1, side=64, shapes=26, tilt=(40.0, 80.0), scale=(0.7, 0.9), shift=0.45)
    samples = sampled(spec, 300)
    tilts = [abs(sample.rotation) for sample in samples]
    assert 40 <= min(tilts) < 45
    assert 75 < max(tilts) <= 80
    scales = [sample.scale for sample in samples]
    assert 0.7 <= min(scales) < 0.72
    assert 0.88 < max(scales) <= 0.9
    for number in range(20):
        record = draw_record(spec, number)
        assert min(record.box.x, record.box.y) > 0
        assert max(record.box.right, record.box.bottom) < 64
    still = sampled(dataclasses.replace(spec, shift=0.0), 5)
    assert {(sample.position_x, sample.position_y) for sample in still} == {(0.5, 0.5)}


def test_any_number_of_workers_draws_the_same() -> None:
    spec = FactorSpec(count=40, side=32, judge_count=30, noise=3.0)
    assert list(draw_factor_dataset(spec, workers=2)) == list(draw_factor_dataset(spec))


def test_the_largest_data_set_can_be_drawn() -> None:
    spec = FactorSpec(count=1, side=32, shapes=26, textures_per_shape=12, backgrounds=24)
    assert spec.cardinalities == {"background": 24, "shape": 26, "texture": 312, "pose": 4}
    samples = sampled(spec, 4000)
    assert len({sample.texture for sample in samples}) == 312
    assert len({sample.background for sample in samples}) == 24
