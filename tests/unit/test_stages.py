import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from equality import same

from mixnmatch.codes import sample_free
from mixnmatch.config import RunConfig
from mixnmatch.data.batches import Batch
from mixnmatch.errors import ModelError
from mixnmatch.settings import override
from mixnmatch.training.checkpoints import load_state, save_state
from mixnmatch.training.stage1 import CodeStage
from mixnmatch.training.stage2 import ShapeStage
from mixnmatch.training.state import TrainingStage

MakeBatch = Callable[..., Batch]
STAGES: list[type[Any]] = [CodeStage, ShapeStage]
both = pytest.mark.parametrize("kind", STAGES)


def weights(stage: TrainingStage) -> dict[str, Any]:
    return copy.deepcopy({k: m.state_dict() for k, m in stage.modules().items()})


@both
def test_a_loaded_state_goes_on_bit_for_bit(
    kind: type[Any], tiny: RunConfig, make_batch: MakeBatch, tmp_path: Any
) -> None:
    stage = kind(tiny)
    for number in range(2):
        stage.step(make_batch(number))
    save_state(stage.state_dict(), tmp_path / "state.pt")
    losses = [stage.step(make_batch(number)) for number in (2, 3)]

    again = kind(override(tiny, {"seed": 5}))  # other first weights, other codes
    assert not same(weights(again), weights(stage))
    again.load_state_dict(load_state(tmp_path / "state.pt"))
    assert again.steps_done == 2
    assert same(losses, [again.step(make_batch(number)) for number in (2, 3)])
    left, right = stage.state_dict(), again.state_dict()
    assert left.pop("config") != right.pop("config")
    assert same(left, right)
    assert left["steps_done"] == 4
    assert set(left["modules"]) == set(stage.modules())
    moments = left["optimisers"][next(iter(left["optimisers"]))]["state"][0]
    assert moments["exp_avg"].any()


@both
def test_same_seed_same_stage_and_the_global_random_state_is_left_alone(
    kind: type[Any], tiny: RunConfig, make_batch: MakeBatch
) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = kind(tiny)
    first.step(make_batch())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    second = kind(tiny)
    second.step(make_batch())
    assert same(first.state_dict(), second.state_dict())
    assert not same(weights(first), weights(kind(override(tiny, {"seed": 1}))))


@both
def test_workers_draw_alike_and_take_their_own_part(kind: type[Any], tiny: RunConfig) -> None:
    first, second = (kind(tiny, rank=rank, world_size=2) for rank in range(2))
    alone = kind(tiny)
    assert same(weights(first), weights(second))
    for _ in range(2):
        whole = alone.sample(sample_free, 6, alone.worker_draws())
        halves = [w.sample(sample_free, 3, w.worker_draws()) for w in (first, second)]
        for code, *parts in zip(whole, *halves, strict=True):
            assert torch.equal(code, torch.cat(parts))
        assert not torch.equal(halves[0].z, halves[1].z)
        assert torch.equal(first.random.get_state(), second.random.get_state())
    # So that any worker can go on from worker 0's state.
    first.sample(sample_free, 3, first.worker_draws())
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.random.get_state(), second.random.get_state())


def test_a_state_of_the_other_stage_is_refused(tiny: RunConfig) -> None:
    with pytest.raises(ModelError, match="checkpoint of stage 2: stage 1 is needed"):
        CodeStage(tiny).load_state_dict(ShapeStage(tiny).state_dict())
    with pytest.raises(ModelError, match="checkpoint of stage 1: stage 2 is needed"):
        ShapeStage(tiny).load_state_dict(CodeStage(tiny).state_dict())


@both
def test_a_state_of_other_sizes_is_refused(kind: type[Any], tiny: RunConfig) -> None:
    stage = kind(tiny)
    other = kind(override(tiny, {"model.noise_dim": 7}))
    before = weights(stage)
    with pytest.raises(ModelError, match="noise_dim=7") as caught:
        stage.load_state_dict(other.state_dict())
    assert "noise_dim=5" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert same(weights(stage), before)


