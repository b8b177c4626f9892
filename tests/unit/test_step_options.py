"""What a step does where the settings ask for more than the published one."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from equality import same
from torch import Tensor, nn

from mixnmatch.config import RunConfig
from mixnmatch.data.batches import Batch
from mixnmatch.losses import r1_penalty
from mixnmatch.networks import ChildDiscriminator
from mixnmatch.networks.normalisation import BatchNorm
from mixnmatch.settings import override
from mixnmatch.training import stage1
from mixnmatch.training.stage1 import CodeStage
from mixnmatch.training.stage2 import ShapeStage
from mixnmatch.training.state import TrainingStage

MakeBatch = Callable[..., Batch]
STAGES: list[type[Any]] = [CodeStage, ShapeStage]
both = pytest.mark.parametrize("kind", STAGES, ids=["stage1", "stage2"])


@pytest.fixture
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def double(stage: Any) -> Any:
    for module in stage.modules().values():
        module.double()
    return stage


def weights(stage: TrainingStage) -> dict[str, Any]:
    return copy.deepcopy({k: m.state_dict() for k, m in stage.modules().items()})


def gradients(stage: TrainingStage) -> dict[str, list[Tensor]]:
    """The gradients of each phase as its optimiser sees them: filled at each step."""
    seen: dict[str, list[Tensor]] = {}

    def keep(phase: str, optimiser: torch.optim.Optimizer) -> None:
        def before(*_: object) -> None:
            group = optimiser.param_groups[0]["params"]
            seen[phase] = [p.grad.clone() for p in group if p.grad is not None]

        optimiser.register_step_pre_hook(before)

    for phase, optimiser in stage.optimisers.items():
        keep(phase, optimiser)
    return seen


# Packs of pictures (PacGAN)


def test_a_pack_is_judged_together_and_its_textures_are_read_apart(tiny: RunConfig) -> None:
    torch.manual_seed(0)
    critic = ChildDiscriminator(override(tiny, {"model.pack_size": 2}).model).eval()
    image = torch.randn(4, 3, 32, 32, requires_grad=True)
    real, code = critic.real_logits(image), critic.code_logits(image)
    assert (real.shape, code.shape) == ((2, 1), (4, 4))

    def seen_by(logit: Tensor) -> list[bool]:
        (gradient,) = torch.autograd.grad(logit.sum(), image, retain_graph=True)
        return gradient.flatten(1).any(dim=1).tolist()

    assert seen_by(real[0]) == [True, True, False, False]
    assert seen_by(real[1]) == [False, False, True, True]
    for number in range(4):
        assert seen_by(code[number]) == [k == number for k in range(4)]
    # Each of the two has its own say.
    turned = critic.real_logits(image[[1, 0, 2, 3]])
    assert turned[0] != real[0]
    assert torch.allclose(turned[1], real[1])


def test_packs_of_one_are_the_published_discriminator(tiny: RunConfig) -> None:
    torch.manual_seed(0)
    critic = ChildDiscriminator(tiny.model).eval()
    image = torch.randn(4, 3, 32, 32)
    feature = critic.trunk(image)
    assert torch.equal(critic.real_logits(image), critic.real_head(feature))
    assert torch.equal(critic.code_logits(image), critic.code_head(feature))


@pytest.mark.parametrize("parts", [1, 2])
def test_a_stage_with_packs_learns(parts: int, tiny: RunConfig, make_batch: MakeBatch) -> None:
    stage = CodeStage(override(tiny, {"model.pack_size": 2, "compute.micro_batches": parts}))
    before, batch = weights(stage), make_batch()
    history = [stage.step(batch) for _ in range(4)]
    assert all(loss.isfinite() for losses in history for loss in losses.values())
    assert not same(before["child_discriminator"], weights(stage)["child_discriminator"])
    assert history[-1]["child_d/real"] < 0.7 * history[0]["child_d/real"]


# Micro-batches


@both
def test_an_optimiser_takes_one_step_for_all_parts(
    kind: type[Any], tiny: RunConfig, make_batch: MakeBatch
) -> None:
    stage = kind(override(tiny, {"compute.micro_batches": 2}))
    steps: list[str] = []
    for phase, optimiser in stage.optimisers.items():
        optimiser.register_step_post_hook(lambda *_, phase=phase: steps.append(phase))
    losses = stage.step(make_batch())
    assert sorted(steps) == sorted(stage.optimisers)
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert losses.keys() == kind(tiny).step(make_batch()).keys()


@both
def test_parts_of_all_workers_draw_as_one_would(kind: type[Any], tiny: RunConfig) -> None:
    divided = override(tiny, {"compute.micro_batches": 2})
    stages = [kind(divided, rank=rank, world_size=3) for rank in range(3)]
    alone = kind(tiny)
    for _ in range(2):  # two phases
        (whole,) = (draws.normal(12, 5) for draws in alone._draws())
        drawn = [draws.normal(2, 5) for stage in stages for draws in stage._draws()]
        assert torch.equal(torch.cat(drawn), whole)
    for stage in stages:
        assert torch.equal(stage.random.get_state(), alone.random.get_state())


@contextmanager
def shown_to(network: nn.Module) -> Iterator[dict[str, list[tuple[Tensor, float]]]]:
    """What each batch norm is shown in training, with its momentum."""
    seen: dict[str, list[tuple[Tensor, float]]] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor]) -> None:
            seen.setdefault(name, []).append((inputs[0].detach().clone(), layer.momentum))

        return hook

    hooks = [
        layer.register_forward_pre_hook(keep(name))
        for name, layer in network.named_modules()
        if isinstance(layer, BatchNorm)
    ]
    yield seen
    for handle in hooks:
        handle.remove()


@pytest.mark.parametrize(
    ("kind", "name"), [(CodeStage, "generator"), (CodeStage, "encoders"), (ShapeStage, "extractor")]
)
@pytest.mark.parametrize("parts", [1, 2])
def test_statistics_move_once_for_each_part(
    kind: type[Any], name: str, parts: int, tiny: RunConfig, make_batch: MakeBatch
) -> None:
    stage = kind(override(tiny, {"compute.micro_batches": parts}))
    network = stage.modules()[name]
    layers = dict(network.named_modules())
    means = {key: layer.running_mean.clone() for key, layer in layers.items() if is_norm(layer)}
    with shown_to(network) as seen:
        stage.step(make_batch())
    assert seen.keys() == means.keys()
    for key, mean in means.items():
        # Of a step's own pictures, and of those of a second loss; the same ones again do not count.
        moving = [x for x, momentum in seen[key] if momentum]
        again = [x for x, momentum in seen[key] if not momentum]
        assert len(moving) == 2 * parts
        assert len(again) == (parts if parts > 1 else 0)
        for x, first in zip(again, moving, strict=False):
            torch.testing.assert_close(x, first)
        for x in moving:
            mean.lerp_(x.transpose(0, 1).flatten(1).mean(dim=1), 0.1)
        torch.testing.assert_close(layers[key].running_mean, mean)


def is_norm(layer: nn.Module) -> bool:
    return isinstance(layer, BatchNorm)


# R1


def test_without_weight_r1_costs_nothing(
    tiny: RunConfig, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("R1 was computed")

    monkeypatch.setattr(stage1, "r1_penalty", refuse)
    assert "child_d/r1" not in CodeStage(tiny).step(make_batch())
    with pytest.raises(AssertionError, match="R1 was computed"):
        CodeStage(override(tiny, {"weights.child_r1": 1.0})).step(make_batch())


def test_r1_comes_every_so_many_steps_and_counts_as_many_times(
    float64: None, tiny: RunConfig, make_batch: MakeBatch
) -> None:
    config = override(tiny, {"weights.child_r1": 0.7, "stage1.r1_every_steps": 3})
    stage, plain = double(CodeStage(config)), double(CodeStage(tiny))
    ours, without = gradients(stage), gradients(plain)
    critic = copy.deepcopy(stage.child_discriminator)
    batch = make_batch()
    penalty = r1_penalty(critic.real_logits, batch.image)
    losses = stage.step(batch)
    plain.step(batch)
    assert losses["child_d/r1"].item() == pytest.approx(penalty.item(), rel=1e-10)
    penalised = [*critic.trunk.parameters(), *critic.real_head[0].parameters()]
    expected = torch.autograd.grad(penalty, penalised, allow_unused=True)
    for mine, bare, part in zip(ours["child"], without["child"], expected, strict=True):
        right = bare if part is None else bare + 0.7 * 3 * part
        torch.testing.assert_close(mine, right, rtol=1e-8, atol=1e-12)
    # It draws nothing.
    assert torch.equal(stage.random.get_state(), plain.random.get_state())
    again = [stage.step(batch, watch=number == 1) for number in range(4)]
    assert ["child_d/r1" in said for said in again] == [False, True, True, False]
    # Between two of them the last one is told where somebody watches.
    assert torch.equal(again[1]["child_d/r1"], losses["child_d/r1"])


# Changes before the child discriminator


def test_real_and_painted_pictures_are_changed_apart(
    tiny: RunConfig, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = override(tiny, {"stage1.augment": "translation,color"})
    calls: list[tuple[Tensor, tuple[str, ...], Tensor]] = []
    change = stage1.augment

    def spy(images: Tensor, policies: tuple[str, ...], draws: Any) -> Tensor:
        calls.append((images, policies, draws.generator.get_state()))
        return change(images, policies, draws)

    monkeypatch.setattr(stage1, "augment", spy)
    stage, batch = CodeStage(config), make_batch()
    stage.step(batch)
    assert [policies for _, policies, _ in calls] == [("translation", "color")] * 3
    assert torch.equal(calls[0][0], batch.image)
    assert not calls[1][0].requires_grad
    assert torch.equal(calls[1][0], calls[2][0])
    assert calls[2][0].requires_grad  # what the generator learns from goes through them, too
    states = {tuple(state.tolist()) for _, _, state in calls}
    assert len(states) == 3


# What tells of a collapse

WATCHED = {
    CodeStage: {
        "background/gradient_norm",
        "child/gradient_norm",
        "pair/gradient_norm",
        "generator/gradient_norm",
        "background_d/real_logit",
        "background_d/fake_logit",
        "child_d/real_logit",
        "child_d/fake_logit",
    },
    ShapeStage: {
        "feature/gradient_norm",
        "extractor/gradient_norm",
        "feature_d/real_logit",
        "feature_d/fake_logit",
    },
}


@both
@pytest.mark.parametrize("parts", [1, 2])
def test_watched_figures(
    kind: type[Any], parts: int, tiny: RunConfig, make_batch: MakeBatch
) -> None:
    config = override(tiny, {"compute.micro_batches": parts})
    stage, unwatched = kind(config), kind(config)
    seen = gradients(stage)
    losses, bare = stage.step(make_batch(), watch=True), unwatched.step(make_batch())
    assert losses.keys() - bare.keys() == WATCHED[kind]
    assert same({name: losses[name] for name in bare}, bare)
    assert same(stage.state_dict(), unwatched.state_dict())
    for name in WATCHED[kind]:
        assert losses[name].shape == ()
        assert torch.isfinite(losses[name])
        assert not losses[name].requires_grad
    for phase, found in seen.items():
        squares = sum(float((gradient.double() ** 2).sum()) for gradient in found)
        norm = losses[f"{phase}/gradient_norm"].item()
        assert norm == pytest.approx(squares**0.5, rel=1e-5)
        assert norm > 0


def test_watched_logits(tiny: RunConfig, make_batch: MakeBatch) -> None:
    stage, batch = CodeStage(tiny), make_batch()
    child = copy.deepcopy(stage.child_discriminator)
    background = copy.deepcopy(stage.background_discriminator)
    with torch.no_grad():
        expected = {
            "child_d/real_logit": child.real_logits(batch.image).mean(),
            "background_d/real_logit": background(batch.background).real.mean(),
        }
    losses = stage.step(batch, watch=True)
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value)


# Precision

LOSS_SHARE, LOSS_OFFSET = 0.05, 0.05
"""How far a first step's losses in bfloat16 may be from those in float32."""


