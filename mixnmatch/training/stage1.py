"""Stage 1: generator and encoders, trained against background, child and pair discriminators."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mixnmatch.codes import sample_free, sample_tied
from mixnmatch.config import RunConfig
from mixnmatch.data.batches import Batch
from mixnmatch.draws import Draws
from mixnmatch.losses import (
    background_patches,
    code_loss,
    fake_loss,
    gradient_penalty,
    patch_class_loss,
    r1_penalty,
    real_loss,
    real_patch_loss,
)
from mixnmatch.networks import (
    BackgroundDiscriminator,
    ChildDiscriminator,
    Encoders,
    Generator,
    Layers,
    PairDiscriminators,
    ParentClassifier,
)
from mixnmatch.networks.encoders import soften
from mixnmatch.networks.generator import background_view
from mixnmatch.networks.layers import initialise
from mixnmatch.networks.normalisation import untracked
from mixnmatch.training.augment import augment
from mixnmatch.training.optim import (
    Averaged,
    adam,
    average_decay,
    frozen,
    mean_over_workers,
    share_weights,
)
from mixnmatch.training.parts import Part, Seen, Shown
from mixnmatch.training.prepare import prepare_networks
from mixnmatch.training.state import Losses, TrainingStage

STATISTICS_BATCHES = 32
"""Batches of sampled codes that the averaged generator's own statistics are of."""