@both
@pytest.mark.parametrize("damage", ["module", "weight", "optimiser"])
def test_a_state_that_lacks_something_is_refused(
    kind: type[Any], damage: str, tiny: RunConfig
) -> None:
    stage = kind(tiny)
    state = copy.deepcopy(stage.state_dict())
    if damage == "module":
        del state["modules"]["encoders"]
    elif damage == "weight":
        state["modules"]["encoders"].popitem()
    else:
        state["optimisers"].popitem()
    with pytest.raises(ModelError, match="checkpoint does not fit") as caught:
        stage.load_state_dict(state)
    assert "\n" not in str(caught.value)


def test_stage_2_begins_with_the_average(tiny: RunConfig, make_batch: MakeBatch) -> None:
    first = CodeStage(tiny)
    first.step(make_batch())
    second = ShapeStage.after(first)
    assert same(second.generator.state_dict(), first.average.network.state_dict())
    assert not same(second.generator.state_dict(), first.generator.state_dict())
    assert same(second.encoders.state_dict(), first.encoders.state_dict())
    assert first.encoders.training


def test_stage_2_leaves_generator_and_encoders_alone(
    tiny: RunConfig, make_batch: MakeBatch
) -> None:
    stage = ShapeStage(tiny)
    before = weights(stage)
    for number in range(2):
        stage.step(make_batch(number))
    after = weights(stage)
    for name in ("generator", "encoders"):
        assert same(before[name], after[name])
        assert not any(module.training for module in stage.modules()[name].modules())
    for name in ("extractor", "feature_discriminator"):
        assert not same(before[name], after[name])
        assert stage.modules()[name].training


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_soft_shape_codes(
    probability: float,
    tiny: RunConfig,
    make_batch: MakeBatch,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = ShapeStage(
        replace(tiny, stage2=replace(tiny.stage2, soft_shape_probability=probability))
    )
    shapes = []
    paint = stage.generator.forward

    def spy(codes: Any) -> Any:
        shapes.append(codes)
        return paint(codes)

    monkeypatch.setattr(stage.generator, "forward", spy)
    for number in range(16):
        stage.step(make_batch(number, count=2))
    hard = [bool(((codes.p == 0) | (codes.p == 1)).all()) for codes in shapes]
    assert {0.0: all(hard), 1.0: not any(hard), 0.5: 2 < sum(hard) < 14}[probability]
    for codes in shapes:
        torch.testing.assert_close(codes.p.sum(dim=1), torch.ones(2))
        assert ((codes.c == 0) | (codes.c == 1)).all()


@both
def test_evaluating_leaves_no_trace(
    kind: type[Any], tiny: RunConfig, make_batch: MakeBatch
) -> None:
    stage = kind(tiny)
    modes = {name: module.training for name, module in stage.modules().items()}
    before = weights(stage)
    with stage.evaluating():
        assert not any(m.training for net in stage.modules().values() for m in net.modules())
        stage.modules()["encoders"](make_batch().image)
    assert same(before, weights(stage))
    assert modes == {name: module.training for name, module in stage.modules().items()}
    with pytest.raises(KeyError), stage.evaluating():
        raise KeyError
    assert modes == {name: module.training for name, module in stage.modules().items()}


@both
def test_losses_are_named_and_finite(
    kind: type[Any], tiny: RunConfig, make_batch: MakeBatch
) -> None:
    losses = kind(tiny).step(make_batch())
    assert all(loss.shape == () and not loss.requires_grad for loss in losses.values())
    assert all(torch.isfinite(loss) for loss in losses.values())
    wanted = {"generator/child_code", "pair_d/gradient_penalty", "child_d/real"}
    assert wanted <= losses.keys() if kind is CodeStage else "extractor/feature_l1" in losses
