"""Both training steps in their plain formulation: what the tests and the benchmark compare with.

It reads as the method is written, and every saving is left out: code planes are repeated and
concatenated, up-blocks enlarge before they convolve, boxes are masked one by one, the penalty asks
for gradients pair by pair, ``backward`` computes the gradients of every weight that it meets, and
Adam and the average go weight by weight. As in the original, pictures and codes that several phases
want are made once, and detached where a discriminator learns from them, so that the comparison is
with the original's work and not with more. What the original computes and drops (the head of the
child discriminator that a loss does not read) is left out here too.

It has the precision of the stage's weights, and draws what the stage would draw.
"""

import math
from typing import Any

import torch
from plain_networks import (
    Painted,
    Weights,
    critic_score,
    extract,
    paint,
    patch_feature,
    read_code,
    read_codes,
    real_child,
    smaller,
)
from torch import Tensor
from torch.nn import functional as F

from mixnmatch.config import Stage1Config, Stage2Config
from mixnmatch.data.batches import Batch
from mixnmatch.training.stage1 import CodeStage
from mixnmatch.training.stage2 import ShapeStage
from mixnmatch.training.state import TrainingStage

PATCHES = 24


def cross_entropy(logits: Tensor, code: Tensor) -> Tensor:
    return -(code * F.log_softmax(logits, dim=1)).sum(dim=1).mean()


def bce(logits: Tensor, target: float) -> Tensor:
    return F.binary_cross_entropy(torch.sigmoid(logits), torch.full_like(logits, target))


