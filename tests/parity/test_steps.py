"""Whole training steps against a naive formulation, and against their own recorded past.

The naive one concatenates repeated planes, enlarges before it convolves, paints anew for every
network, judges pair by pair, differentiates whatever it meets and averages in a loop. All in
float64, where two ways of adding up the same terms cannot drift apart.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mixnmatch.config import LossWeights, RunConfig
from mixnmatch.data.batches import Batch
from mixnmatch.losses import background_patches
from mixnmatch.training.stage1 import CodeStage
from mixnmatch.training.stage2 import ShapeStage
from mixnmatch.training.state import TrainingStage

MakeBatch = Callable[..., Batch]
NOISE = (0.5, 0.3, 0.3)


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def config(tiny: RunConfig) -> RunConfig:
    weights = LossWeights(
        background_class=0.7, child_real=1.3, pair=0.9, parent_code=1.1, child_code=0.8
    )
    stage2 = replace(tiny.stage2, discriminator_lr=3e-4, soft_shape_probability=0.5)
    return replace(tiny, weights=weights, stage2=stage2, seed=11)


def double(stage: TrainingStage) -> Any:
    for module in stage.modules().values():
        module.double()
    return stage


class Painted(NamedTuple):
    background: Tensor
    parent: Tensor
    child: Tensor
    image: Tensor
    feature: Tensor


def glu(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=1)
    return first * torch.sigmoid(second)


def same(block: Any, x: Tensor) -> Tensor:
    return glu(block[1](F.conv2d(x, block[0].weight, padding=1)))


def residuals(blocks: Any, x: Tensor) -> Tensor:
    for block in blocks:
        inner = same(block.block, x)
        x = x + block.block[4](F.conv2d(inner, block.block[3].weight, padding=1))
    return x


def stage_of(painter: Any, *codes: Tensor) -> Tensor:
    hidden = glu(painter[1](torch.cat(codes, dim=1) @ painter[0].weight.T))
    hidden = hidden.reshape(len(hidden), -1, 4, 4)
    for block in list(painter)[4:]:
        large = F.interpolate(hidden, scale_factor=2, mode="nearest")
        hidden = glu(block[1](F.conv2d(large, block[0].weight, padding=1)))
    return hidden


def planes(code: Tensor, side: int) -> Tensor:
    return code.reshape(*code.shape, 1, 1).repeat(1, 1, side, side)


def paint(generator: Any, z: Tensor, b: Tensor, p: Tensor, c: Tensor) -> Painted:
    background = generator.background_image(stage_of(generator.background_stage, z, b))
    side = background.shape[-1]
    hidden = stage_of(generator.parent_stage, z, p)
    hidden = same(generator.parent_joint, torch.cat([hidden, planes(p, side)], dim=1))
    feature = residuals(generator.parent_residual, hidden)
    foreground, mask = generator.parent_canvas.image(feature), generator.parent_canvas.mask(feature)
    parent = mask * foreground
    behind = parent + (1 - mask) * background
    hidden = same(generator.child_joint, torch.cat([planes(c, side), feature], dim=1))
    hidden = same(generator.child_same, residuals(generator.child_residual, hidden))
    foreground, mask = generator.child_canvas.image(hidden), generator.child_canvas.mask(hidden)
    child = mask * foreground
    return Painted(background, parent, child, child + (1 - mask) * behind, feature)


def encode(encoders: Any, image: Tensor) -> list[Tensor]:
    z = 4 * torch.tanh(encoders.z(image))
    return [z, *(F.softmax(getattr(encoders, k)(image), dim=1) for k in "bpc")]


def critic_score(critic: Any, image: Tensor, code: Tensor, random: torch.Generator) -> Tensor:
    hidden = code
    for layer, deviation in zip(critic.code_path, NOISE, strict=True):
        hidden = F.leaky_relu(hidden @ layer.weight.T + layer.bias, 0.2)
        hidden = hidden + deviation * torch.randn(hidden.shape, generator=random)
    return critic.joint(torch.cat([critic.image_path(image), hidden], dim=1))


def cross_entropy(logits: Tensor, code: Tensor) -> Tensor:
    return -(code * F.log_softmax(logits, dim=1)).sum(dim=1).mean()


def bce(logits: Tensor, target: float) -> Tensor:
    return F.binary_cross_entropy(torch.sigmoid(logits), torch.full_like(logits, target))


class Naive:
    """Copies of a stage's networks, and plain optimisers of its settings."""

    def __init__(self, stage: TrainingStage, learning: dict[str, tuple[list[nn.Module], float]]):
        self.config = stage.config
        schedule = stage.config.stage1 if stage.number == 1 else stage.config.stage2
        self.random = torch.Generator().set_state(stage.random.get_state())
        self.optimisers = {
            name: torch.optim.Adam(
                [p for module in modules for p in module.parameters()],
                lr=lr,
                betas=(schedule.beta1, schedule.beta2),
                foreach=False,
            )
            for name, (modules, lr) in learning.items()
        }

    def learn(self, name: str, loss: Tensor, networks: list[Any]) -> None:
        for network in networks:
            network.zero_grad()
        loss.backward()
        self.optimisers[name].step()

    def tied_codes(self, count: int) -> list[Tensor]:
        model = self.config.model
        c = torch.randint(model.fine_categories, (count,), generator=self.random)
        z = torch.randn(count, model.noise_dim, generator=self.random)
        p = c // (model.fine_categories // model.super_categories)
        fine, supers = torch.eye(model.fine_categories), torch.eye(model.super_categories)
        return [z, fine[c], supers[p], fine[c]]

    def free_codes(self, count: int) -> list[Tensor]:
        model = self.config.model
        z = torch.randn(count, model.noise_dim, generator=self.random)
        sizes = (model.fine_categories, model.super_categories, model.fine_categories)
        picks = [torch.randint(size, (count,), generator=self.random) for size in sizes]
        return [z, *(torch.eye(size)[pick] for size, pick in zip(sizes, picks, strict=True))]


