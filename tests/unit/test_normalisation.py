"""Our batch norm against PyTorch's: values, gradients, gradients of gradients, statistics."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mixnmatch.networks import normalisation
from mixnmatch.networks.normalisation import BatchNorm, untracked

SHAPES = [(2, 3), (64, 5), (2, 3, 4, 4), (5, 1, 3, 2), (1, 4, 1, 2), (2, 4, 1, 1), (3, 2, 7)]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def twins(channels: int, dim: int, seed: int = 0) -> tuple[BatchNorm, nn.Module]:
    """Ours and PyTorch's, with the same weights and statistics as if trained."""
    kind = nn.BatchNorm2d if dim == 4 else nn.BatchNorm1d
    ours, theirs = BatchNorm(channels), kind(channels)
    source = random(seed)
    with torch.no_grad():
        for value in (ours.weight, ours.bias, ours.running_mean):
            value.copy_(torch.randn(channels, generator=source))
        ours.running_var.copy_(0.5 + torch.rand(channels, generator=source))
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def fast_calls(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What goes the fast way from now on."""
    seen: list[Tensor] = []
    fast = normalisation._NormaliseOnCpu.apply

    def spy(x: Tensor, *rest: Any) -> Any:
        seen.append(x)
        return fast(x, *rest)

    monkeypatch.setattr(normalisation._NormaliseOnCpu, "apply", spy)
    return seen


def same_state(ours: nn.Module, theirs: nn.Module) -> None:
    state = theirs.state_dict()
    assert list(ours.state_dict()) == list(state)
    for key, value in ours.state_dict().items():
        torch.testing.assert_close(value, state[key], msg=key)


@each_shape
def test_in_training(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = fast_calls(monkeypatch)
    ours, theirs = twins(shape[1], len(shape))
    for step in range(3):
        x = (3 + 2 * torch.randn(shape, generator=random(step))).requires_grad_()
        weighting = torch.randn(shape, generator=random(10 + step))
        answers = [norm(x) for norm in (ours, theirs)]
        torch.testing.assert_close(*answers)
        gradients = [
            torch.autograd.grad(answer, [x, norm.weight, norm.bias], weighting)
            for answer, norm in zip(answers, (ours, theirs), strict=True)
        ]
        for mine, right in zip(*gradients, strict=True):
            torch.testing.assert_close(mine, right, rtol=1e-4, atol=1e-5)
    assert len(seen) == 3
    same_state(ours, theirs)
    assert ours.num_batches_tracked == 3


@each_shape
def test_in_eval_mode(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = fast_calls(monkeypatch)
    ours, theirs = (norm.eval() for norm in twins(shape[1], len(shape)))
    x = torch.randn(shape, generator=random())
    before = {key: value.clone() for key, value in ours.state_dict().items()}
    assert torch.equal(ours(x), theirs(x))
    assert all(torch.equal(before[key], value) for key, value in ours.state_dict().items())
    assert seen == []


@pytest.mark.parametrize("shape", [(6, 3), (3, 2, 4, 4)], ids=str)
def test_gradients_of_gradients(shape: tuple[int, ...]) -> None:
    """As a penalty on gradients needs them: with respect to input, weight and bias."""
    ours, theirs = twins(shape[1], len(shape))
    x = torch.randn(shape, generator=random(1)).requires_grad_()
    weighting = torch.randn(shape, generator=random(2)).requires_grad_()
    seconds = []
    for norm in (ours, theirs):
        answer = torch.tanh(norm(x))
        first = torch.autograd.grad(answer, [x, norm.weight], weighting, create_graph=True)
        penalty = sum(gradient.square().sum() for gradient in first)
        leaves = [x, norm.weight, norm.bias, weighting]
        seconds.append(torch.autograd.grad(penalty, leaves))
    for mine, right in zip(*seconds, strict=True):
        assert right.abs().max() > 1e-3
        torch.testing.assert_close(mine, right, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("wanted", range(3), ids=["input", "weight", "bias"])
def test_one_gradient_alone(wanted: int) -> None:
    ours, theirs = twins(2, 4)
    x, gradients = torch.randn(3, 2, 4, 4, generator=random()), []
    for norm in (ours, theirs):
        leaves = [x.clone(), norm.weight, norm.bias]
        for number, leaf in enumerate(leaves):
            leaf.requires_grad_(number == wanted)
        # The gradient of a sum is one number, expanded.
        (gradient,) = torch.autograd.grad(norm(leaves[0]).square().sum(), [leaves[wanted]])
        gradients.append(gradient)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 16, 16)], ids=str)
def test_a_large_mean_costs_no_precision(shape: tuple[int, ...]) -> None:
    ours, _ = twins(shape[1], len(shape))
    exact = twins(shape[1], len(shape))[0].double()
    x = 1000 + torch.randn(shape, generator=random(1))
    answer, expected = ours(x), exact(x.double())
    # A rounding of an input of 1000 is 3e-5 of a deviation.
    torch.testing.assert_close(answer.double(), expected, rtol=0, atol=1e-3)
    for key in ("running_mean", "running_var"):
        value, right = getattr(ours, key).double(), getattr(exact, key)
        torch.testing.assert_close(value, right, rtol=1e-5, atol=0, msg=key)
    mean, variance = x.double().mean(), x.double().var()
    assert variance < 2 < 900 < mean  # what one pass, E[x²] - E[x]², would lose


def test_a_constant_map_has_no_deviation() -> None:
    ours, theirs = twins(2, 4)
    x = torch.full((2, 2, 3, 3), 7.0)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-3)
    torch.testing.assert_close(ours(x), ours.bias.view(1, 2, 1, 1).expand_as(x), rtol=0, atol=1e-3)
    theirs(x)
    same_state(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_go_pytorchs_way(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = fast_calls(monkeypatch)
    ours, theirs = twins(3, 4)
    x = torch.randn(4, 3, 5, 5, generator=random()).to(dtype)
    if dtype == torch.float64:  # in bfloat16 weights stay as they are
        ours.double()
        theirs.double()
    answer = ours(x)
    assert answer.dtype == dtype
    assert torch.equal(answer, theirs(x))
    same_state(ours, theirs)
    assert ours.running_mean.dtype == (dtype if dtype == torch.float64 else torch.float32)
    assert seen == []


def test_another_memory_order_goes_pytorchs_way(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = fast_calls(monkeypatch)
    ours, theirs = twins(3, 4)
    x = torch.randn(4, 3, 5, 5, generator=random()).to(memory_format=torch.channels_last)
    assert ours(x).is_contiguous(memory_format=torch.channels_last)
    theirs(x)
    same_state(ours, theirs)
    assert seen == []


def test_one_worker_has_nobody_to_wait_for() -> None:
    ours, theirs = twins(3, 4)
    ours.across_workers = True
    x = torch.randn(4, 3, 5, 5, generator=random())
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fast", "ordinary"])
def test_untracked(dtype: torch.dtype) -> None:
    ours, twin = (norm.to(dtype) for norm in twins(3, 4))
    other = BatchNorm(3).to(dtype)
    other.momentum = 0.3
    net = nn.Sequential(ours, nn.Sequential(other))
    x = torch.randn(4, 3, 5, 5, generator=random(), dtype=dtype)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with untracked([net]):
        answer = ours(x)
        net(x)
    torch.testing.assert_close(answer, twin(x))  # by the batch, as ever
    for key, value in net.state_dict().items():
        if "running" in key:
            assert torch.equal(value, before[key]), key
    assert (ours.momentum, other.momentum) == (0.1, 0.3)
    ours(x)
    assert not torch.equal(ours.running_mean, before["0.running_mean"])
    with pytest.raises(KeyError), untracked([net]):
        raise KeyError
    assert (ours.momentum, other.momentum) == (0.1, 0.3)


def test_both_ways_in_one_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step in bfloat16 with a penalty in float32 goes both ways before it goes back."""
    seen = fast_calls(monkeypatch)
    ours, theirs = twins(3, 4)
    x = torch.randn(4, 3, 5, 5, generator=random(), requires_grad=True)
    gradients = []
    for norm in (ours, theirs):
        total = norm(x.bfloat16()).float().square().sum() + norm(x).pow(3).sum()
        gradients.append(torch.autograd.grad(total, [x, norm.weight]))
    assert len(seen) == 1
    for mine, right in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, right, rtol=1e-4, atol=1e-4)
    same_state(ours, theirs)
