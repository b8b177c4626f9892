import pytest
import torch

from mixnmatch.draws import Draws

SHAPES = [(2,), (1, 3), (3, 1, 1, 1), (5, 7, 2)]


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("parts", [1, 2, 3, 8])
@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_parts_together_are_what_one_draws_for_all(
    kind: str, parts: int, shape: tuple[int, ...]
) -> None:
    count, *rest = shape
    whole = Draws(random())
    each = [Draws(random(), part, parts) for part in range(parts)]
    for _ in range(3):  # and so for what is drawn next
        drawn = [getattr(draws, kind)(*shape) for draws in each]
        assert {tuple(part.shape) for part in drawn} == {shape}
        assert torch.equal(torch.cat(drawn), getattr(whole, kind)(parts * count, *rest))


def test_what_is_drawn() -> None:
    draws = Draws(random(), 1, 2)
    normal, uniform = draws.normal(5000), draws.uniform(5000)
    assert abs(float(normal.mean())) < 0.05
    assert abs(float(normal.std()) - 1) < 0.05
    assert 0 <= uniform.min() < 0.01
    assert 0.99 < uniform.max() < 1
    assert abs(float(uniform.mean()) - 0.5) < 0.02
    assert not torch.equal(draws.uniform(4), draws.uniform(4))


def test_precision_and_device() -> None:
    draws = Draws(random())
    for kind in (draws.normal, draws.uniform):
        assert kind(2).dtype == torch.get_default_dtype()
        assert kind(2, dtype=torch.float64).dtype == torch.float64
        assert kind(2).device == torch.device("cpu")
    torch.set_default_dtype(torch.float64)
    try:
        assert draws.normal(2).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    Draws(random()).normal(9)
    Draws(random()).uniform(9)
    assert torch.equal(torch.get_rng_state(), before)