class NaiveStage1(Naive):
    def __init__(self, stage: CodeStage) -> None:
        networks = copy.deepcopy(stage.modules())
        self.networks: dict[str, Any] = networks
        child: Any = networks["child_discriminator"]
        lr = stage.config.stage1.lr
        super().__init__(
            stage,
            {
                "background": ([networks["background_discriminator"]], lr),
                "child": ([child.trunk, child.real_head], lr),
                "pair": ([networks["pair_discriminators"]], lr),
                "generator": (
                    [
                        networks["generator"],
                        networks["encoders"],
                        networks["parent_classifier"],
                        child.code_head,
                    ],
                    lr,
                ),
            },
        )

    def step(self, batch: Batch) -> dict[str, float]:
        weights, side = self.config.weights, self.config.model.image_size
        nets, count = self.networks, len(batch.image)
        generator, encoders = nets["generator"], nets["encoders"]
        background_d, child_d = nets["background_discriminator"], nets["child_discriminator"]
        critics = [getattr(nets["pair_discriminators"], name) for name in "zbpc"]
        every = list(nets.values())[:1] + list(nets.values())[2:]
        losses: dict[str, Tensor] = {}
        codes = self.tied_codes(count)

        def smaller(image: Tensor) -> Tensor:
            return F.interpolate(image, (side - 2, side - 2), mode="bilinear", align_corners=True)

        # Background discriminator.
        fake = smaller(paint(generator, *codes).background)
        free = background_patches(batch.background_box, side).double()
        real_scores = background_d(batch.background).real
        losses["background_d/free_patches"] = share = free.mean()
        per_patch = F.binary_cross_entropy(
            torch.sigmoid(real_scores), torch.ones_like(real_scores), reduction="none"
        )
        losses["background_d/real"] = (per_patch * free).mean() / share
        losses["background_d/fake"] = bce(background_d(fake).real, 0)
        kinds = torch.sigmoid(background_d(batch.background).background)
        losses["background_d/class"] = F.binary_cross_entropy(kinds, free)
        loss = weights.background_real * (losses["background_d/real"] + losses["background_d/fake"])
        loss = loss + weights.background_class * losses["background_d/class"]
        self.learn("background", loss, every)

        # Child discriminator.
        losses["child_d/real"] = bce(child_d.real_logits(batch.image), 1)
        losses["child_d/fake"] = bce(child_d.real_logits(paint(generator, *codes).image), 0)
        loss = weights.child_real * (losses["child_d/real"] + losses["child_d/fake"])
        self.learn("child", loss, every)

        # Pair discriminators.
        image = paint(generator, *codes).image.detach()
        encoded = [code.detach() for code in encode(encoders, batch.image)]

        def score(picture: Tensor, four: list[Tensor]) -> Tensor:
            total: Any = 0
            for critic, code in zip(critics, four, strict=True):
                total = total + critic_score(critic, picture, code, self.random).mean()
            return total

        losses["pair_d/real_score"] = score(batch.image, encoded)
        losses["pair_d/fake_score"] = score(image, codes)
        weight = torch.rand(count, 1, 1, 1, generator=self.random)
        between = (1 - weight) * batch.image + weight * image
        mixed = []
        for real, made in zip(encoded, codes, strict=True):
            weight = torch.rand(count, 1, generator=self.random)
            mixed.append(((1 - weight) * real + weight * made).requires_grad_())
        penalty: Any = 0
        for critic, code in zip(critics, mixed, strict=True):
            picture = between.clone().requires_grad_()
            value = critic_score(critic, picture, code, self.random).sum()
            for gradient in torch.autograd.grad(value, [picture, code], create_graph=True):
                norm = gradient.reshape(count, -1).pow(2).sum(dim=1).sqrt()
                penalty = penalty + (norm - 1).pow(2).mean()
        losses["pair_d/gradient_penalty"] = penalty
        loss = weights.pair * (losses["pair_d/fake_score"] - losses["pair_d/real_score"])
        self.learn("pair", loss + weights.gradient_penalty * penalty, every)

        # Generator, encoders and what reads the codes back.
        painted = paint(generator, *codes)
        scores = background_d(smaller(painted.background))
        own = {
            "background_real": bce(scores.real, 1),
            "background_class": bce(scores.background, 1),
            "child_real": bce(child_d.real_logits(painted.image), 1),
            "parent_code": cross_entropy(nets["parent_classifier"](painted.parent), codes[2]),
            "child_code": cross_entropy(child_d.code_logits(painted.child), codes[3]),
        }
        own["pair"] = score(batch.image, encode(encoders, batch.image))
        own["pair"] = own["pair"] - score(painted.image, codes)
        z, b, p, c = self.free_codes(count)
        image = paint(generator, z, b, p, c).image.detach()
        own["encode_z"] = (4 * torch.tanh(encoders.z(image)) - z).abs().mean()
        own["encode_b"] = cross_entropy(encoders.b(image), b)
        own["encode_p"] = cross_entropy(encoders.p(image), p)
        own["encode_c"] = cross_entropy(encoders.c(image), c)
        total: Any = 0
        for name, value in own.items():
            total = total + getattr(weights, name) * value
            losses[f"generator/{name}"] = value
        self.learn("generator", total, every)

        decay = self.config.stage1.ema_decay
        average = nets["generator_average"]
        with torch.no_grad():
            for mine, live in zip(average.parameters(), generator.parameters(), strict=True):
                mine.copy_(decay * mine + (1 - decay) * live)
        return {name: value.item() for name, value in losses.items()}


