import pytest
import torch
from torch import Tensor

from mixnmatch.codes import Codes
from mixnmatch.config import RunConfig
from mixnmatch.errors import InputError
from mixnmatch.recipes import CODE_OF, Factor, Recipe, arc, codes_of, interpolate


def recipe(rows: int, seed: int = 0, *, feature: bool = False) -> Recipe:
    random = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(rows, *shape, generator=random)

    soft = [torch.softmax(noise(size), dim=1) for size in (4, 2, 4)]
    return Recipe(Codes(noise(50), *soft), noise(50), noise(3, 8, 8) if feature else None)


def test_rows_must_agree() -> None:
    many = recipe(3, feature=True)
    assert (many.rows, recipe(1).rows) == (3, 1)
    one = many._replace(background_z=many.background_z[:1])
    assert one.rows == 3
    part = one.part(1, 3)
    assert part.rows == 2
    assert torch.equal(part.background_z, many.background_z[:1])
    assert torch.equal(part.codes.c, many.codes.c[1:])
    with pytest.raises(ValueError, match=r"tensors of \[2, 3\] rows"):
        _ = one._replace(background_z=many.background_z[:2]).rows


@pytest.mark.parametrize("factor", CODE_OF)
def test_one_factor_is_taken_and_the_others_stay(factor: Factor) -> None:
    held, other = recipe(1, 0), recipe(3, 1)
    taken = held.take(factor, other)
    for name, code in taken.codes._asdict().items():
        source = other if name == CODE_OF[factor] else held
        assert torch.equal(code, getattr(source.codes, name))
    source = other if factor == "background" else held
    assert torch.equal(taken.background_z, source.background_z)
    # A code alone leaves the noise of the background.
    assert held.with_code(factor, getattr(other.codes, CODE_OF[factor])).background_z is (
        held.background_z
    )


def test_feature_mode_takes_pose_and_shape_together() -> None:
    held, other = recipe(1, 0, feature=True), recipe(3, 1, feature=True)
    taken = held.take("shape", other)
    assert taken.feature is other.feature
    assert taken.codes is held.codes
    with pytest.raises(InputError, match="pose codes cannot be set in feature mode"):
        held.take("pose", other)
    with pytest.raises(InputError, match="shape codes cannot be set in feature mode"):
        held.with_code("shape", other.codes.p)


def test_codes_of_a_factor(tiny: RunConfig) -> None:
    config = tiny.model
    for factor, count in (("background", 4), ("shape", 2), ("texture", 4)):
        assert torch.equal(codes_of(factor, config, None), torch.eye(count))
        assert torch.equal(codes_of(factor, config, 2), torch.eye(count)[:2])
        with pytest.raises(InputError, match=f"{factor} count is 5: it must be from 1 to {count}"):
            codes_of(factor, config, 5)
    poses = codes_of("pose", config, 400, seed=1)
    assert poses.shape == (400, 5)
    assert abs(float(poses.std()) - 1) < 0.1
    assert torch.equal(poses, codes_of("pose", config, 400, seed=1))
    assert not torch.equal(poses, codes_of("pose", config, 400, seed=2))
    assert len(codes_of("pose", config, None)) == 10
    for wrong in (0, 2001, 10**13):
        with pytest.raises(InputError, match=f"pose count is {wrong}: it must be from 1 to 2000$"):
            codes_of("pose", config, wrong)


def test_a_walk_keeps_the_spaces_of_its_codes() -> None:
    stops = recipe(3, feature=True)
    way = interpolate(stops, torch.linspace(0, 2, 9))
    assert way.rows == 9
    for code in way.codes[1:]:
        assert torch.allclose(code.sum(dim=1), torch.ones(9))
        assert (code >= 0).all()
    # Each stop is passed.
    at_stops = way.map(lambda rows: rows[::4])
    for before, after in zip(
        [*stops.codes, stops[1], stops[2]], [*at_stops.codes, *at_stops[1:]], strict=True
    ):
        torch.testing.assert_close(after, before)
    assert way.feature is not None
    assert stops.feature is not None
    torch.testing.assert_close(way.feature[2], stops.feature[:2].mean(dim=0))
    # Noise keeps its length, which the straight line would not.
    lengths = way.codes.z.norm(dim=1)
    assert float(lengths.min()) > 0.99 * float(stops.codes.z.norm(dim=1).min())
    assert float(stops.codes.z[:2].mean(dim=0).norm()) < 0.9 * float(lengths.min())


def test_what_is_one_for_all_is_held() -> None:
    stops = recipe(1, 0).take("texture", recipe(2, 1))
    way = interpolate(stops, torch.linspace(0, 1, 5))
    assert len(way.codes.c) == 5
    assert torch.equal(way.codes.z, stops.codes.z)
    assert torch.equal(way.background_z, stops.background_z)


def test_the_arc_turns_evenly_and_is_straight_where_there_is_none() -> None:
    start, end = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    third = arc(start, end, torch.tensor([[1 / 3]]))
    expected = 8 / 3 * torch.tensor([[3**0.5 / 2, 0.5]])
    torch.testing.assert_close(third, expected)
    for other in (torch.zeros(1, 2), 2 * start, -2 * start, start):
        middle = arc(start, other, torch.tensor([[0.5]]))
        torch.testing.assert_close(middle, (start + other) / 2)
        assert torch.equal(arc(other, start, torch.tensor([[0.0]])), other)
