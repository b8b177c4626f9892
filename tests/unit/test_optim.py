import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from equality import same
from torch import Tensor, nn

from mixnmatch.codes import sample_tied
from mixnmatch.config import RunConfig, Stage1Config
from mixnmatch.data.batches import Batch
from mixnmatch.networks.normalisation import MOMENTUM, BatchNorm
from mixnmatch.settings import override
from mixnmatch.training.optim import Averaged, gradient_norm
from mixnmatch.training.stage1 import STATISTICS_BATCHES, CodeStage, average_decay
from mixnmatch.training.stage2 import ShapeStage

MakeBatch = Callable[..., Batch]


def state(network: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(dict(network.state_dict()))


# Decay


@pytest.mark.parametrize(
    ("batch_size", "workers", "half_life"), [(12, 1, 8317), (4, 2, 16), (64, 8, 10_000)]
)
def test_a_weight_counts_half_after_the_half_life(
    batch_size: int, workers: int, half_life: int
) -> None:
    config = Stage1Config(batch_size=batch_size, ema_half_life_images=half_life, ema_decay=0.1)
    steps = half_life / (batch_size * workers)
    assert average_decay(config, workers) ** steps == pytest.approx(0.5)


def test_without_a_half_life_the_decay_is_that_of_a_step() -> None:
    assert average_decay(Stage1Config(ema_decay=0.9), 8) == 0.9
    assert average_decay(Stage1Config(), 1) == 0.999
    # The published decay and batch size, as a half-life in pictures.
    published = Stage1Config(ema_half_life_images=8314)
    assert average_decay(published, 1) == pytest.approx(0.999, abs=1e-6)


def test_the_stage_averages_by_the_half_life(tiny: RunConfig, make_batch: MakeBatch) -> None:
    config = override(tiny, {"stage1.ema_half_life_images": 8})
    stage = CodeStage(config)
    assert stage.average.decay == pytest.approx(0.5**0.5)  # 4 pictures a step
    assert CodeStage(config, world_size=2).average.decay == pytest.approx(0.5)
    before = dict(stage.average.network.named_parameters())["child_joint.0.weight"].clone()
    stage.step(make_batch())
    live = stage.generator.child_joint[0].weight
    expected = before * 0.5**0.5 + live * (1 - 0.5**0.5)
    torch.testing.assert_close(stage.average.network.child_joint[0].weight, expected)


# Adopting the average


def test_training_goes_on_from_the_average(tiny: RunConfig, make_batch: MakeBatch) -> None:
    stage = CodeStage(override(tiny, {"stage1.adopt_average_every_steps": 2}))
    plain = CodeStage(tiny)
    for number in range(1, 5):
        stage.step(make_batch(number))
        plain.step(make_batch(number))
        live = dict(stage.generator.named_parameters())
        average = dict(stage.average.network.named_parameters())
        adopted = all(torch.equal(live[key], value) for key, value in average.items())
        assert adopted == (number in (2, 4))
        assert all(value.requires_grad for value in live.values())
        assert not any(value.requires_grad for value in average.values())
        assert live.keys() == average.keys()
        # Its own copy: the average must not move with the live weights from now on.
        places = {value.data_ptr() for value in (*live.values(), *average.values())}
        assert len(places) == 2 * len(live)
        alike = same(stage.state_dict()["modules"], plain.state_dict()["modules"])
        assert alike == (number < 2)


def test_only_weights_are_adopted() -> None:
    torch.manual_seed(0)
    live = nn.Sequential(nn.Linear(2, 3), BatchNorm(3))
    average = Averaged(live, 0.5)
    with torch.no_grad():
        for parameter in live.parameters():
            parameter.add_(1)
    live(torch.randn(8, 2))
    statistics = live[1].running_mean.clone()
    average.restore(live)
    for ours, theirs in zip(live.parameters(), average.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(live[1].running_mean, statistics)
    assert statistics.any()
    assert not average.network[1].running_mean.any()


# Statistics of its own


def recorded(network: nn.Module, run: Callable[[], object]) -> dict[str, list[Tensor]]:
    """What each batch norm is shown by a call."""
    seen: dict[str, list[Tensor]] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Tensor]) -> None:
            seen.setdefault(name, []).append(inputs[0].transpose(0, 1).flatten(1))

        return hook

    hooks = [
        layer.register_forward_pre_hook(keep(name))
        for name, layer in network.named_modules()
        if isinstance(layer, BatchNorm)
    ]
    run()
    for handle in hooks:
        handle.remove()
    return seen


@pytest.fixture
def estimated(tiny: RunConfig, make_batch: MakeBatch) -> CodeStage:
    stage = CodeStage(tiny)
    stage.step(make_batch())
    return stage