class NaiveStage2(Naive):
    def __init__(self, stage: ShapeStage) -> None:
        networks = copy.deepcopy(stage.modules())
        self.networks: dict[str, Any] = networks
        rates = stage.config.stage2
        super().__init__(
            stage,
            {
                "feature": ([networks["feature_discriminator"]], rates.discriminator_lr),
                "extractor": ([networks["extractor"]], rates.lr),
            },
        )

    def step(self, batch: Batch) -> dict[str, float]:
        weights, model = self.config.weights, self.config.model
        extractor = self.networks["extractor"]
        discriminator = self.networks["feature_discriminator"]
        count = len(batch.image)
        z, b, p, c = self.free_codes(count)
        soft = torch.rand((), generator=self.random) < self.config.stage2.soft_shape_probability
        noise = torch.randn(count, model.super_categories, generator=self.random)
        if soft:
            p = F.softmax(noise, dim=1)
        painted = paint(self.networks["generator"], z, b, p, c)

        fake = bce(discriminator(extractor(batch.image)), 0)
        real = bce(discriminator(painted.feature), 1)
        self.learn("feature", fake + real, [extractor, discriminator])

        adversarial = bce(discriminator(extractor(batch.image)), 1)
        distance = (extractor(painted.image) - painted.feature).abs().mean()
        loss = weights.feature_adversarial * adversarial + weights.feature_l1 * distance
        self.learn("extractor", loss, [extractor, discriminator])
        return {
            "feature_d/real": real.item(),
            "feature_d/fake": fake.item(),
            "extractor/feature_adversarial": adversarial.item(),
            "extractor/feature_l1": distance.item(),
        }