@both
def test_a_step_in_bfloat16(kind: type[Any], tiny: RunConfig, make_batch: MakeBatch) -> None:
    changes = {"weights.child_r1": 0.5}
    stage = kind(override(tiny, {**changes, "compute.precision": "bfloat16"}))
    reference = kind(override(tiny, changes))
    assert stage.bfloat16
    assert not reference.bfloat16
    seen, widths = gradients(stage), set()
    for module in stage.modules().values():
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_hook(lambda _, __, answer: widths.add(answer.dtype))
    losses, expected = (
        stage.step(make_batch(), watch=True),
        reference.step(make_batch(), watch=True),
    )
    assert torch.bfloat16 in widths  # the networks do compute in it
    for name, value in expected.items():
        assert losses[name].dtype == torch.float32, name
        if not name.endswith("gradient_norm"):
            wanted = pytest.approx(value.item(), rel=LOSS_SHARE, abs=LOSS_OFFSET)
            assert losses[name].item() == wanted, name
    for found in seen.values():
        for gradient in found:
            assert gradient.dtype == torch.float32
            assert gradient.isfinite().all()
    for module in stage.modules().values():
        for value in module.state_dict().values():
            assert value.dtype in (torch.float32, torch.int64)
            assert value.isfinite().all()
    assert not same(weights(stage), weights(reference))


@both
def test_bfloat16_leaves_float64_alone(
    float64: None, kind: type[Any], tiny: RunConfig, make_batch: MakeBatch
) -> None:
    stages = [
        double(kind(override(tiny, {"compute.precision": precision, "weights.child_r1": 0.5})))
        for precision in ("bfloat16", "float32")
    ]
    losses = [stage.step(make_batch(), watch=True) for stage in stages]
    assert same(*losses)
    assert same(*map(weights, stages))


def test_penalties_are_not_rounded(
    tiny: RunConfig, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    for name in ("r1_penalty", "gradient_penalty", "real_loss"):
        penalty = getattr(stage1, name)

        def spy(*inputs: Any, name: str = name, penalty: Any = penalty) -> Tensor:
            seen.append((name, torch.is_autocast_enabled("cpu")))
            return penalty(*inputs)

        monkeypatch.setattr(stage1, name, spy)
    changes = {"compute.precision": "bfloat16", "weights.child_r1": 1.0}
    CodeStage(override(tiny, changes)).step(make_batch())
    assert {("r1_penalty", False), ("gradient_penalty", False), ("real_loss", True)} == set(seen)