def test_estimated_statistics_are_the_mean_over_batches(estimated: CodeStage) -> None:
    network = estimated.average.network
    weights = {key: value.clone() for key, value in network.named_parameters()}
    live, followed, random = (
        state(estimated.generator),
        state(network),
        estimated.random.get_state(),
    )
    seen = recorded(network, estimated.settle)
    layers = dict(network.named_modules())
    for name, batches in seen.items():
        assert len(batches) == STATISTICS_BATCHES
        layer = layers[name]
        assert layer.momentum == MOMENTUM
        mean = torch.stack([batch.mean(dim=1) for batch in batches]).mean(dim=0)
        variance = torch.stack([batch.var(dim=1) for batch in batches]).mean(dim=0)
        torch.testing.assert_close(layer.running_mean, mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(layer.running_var, variance, rtol=1e-4, atol=1e-5)
        assert not torch.equal(layer.running_mean, followed[f"{name}.running_mean"])
    assert seen.keys() == {n for n, layer in layers.items() if isinstance(layer, BatchNorm)}
    assert not any(layer.training for layer in layers.values())
    for key, value in network.named_parameters():
        assert torch.equal(value, weights[key])
    # The live network and the draws of the training are left alone.
    assert same(state(estimated.generator), live)
    assert torch.equal(estimated.random.get_state(), random)


def test_estimates_come_again_and_last_until_the_next_step(
    estimated: CodeStage, make_batch: MakeBatch
) -> None:
    network = estimated.average.network

    def statistics() -> dict[str, Tensor]:
        return {key: value for key, value in state(network).items() if "running" in key}

    estimated.settle()
    first = statistics()
    estimated.settle()
    assert same(statistics(), first)
    second = ShapeStage.after(estimated)
    assert same({k: second.generator.state_dict()[k] for k in first}, first)
    estimated.step(make_batch(1))
    live = estimated.generator.state_dict()
    assert same(statistics(), {key: live[key] for key in first})


def test_live_statistics_are_left_as_they_are(tiny: RunConfig, make_batch: MakeBatch) -> None:
    stage = CodeStage(override(tiny, {"stage1.average_statistics": "live"}))
    stage.step(make_batch())
    before = state(stage.average.network)
    stage.settle()
    assert same(state(stage.average.network), before)
    live = stage.generator.state_dict()
    assert all(torch.equal(before[key], live[key]) for key in before if "running" in key)


def test_estimating_needs_inputs_of_the_network_alone() -> None:
    torch.manual_seed(0)
    average = Averaged(nn.Sequential(BatchNorm(2)), 0.9)
    batches = [torch.randn(5, 2) + k for k in range(3)]
    average.estimate_statistics(iter(batches))
    torch.testing.assert_close(average.network[0].running_mean, torch.cat(batches).mean(dim=0))


def test_worker_0_settles_alone(tiny: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It evaluates alone; a batch norm that waited for the others would wait for ever."""

    def wait(self: BatchNorm, x: Tensor) -> Any:
        raise AssertionError("waited for the other workers")

    changes = {"compute.sync_batch_norm": True, "stage1.average_statistics": "estimated"}
    stage = CodeStage(override(tiny, changes))
    monkeypatch.setattr(BatchNorm, "_over_workers", wait)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    stage.settle()
    codes = sample_tied(tiny.model, 2, torch.Generator())
    with pytest.raises(AssertionError, match="waited"):
        stage.generator(codes)


# Gradients, first weights


def test_gradient_norm() -> None:
    parameters = [torch.zeros(shape, requires_grad=True) for shape in ((2, 3), (4,), (), (5,))]
    for number, parameter in enumerate(parameters[:3]):
        parameter.grad = torch.full_like(parameter, number + 1.0)
    # Those of a weight that no loss reads are none.
    assert gradient_norm(parameters).item() == pytest.approx((6 * 1 + 4 * 4 + 9) ** 0.5)


def test_first_weights_of_the_pair_discriminators(tiny: RunConfig) -> None:
    default = CodeStage(tiny)
    stage = CodeStage(override(tiny, {"stage1.pair_init": "orthogonal"}))
    checked = 0
    for layer in stage.pair_discriminators.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            rows = layer.weight.flatten(1)
            gram = rows @ rows.T if rows.shape[0] <= rows.shape[1] else rows.T @ rows
            torch.testing.assert_close(gram, torch.eye(len(gram)), atol=1e-5, rtol=0)
            assert not layer.bias.any()
            checked += 1
    assert checked == 4 * 9
    for name, module in stage.modules().items():
        alike = same(dict(module.state_dict()), dict(default.modules()[name].state_dict()))
        assert alike == (name != "pair_discriminators")