def check_parity(stage: TrainingStage, naive: Any, make_batch: MakeBatch) -> None:
    begun = copy.deepcopy(stage.modules())
    for number in range(3):
        batch = make_batch(number)
        ours = {name: value.item() for name, value in stage.step(batch).items()}
        assert ours == pytest.approx(naive.step(batch), rel=1e-7, abs=1e-10), number
    for name, module in stage.modules().items():
        theirs = dict(naive.networks[name].named_parameters())
        for key, value in module.named_parameters():
            torch.testing.assert_close(
                value, theirs[key], rtol=1e-7, atol=1e-9, msg=f"{name} {key}"
            )
        if name in ("generator", "encoders") and stage.number == 2:
            continue
        for key, value in begun[name].named_parameters():
            assert key.endswith("bias") or not torch.equal(value, theirs[key]), f"{name} {key}"


def test_stage_1_is_the_naive_one(config: RunConfig, make_batch: MakeBatch) -> None:
    stage = double(CodeStage(config))
    check_parity(stage, NaiveStage1(stage), make_batch)


def test_stage_2_is_the_naive_one(config: RunConfig, make_batch: MakeBatch) -> None:
    stage = double(ShapeStage(config))
    check_parity(stage, NaiveStage2(stage), make_batch)


def names_of(stage: TrainingStage) -> dict[int, str]:
    return {
        id(parameter): f"{network}.{key}"
        for network, module in stage.modules().items()
        for key, parameter in module.named_parameters()
    }


OWNERS = {
    CodeStage: {
        "background": ("background_discriminator.",),
        "child": ("child_discriminator.trunk.", "child_discriminator.real_head."),
        "pair": ("pair_discriminators.",),
        "generator": (
            "generator.",
            "encoders.",
            "parent_classifier.",
            "child_discriminator.code_head.",
        ),
    },
    ShapeStage: {"extractor": ("extractor.",), "feature": ("feature_discriminator.",)},
}
UNTRAINED = {CodeStage: ("generator_average.",), ShapeStage: ("generator.", "encoders.")}


@pytest.mark.parametrize("kind", OWNERS)
def test_each_weight_has_one_optimiser(kind: type[TrainingStage], config: RunConfig) -> None:
    stage = kind(config)
    names = names_of(stage)
    left = set(names.values())
    assert stage.optimisers.keys() == OWNERS[kind].keys()
    for optimiser, prefixes in OWNERS[kind].items():
        (group,) = stage.optimisers[optimiser].param_groups
        owned = [names[id(parameter)] for parameter in group["params"]]
        assert len(owned) == len(set(owned))
        assert set(owned) == {name for name in names.values() if name.startswith(prefixes)}
        left -= set(owned)
    assert left == {name for name in names.values() if name.startswith(UNTRAINED[kind])}