def free_patches(boxes: Tensor, image_size: int) -> Tensor:
    """1 for a patch whose receptive field does not meet the box, else 0; box by box."""
    field, stride = 1, 1
    for conv_stride in [2] * int(math.log2(image_size // 32)) + [1, 1]:
        field += 3 * stride
        stride *= conv_stride

    def met(low: float, high: float) -> slice:
        first, end = math.floor((low - field) / stride) + 1, math.ceil(high / stride)
        return slice(max(0, first), max(0, end))

    free = torch.ones(len(boxes), 1, PATCHES, PATCHES, dtype=boxes.dtype, device=boxes.device)
    for i in range(len(boxes)):
        x1, y1, x2, y2 = boxes[i].tolist()
        if x2 > x1 and y2 > y1:
            free[i, :, met(y1, y2), met(x1, x2)] = 0
    return free


class Plain:
    """A step's own copies of a stage's networks, with its random state.

    Args:
        stage: What the first step begins with.
        schedule: Settings of the optimisers.
    """

    def __init__(self, stage: TrainingStage, schedule: Stage1Config | Stage2Config) -> None:
        self.config = stage.config
        self.betas = (schedule.beta1, schedule.beta2)
        self.networks = {name: Weights(network) for name, network in stage.modules().items()}
        self.random = torch.Generator(stage.device)
        self.random.set_state(stage.random.get_state())
        precision = self.networks["generator"].values["child_joint.0.weight"].dtype
        self.draw: Any = {"generator": self.random, "device": stage.device, "dtype": precision}
        self.optimisers: dict[str, torch.optim.Optimizer] = {}

    def adam(self, weights: list[Tensor], lr: float) -> torch.optim.Adam:
        """Adam that goes weight by weight."""
        return torch.optim.Adam(weights, lr=lr, betas=self.betas, foreach=False)

    def learn(self, phase: str, loss: Tensor) -> None:
        for network in self.networks.values():
            for weight in network.parameters():
                weight.grad = None
        loss.backward()
        self.optimisers[phase].step()

    def names(self) -> dict[int, str]:
        """Names of all weights and buffers by their id."""
        return {
            id(value): f"{network}.{name}"
            for network, weights in self.networks.items()
            for name, value in weights.values.items()
        }

    def uniform(self, categories: int, count: int) -> Tensor:
        draw: Any = {"generator": self.random, "device": self.random.device}
        return torch.randint(categories, (count,), **draw)

    def one_hot(self, picks: Tensor, categories: int) -> Tensor:
        return F.one_hot(picks, categories).to(self.draw["dtype"])

    def tied_codes(self, count: int) -> list[Tensor]:
        model = self.config.model
        c = self.uniform(model.fine_categories, count)
        z = torch.randn(count, model.noise_dim, **self.draw)
        fine = self.one_hot(c, model.fine_categories)
        parent = c // (model.fine_categories // model.super_categories)
        return [z, fine, self.one_hot(parent, model.super_categories), fine]

    def free_codes(self, count: int) -> list[Tensor]:
        model = self.config.model
        z = torch.randn(count, model.noise_dim, **self.draw)
        sizes = (model.fine_categories, model.super_categories, model.fine_categories)
        return [z, *(self.one_hot(self.uniform(size, count), size) for size in sizes)]


class PlainStage1(Plain):
    """The plain formulation of ``CodeStage``."""

    def __init__(self, stage: CodeStage) -> None:
        super().__init__(stage, stage.config.stage1)
        nets, lr = self.networks, stage.config.stage1.lr
        child = nets["child_discriminator"]
        made = [*nets["generator"].parameters(), *nets["encoders"].parameters()]
        read = [*nets["parent_classifier"].parameters(), *child.parameters("code_head.")]
        self.optimisers = {
            "background": self.adam(nets["background_discriminator"].parameters(), lr),
            "child": self.adam(child.parameters("trunk.", "real_head."), lr),
            "pair": self.adam(nets["pair_discriminators"].parameters(), lr),
            "generator": self.adam(made + read, lr),
        }

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of every network; every loss term, detached."""
        codes = self.tied_codes(len(batch.image))
        painted = paint(self.networks["generator"], *codes)
        z, *logits = read_codes(self.networks["encoders"], batch.image)
        encoded = [z, *(F.softmax(code, dim=1) for code in logits)]
        losses = self.learn_background(batch, painted.background.detach())
        losses |= self.learn_child(batch.image, painted.image.detach())
        made = (painted.image.detach(), codes)
        losses |= self.learn_pairs((batch.image, [code.detach() for code in encoded]), made)
        losses |= self.learn_generator(batch.image, painted, codes, encoded)
        self.average()
        return {name: loss.detach() for name, loss in losses.items()}

    def learn_background(self, batch: Batch, painted: Tensor) -> dict[str, Tensor]:
        network, weights = self.networks["background_discriminator"], self.config.weights
        feature = patch_feature(network, batch.background)
        scores = network.conv(feature, "real_head")
        free = free_patches(batch.background_box, self.config.model.image_size).to(scores.dtype)
        per_patch = F.binary_cross_entropy(
            torch.sigmoid(scores), torch.ones_like(scores), reduction="none"
        )
        real = (per_patch * free).mean()
        if free.sum() > 0:
            real = real / free.mean()
        fake = bce(network.conv(patch_feature(network, smaller(painted)), "real_head"), 0)
        kinds = torch.sigmoid(network.conv(feature, "background_head"))
        kind = F.binary_cross_entropy(kinds, free)
        loss = weights.background_real * (real + fake) + weights.background_class * kind
        self.learn("background", loss)
        return {
            "background_d/real": real,
            "background_d/fake": fake,
            "background_d/class": kind,
            "background_d/free_patches": free.mean(),
        }

    def learn_child(self, image: Tensor, painted: Tensor) -> dict[str, Tensor]:
        network = self.networks["child_discriminator"]
        real = bce(real_child(network, image), 1)
        fake = bce(real_child(network, painted), 0)
        self.learn("child", self.config.weights.child_real * (real + fake))
        return {"child_d/real": real, "child_d/fake": fake}

    def learn_pairs(
        self, real: tuple[Tensor, list[Tensor]], made: tuple[Tensor, list[Tensor]]
    ) -> dict[str, Tensor]:
        weights = self.config.weights
        real_score, fake_score = self.pair_scores(*real), self.pair_scores(*made)
        penalty = self.penalty(real, made)
        loss = weights.pair * (fake_score - real_score) + weights.gradient_penalty * penalty
        self.learn("pair", loss)
        return {
            "pair_d/real_score": real_score,
            "pair_d/fake_score": fake_score,
            "pair_d/gradient_penalty": penalty,
        }

    def pair_scores(self, image: Tensor, codes: list[Tensor]) -> Tensor:
        """Sum over the four critics of their mean score."""
        critics, total = self.networks["pair_discriminators"], torch.zeros((), device=image.device)
        for name, code in zip("zbpc", codes, strict=True):
            total = total + critic_score(critics, name, image, code, self.random).mean()
        return total

    def penalty(
        self, real: tuple[Tensor, list[Tensor]], made: tuple[Tensor, list[Tensor]]
    ) -> Tensor:
        count = len(real[0])
        weight = torch.rand(count, 1, 1, 1, **self.draw)
        between = (1 - weight) * real[0] + weight * made[0]
        mixed = []
        for encoded, code in zip(real[1], made[1], strict=True):
            weight = torch.rand(count, 1, **self.draw)
            mixed.append(((1 - weight) * encoded + weight * code).requires_grad_())
        penalty = torch.zeros((), device=between.device)
        for name, code in zip("zbpc", mixed, strict=True):
            image = between.clone().requires_grad_()
            critics = self.networks["pair_discriminators"]
            score = critic_score(critics, name, image, code, self.random).sum()
            for gradient in torch.autograd.grad(score, [image, code], create_graph=True):
                norm = gradient.reshape(count, -1).pow(2).sum(dim=1).sqrt()
                penalty = penalty + (norm - 1).pow(2).mean()
        return penalty

    def learn_generator(
        self, image: Tensor, painted: Painted, codes: list[Tensor], encoded: list[Tensor]
    ) -> dict[str, Tensor]:
        nets = self.networks
        background_d, child_d = nets["background_discriminator"], nets["child_discriminator"]
        patches = patch_feature(background_d, smaller(painted.background))
        parent_logits = read_code(nets["parent_classifier"], painted.parent, "trunk", "code_head")
        child_logits = read_code(child_d, painted.child, "trunk", "code_head")
        own = {
            "background_real": bce(background_d.conv(patches, "real_head"), 1),
            "background_class": bce(background_d.conv(patches, "background_head"), 1),
            "child_real": bce(real_child(child_d, painted.image), 1),
            "parent_code": cross_entropy(parent_logits, codes[2]),
            "child_code": cross_entropy(child_logits, codes[3]),
        }
        own["pair"] = self.pair_scores(image, encoded) - self.pair_scores(painted.image, codes)
        free = self.free_codes(len(image))
        with torch.no_grad():
            free_image = paint(nets["generator"], *free).image
        z, b, p, c = read_codes(nets["encoders"], free_image)
        own["encode_z"] = (z - free[0]).abs().mean()
        own["encode_b"] = cross_entropy(b, free[1])
        own["encode_p"] = cross_entropy(p, free[2])
        own["encode_c"] = cross_entropy(c, free[3])
        total = torch.zeros((), device=image.device)
        for name, loss in own.items():
            total = total + getattr(self.config.weights, name) * loss
        self.learn("generator", total)
        return {f"generator/{name}": loss for name, loss in own.items()}

    @torch.no_grad()
    def average(self) -> None:
        decay = self.config.stage1.ema_decay
        average = self.networks["generator_average"].values
        for name, live in self.networks["generator"].values.items():
            if live.requires_grad:
                average[name].mul_(decay).add_(live, alpha=1 - decay)
            else:
                average[name].copy_(live)


class PlainStage2(Plain):
    """The plain formulation of ``ShapeStage``."""

    def __init__(self, stage: ShapeStage) -> None:
        rates = stage.config.stage2
        super().__init__(stage, rates)
        extractor, feature = self.networks["extractor"], self.networks["feature_discriminator"]
        self.optimisers = {
            "extractor": self.adam(extractor.parameters(), rates.lr),
            "feature": self.adam(feature.parameters(), rates.discriminator_lr),
        }

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of extractor and discriminator; every loss term, detached."""
        extractor, weights = self.networks["extractor"], self.config.weights
        count = len(batch.image)
        z, b, p, c = self.free_codes(count)
        soft = torch.rand((), **self.draw) < self.config.stage2.soft_shape_probability
        noise = torch.randn(p.shape, **self.draw)
        if soft:
            p = F.softmax(noise, dim=1)
        with torch.no_grad():
            painted = paint(self.networks["generator"], z, b, p, c)
        extracted = extract(extractor, batch.image)

        fake = bce(self.scores(extracted.detach()), 0)
        real = bce(self.scores(painted.feature), 1)
        self.learn("feature", fake + real)

        adversarial = bce(self.scores(extracted), 1)
        distance = (extract(extractor, painted.image) - painted.feature).abs().mean()
        loss = weights.feature_adversarial * adversarial + weights.feature_l1 * distance
        self.learn("extractor", loss)
        return {
            "feature_d/real": real.detach(),
            "feature_d/fake": fake.detach(),
            "extractor/feature_adversarial": adversarial.detach(),
            "extractor/feature_l1": distance.detach(),
        }

    def scores(self, feature: Tensor) -> Tensor:
        discriminator = self.networks["feature_discriminator"]
        return discriminator.conv(patch_feature(discriminator, smaller(feature)), "real_head")
