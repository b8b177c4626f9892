from collections.abc import Callable
from typing import Any

import pytest
import torch
from equality import same
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from mixnmatch.config import ComputeConfig, RunConfig
from mixnmatch.data.batches import Batch
from mixnmatch.networks.layers import JointBlock
from mixnmatch.networks.normalisation import BatchNorm
from mixnmatch.settings import override
from mixnmatch.training.checkpoints import check_same_run
from mixnmatch.training.prepare import prepare_networks
from mixnmatch.training.stage1 import CodeStage
from mixnmatch.training.stage2 import ShapeStage

MakeBatch = Callable[..., Batch]
STAGES: list[type[Any]] = [CodeStage, ShapeStage]
both = pytest.mark.parametrize("kind", STAGES, ids=["stage1", "stage2"])


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """What is compiled from now on, without the compiler's work."""
    seen: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, *_, **__: seen.append(self))
    return seen


def in_order(network: nn.Module) -> bool:
    """Whether the kernels of a network have their channels last."""
    kernels = [p for p in network.parameters() if p.ndim == 4 and min(p.shape) > 1]
    return all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)


# Memory order


@pytest.mark.parametrize(
    ("wanted", "device", "last"),
    [
        (None, "cpu", False),
        (None, "cuda", True),
        (True, "cpu", True),
        (False, "cuda", False),
    ],
)
def test_memory_order(wanted: bool | None, device: str, last: bool) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), BatchNorm(4))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    config = ComputeConfig(channels_last=wanted)
    prepare_networks({"net": network}, config, torch.device(device))
    assert in_order(network) == last
    assert same(dict(network.state_dict()), before)


@both
def test_a_step_with_channels_last_is_the_same(
    kind: type[Any], tiny: RunConfig, make_batch: MakeBatch
) -> None:
    stage, plain = kind(override(tiny, {"compute.channels_last": True})), kind(tiny)
    losses, expected = stage.step(make_batch()), plain.step(make_batch())
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-5, atol=1e-5, msg=name)
    for name, network in stage.modules().items():
        assert in_order(network), name
        assert not in_order(plain.modules()[name]), name
    # A state of one goes on in the other, and keeps the order of the one that reads it.
    stage.load_state_dict(plain.state_dict())
    assert same(stage.state_dict()["modules"], plain.state_dict()["modules"])
    assert all(in_order(network) for network in stage.modules().values())


# Batch norm over all workers


@both
def test_batch_norm_over_all_workers(kind: type[Any], tiny: RunConfig) -> None:
    for together in (False, True):
        stage = kind(override(tiny, {"compute.sync_batch_norm": together}))
        for name, network in stage.modules().items():
            layers = [layer for layer in network.modules() if isinstance(layer, BatchNorm)]
            # The average learns nothing, and is evaluated by worker 0 alone.
            wanted = together and name != "generator_average"
            assert {layer.across_workers for layer in layers} <= {wanted}, name


# Compilation


@both
def test_nothing_is_compiled_unasked(
    kind: type[Any], tiny: RunConfig, compiled: list[nn.Module]
) -> None:
    kind(tiny)
    assert compiled == []


@both
@pytest.mark.parametrize("r1", [0.0, 1.0])
def test_networks_are_compiled_block_by_block(
    kind: type[Any], r1: float, tiny: RunConfig, compiled: list[nn.Module]
) -> None:
    stage = kind(override(tiny, {"compute.compile": True, "weights.child_r1": r1}))
    eager = {"pair_discriminators"}  # a compiled network has no gradient of a gradient
    if r1:
        eager.add("child_discriminator")
    expected = [
        block
        for name, network in stage.modules().items()
        if name not in eager
        for block in network.children()
    ]
    assert {id(block) for block in compiled} == {id(block) for block in expected}
    assert len(compiled) == len(expected)


def test_a_compiled_block_answers_as_it_did() -> None:
    """Our own gradients and the statistics of batch norm go through the compiler's front."""
    torch.manual_seed(0)
    block = JointBlock(3, 2, 4, code_first=True)
    begun = {key: value.clone() for key, value in block.state_dict().items()}
    inputs = [torch.randn(shape, requires_grad=True) for shape in ((2, 3, 4, 4), (2, 2))]
    counter = CompileCounterWithBackend("aot_eager")
    found = []
    for compile_it in (False, True):
        block.load_state_dict(begun)
        if compile_it:
            block.compile(backend=counter)
        answer = block(*inputs)
        gradients = torch.autograd.grad(answer.square().sum(), [*inputs, *block.parameters()])
        statistics = [value.clone() for value in block.buffers() if value.is_floating_point()]
        found.append([answer, *gradients, *statistics])
    assert counter.frame_count >= 1
    for plain, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)


# Going on


def test_how_a_run_computes_may_change(tiny: RunConfig, make_batch: MakeBatch) -> None:
    stage = CodeStage(tiny)
    stage.step(make_batch())
    changed = override(
        tiny,
        {
            "compute.precision": "bfloat16",
            "compute.channels_last": True,
            "compute.micro_batches": 2,
            "compute.sync_batch_norm": True,
            "compute.compile": True,
        },
    )
    check_same_run(stage.state_dict(), changed)
    again = CodeStage(override(changed, {"compute.compile": False}))
    again.load_state_dict(stage.state_dict())
    assert same(again.state_dict()["modules"], stage.state_dict()["modules"])
    assert all(loss.isfinite() for loss in again.step(make_batch(1)).values())


@pytest.mark.parametrize("lasts", [(False, True), (True, False)])
def test_moments_follow_the_memory_order(
    lasts: tuple[bool, bool], tiny: RunConfig, make_batch: MakeBatch
) -> None:
    """Adam's kernels go through weights and moments as they lie in memory."""
    first, second = (override(tiny, {"compute.channels_last": last}) for last in lasts)
    stage, again = CodeStage(first), CodeStage(second)
    stage.step(make_batch())
    again.load_state_dict(stage.state_dict())
    for name, optimiser in stage.optimisers.items():
        theirs = again.optimisers[name]
        for weight, other in zip(
            optimiser.param_groups[0]["params"], theirs.param_groups[0]["params"], strict=True
        ):
            assert theirs.state[other]["exp_avg"].stride() == other.stride()
            weight.grad = torch.ones_like(weight) + weight.detach()
            other.grad = torch.ones_like(other) + other.detach()
        optimiser.step()
        theirs.step()
        for mine, moments in zip(optimiser.state.values(), theirs.state.values(), strict=True):
            torch.testing.assert_close(mine["exp_avg"], moments["exp_avg"])


def test_a_resumed_run_takes_the_settings_of_now(tiny: RunConfig, make_batch: MakeBatch) -> None:
    stage = CodeStage(tiny)
    stage.step(make_batch())
    state = stage.state_dict()
    for saved in state["optimisers"].values():  # as an earlier version saved it
        saved["param_groups"][0] |= {"foreach": True, "fused": None}
    again = CodeStage(override(tiny, {"stage1.lr": 1e-5}))
    again.load_state_dict(state)
    for optimiser in again.optimisers.values():
        (group,) = optimiser.param_groups
        assert (group["lr"], group["foreach"], group["fused"]) == (1e-5, None, True)