@pytest.mark.parametrize("kind", OWNERS)
def test_a_phase_touches_nothing_but_its_own(
    kind: type[TrainingStage], config: RunConfig, make_batch: MakeBatch
) -> None:
    stage = double(kind(config))
    names = names_of(stage)
    parameters = {names[id(p)]: p for m in stage.modules().values() for p in m.parameters()}
    kept: dict[str, Tensor] = {}
    order = []

    def keep() -> None:
        for name, parameter in parameters.items():
            parameter.grad = None
            kept[name] = parameter.detach().clone()

    def watch(phase: str, optimiser: torch.optim.Optimizer) -> None:
        def before(*_: object) -> None:
            own = {names[id(p)] for p in optimiser.param_groups[0]["params"]}
            assert {name for name, p in parameters.items() if p.grad is not None} == own
            assert {name for name, p in parameters.items() if not torch.equal(p, kept[name])} == (
                set()
            )

        def after(*_: object) -> None:
            own = {names[id(p)] for p in optimiser.param_groups[0]["params"]}
            changed = {name for name, p in parameters.items() if not torch.equal(p, kept[name])}
            # A critic's last bias drops out of the difference of its scores.
            assert {n for n in own - changed if not n.endswith("joint.2.bias")} == set()
            assert changed <= own
            order.append(phase)
            keep()

        optimiser.register_step_pre_hook(before)
        optimiser.register_step_post_hook(after)

    for phase, optimiser in stage.optimisers.items():
        watch(phase, optimiser)
    keep()
    stage.step(make_batch())
    assert order == (["background", "child", "pair", "generator"] if stage.number == 1 else order)
    assert sorted(order) == sorted(stage.optimisers)
    changed = {name for name, p in parameters.items() if not torch.equal(p, kept[name])}
    assert changed == {name for name in names.values() if name.startswith("generator_average.")}
    trainable = {name for name, p in parameters.items() if p.requires_grad}
    assert trainable == {n for n in names.values() if not n.startswith(UNTRAINED[kind])}


def test_the_average_follows(config: RunConfig, make_batch: MakeBatch) -> None:
    stage = double(CodeStage(config))
    average = dict(stage.average.network.named_parameters())
    assert not stage.average.network.training
    for number in range(2):
        before = {name: value.clone() for name, value in average.items()}
        stage.step(make_batch(number))
        for name, live in stage.generator.named_parameters():
            expected = 0.9 * before[name] + 0.1 * live
            torch.testing.assert_close(average[name], expected, rtol=1e-12, atol=1e-14)
        buffers = dict(stage.average.network.named_buffers())
        for name, live_buffer in stage.generator.named_buffers():
            assert torch.equal(buffers[name], live_buffer), name
    assert not torch.equal(buffers["parent_joint.1.running_mean"], torch.zeros(4))


# Steps 1, 10 and 20. A refactor must keep them; a change of the method records new ones.
RECORDED = {
    "background_d/real": (0.944563, 0.851242, 0.764779),
    "background_d/fake": (0.587989, 0.64043, 0.695731),
    "background_d/class": (0.688957, 0.642845, 0.623072),
    "background_d/free_patches": (0.679688, 0.806858, 0.771267),
    "child_d/real": (0.632674, 0.55863, 0.821095),
    "child_d/fake": (0.97751, 0.911943, 0.62149),
    "pair_d/real_score": (0.0738061, 0.0322959, 0.152985),
    "pair_d/fake_score": (0.123253, -0.0394083, 0.00355148),
    "pair_d/gradient_penalty": (7.89565, 7.7887, 7.56387),
    "generator/background_real": (0.822643, 0.75782, 0.697789),
    "generator/background_class": (0.650756, 0.621685, 0.598219),
    "generator/child_real": (0.656647, 0.661319, 0.868229),
    "generator/parent_code": (0.775418, 0.43518, 0.134081),
    "generator/child_code": (1.32244, 1.53611, 1.59624),
    "generator/pair": (0.0202544, 0.0701142, 0.0365059),
    "generator/encode_z": (1.50972, 1.46457, 1.8913),
    "generator/encode_b": (1.31767, 1.25904, 1.38276),
    "generator/encode_p": (0.574969, 0.749006, 0.423205),
    "generator/encode_c": (1.42649, 1.59446, 1.23748),
    "feature_d/real": (0.778317, 0.755173, 0.761201),
    "feature_d/fake": (0.683233, 0.644366, 0.603147),
    "extractor/feature_adversarial": (0.78615, 0.830411, 0.876705),
    "extractor/feature_l1": (0.841652, 0.783497, 0.700323),
}


@pytest.mark.parametrize("kind", OWNERS)
def test_twenty_steps_as_recorded(
    kind: type[TrainingStage], config: RunConfig, make_batch: MakeBatch
) -> None:
    stage = double(kind(config))
    history = [stage.step(make_batch(number)) for number in range(20)]
    for name in history[0]:
        now = tuple(history[step][name].item() for step in (0, 9, 19))
        assert now == pytest.approx(RECORDED[name], rel=1e-3), name