class CodeStage(TrainingStage):
    """Generator and encoders in training.

    Args:
        config: The run's configuration.
        device: Where networks and batches live.
        rank: Number of this data-parallel worker.
        world_size: Number of these workers; each draws its part of the codes.
    """

    number = 1

    def __init__(
        self,
        config: RunConfig,
        device: torch.device | str = "cpu",
        *,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(config, torch.device(device), rank, world_size)
        model, optim = config.model, config.stage1
        with self.seeded_weights():
            self.generator = Generator(model).to(device)
            self.encoders = Encoders(model).to(device)
            self.background_discriminator = BackgroundDiscriminator(model).to(device)
            self.parent_classifier = ParentClassifier(model).to(device)
            self.child_discriminator = ChildDiscriminator(model).to(device)
            self.pair_discriminators = PairDiscriminators(model).to(device)
            if optim.pair_init == "orthogonal":
                initialise(self.pair_discriminators)
        self.average = Averaged(self.generator, average_decay(optim, world_size))
        share_weights(self.modules().values())
        # A compiled network has no gradient of a gradient, which the penalties need.
        eager = ["pair_discriminators"] + ["child_discriminator"] * bool(config.weights.child_r1)
        networks = self.modules()
        average = {"generator_average": networks.pop("generator_average")}
        prepare_networks(networks, config.compute, self.device, eager)
        # Worker 0 evaluates alone: the average must not wait for the others when it is settled.
        prepare_networks(average, replace(config.compute, sync_batch_norm=False), self.device)

        def optimiser(*modules: nn.Module) -> torch.optim.Adam:
            parameters = [p for module in modules for p in module.parameters()]
            return adam(parameters, lr=optim.lr, beta1=optim.beta1, beta2=optim.beta2)

        self._last_r1: Float[Tensor, ""] | None = None
        child = self.child_discriminator
        self.optimisers = {
            "background": optimiser(self.background_discriminator),
            "child": optimiser(child.trunk, child.real_head),
            "pair": optimiser(self.pair_discriminators),
            "generator": optimiser(
                self.generator, self.encoders, self.parent_classifier, child.code_head
            ),
        }

    def modules(self) -> dict[str, nn.Module]:
        """All networks by name."""
        return {
            "generator": self.generator,
            "generator_average": self.average.network,
            "encoders": self.encoders,
            "background_discriminator": self.background_discriminator,
            "parent_classifier": self.parent_classifier,
            "child_discriminator": self.child_discriminator,
            "pair_discriminators": self.pair_discriminators,
        }

    def settle(self) -> None:
        """Estimate the averaged generator's own batch norm statistics, where that is wanted."""
        if self.config.stage1.average_statistics == "live":
            return
        random = torch.Generator(self.device).manual_seed(self.config.seed)
        count = self.config.stage1.batch_size
        self.average.estimate_statistics(
            sample_tied(self.config.model, count, random) for _ in range(STATISTICS_BATCHES)
        )

    def step(self, batch: Batch, *, watch: bool = False) -> Losses:
        """One update of every network; see ``TrainingStage.step``."""
        parts = self._parts(batch)
        # One part is painted once for all phases. Of several only what discriminators see is kept:
        # the graphs of all at once would take the memory that dividing the batch is to save.
        whole = len(parts) == 1
        shown: list[Shown] = []
        seen: list[Seen] = []
        for part in parts:
            with torch.set_grad_enabled(whole), self.autocast():
                made = self._show(part)
            seen.append(made.seen())
            if whole:
                shown.append(made)
        free = torch.cat([part.free for part in parts]).to(batch.background.dtype)
        share = mean_over_workers(free.mean())

        losses = self.update(
            "background",
            lambda k, _: self._background_loss(parts[k], seen[k], share, watch),
            watch=watch,
        )
        losses |= self.update(
            "child", lambda k, draws: self._child_loss(parts[k], seen[k], draws, watch), watch=watch
        )
        self._last_r1 = losses.get("child_d/r1", self._last_r1)
        if watch and self._last_r1 is not None:  # between two penalties the last one is told
            losses["child_d/r1"] = self._last_r1
        losses |= self.update(
            "pair", lambda k, draws: self._pair_loss(parts[k], seen[k], draws), watch=watch
        )
        child = self.child_discriminator
        with frozen(
            self.background_discriminator, self.pair_discriminators, child.trunk, child.real_head
        ):
            losses |= self.update(
                "generator",
                lambda k, draws: self._generator_loss(
                    parts[k], shown[k] if whole else self._show_again(parts[k]), draws
                ),
                watch=watch,
            )
        self.average.update(self.generator)
        self.steps_done += 1
        adopt = self.config.stage1.adopt_average_every_steps
        if adopt and self.steps_done % adopt == 0:
            self.average.restore(self.generator)
        return losses

    def _parts(self, batch: Batch) -> list[Part]:
        count, parts = len(batch.image), self.config.compute.micro_batches
        tied = self.sample(sample_tied, count, self.worker_draws())
        free = background_patches(batch.background_box, self.config.model.image_size)
        return [
            Part(
                Batch(*(field.chunk(parts)[k] for field in batch)),
                tied.part(k, parts),
                free.chunk(parts)[k],
            )
            for k in range(parts)
        ]

    def _show(self, part: Part) -> Shown:
        layers: Layers = self.generator(part.tied)
        encoded = soften(self.encoders.logits(part.real.image))
        return Shown(layers, background_view(layers.background), encoded)

    def _show_again(self, part: Part) -> Shown:
        with untracked([self.generator, self.encoders]):
            return self._show(part)

    def _background_loss(
        self, part: Part, seen: Seen, free_share: Float[Tensor, ""], watch: bool
    ) -> tuple[Tensor, Losses]:
        weights, discriminator = self.config.weights, self.background_discriminator
        scores, painted = discriminator(part.real.background), discriminator(seen.background)
        real = real_patch_loss(scores.real, part.free, free_share)
        fake = fake_loss(painted.real)
        kind = patch_class_loss(scores.background, part.free)
        terms = {
            "background_d/real": real,
            "background_d/fake": fake,
            "background_d/class": kind,
            "background_d/free_patches": part.free.float().mean(),
        }
        if watch:
            terms["background_d/real_logit"] = scores.real.mean()
            terms["background_d/fake_logit"] = painted.real.mean()
        return weights.background_real * (real + fake) + weights.background_class * kind, terms

    def _child_loss(
        self, part: Part, seen: Seen, draws: Draws, watch: bool
    ) -> tuple[Tensor, Losses]:
        config, critic = self.config.stage1, self.child_discriminator.real_logits
        real_logits = critic(augment(part.real.image, config.augmentations, draws))
        fake_logits = critic(augment(seen.child_image, config.augmentations, draws))
        real, fake = real_loss(real_logits), fake_loss(fake_logits)
        loss = self.config.weights.child_real * (real + fake)
        terms = {"child_d/real": real, "child_d/fake": fake}
        if watch:
            terms["child_d/real_logit"] = real_logits.mean()
            terms["child_d/fake_logit"] = fake_logits.mean()
        if self.config.weights.child_r1 and self.steps_done % config.r1_every_steps == 0:
            with torch.autocast(self.device.type, enabled=False):
                penalty = r1_penalty(critic, part.real.image)
            loss = loss + self.config.weights.child_r1 * config.r1_every_steps * penalty
            terms["child_d/r1"] = penalty
        return loss, terms

    def _pair_loss(self, part: Part, seen: Seen, draws: Draws) -> tuple[Tensor, Losses]:
        weights, critics = self.config.weights, self.pair_discriminators
        real = (part.real.image, seen.encoded)
        fake = (seen.child_image, part.tied)
        real_score = critics(*real, draws).sum(dim=1).mean()
        fake_score = critics(*fake, draws).sum(dim=1).mean()
        with torch.autocast(self.device.type, enabled=False):
            penalty = gradient_penalty(critics, real, fake, draws)
        loss = weights.pair * (fake_score - real_score) + weights.gradient_penalty * penalty
        return loss, {
            "pair_d/real_score": real_score,
            "pair_d/fake_score": fake_score,
            "pair_d/gradient_penalty": penalty,
        }

    def _generator_loss(self, part: Part, shown: Shown, draws: Draws) -> tuple[Tensor, Losses]:
        layers, child, weights = shown.layers, self.child_discriminator, self.config.weights
        scores = self.background_discriminator(shown.background)
        parent_logits = self.parent_classifier(layers.parent_mask * layers.parent_foreground)
        child_logits = child.code_logits(layers.child_mask * layers.child_foreground)
        real_score = self.pair_discriminators(part.real.image, shown.encoded, draws)
        fake_score = self.pair_discriminators(layers.child_image, part.tied, draws)
        augmented = augment(layers.child_image, self.config.stage1.augmentations, draws)
        losses = {
            "background_real": real_loss(scores.real),
            "background_class": real_loss(scores.background),
            "child_real": real_loss(child.real_logits(augmented)),
            "parent_code": code_loss(parent_logits, part.tied.p),
            "child_code": code_loss(child_logits, part.tied.c),
            "pair": (real_score - fake_score).sum(dim=1).mean(),
            **self._encoder_losses(len(part.real.image), draws),
        }
        total = torch.stack([getattr(weights, name) * loss for name, loss in losses.items()])
        return total.sum(), {f"generator/{name}": loss for name, loss in losses.items()}

    def _encoder_losses(self, count: int, draws: Draws) -> Losses:
        """The encoders' errors on pictures painted from free codes, which teach them alone."""
        free = self.sample(sample_free, count, draws)
        with torch.no_grad():
            image = self.generator(free).child_image
        predicted = self.encoders.logits(image)
        return {
            "encode_z": F.l1_loss(predicted.z, free.z),
            "encode_b": code_loss(predicted.b, free.b),
            "encode_p": code_loss(predicted.p, free.p),
            "encode_c": code_loss(predicted.c, free.c),
        }
