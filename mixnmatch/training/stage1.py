"""Stage 1: generator and encoders, trained against background, child and pair discriminators."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mixnmatch.codes import Codes, sample_free, sample_tied
from mixnmatch.config import RunConfig
from mixnmatch.data.batches import Batch
from mixnmatch.losses import (
    background_patches,
    code_loss,
    fake_loss,
    gradient_penalty,
    patch_class_loss,
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
from mixnmatch.training.optim import Averaged, adam, frozen, share_weights, update
from mixnmatch.training.state import TrainingStage

Losses = dict[str, Float[Tensor, ""]]


class CodeStage(TrainingStage):
    """Generator and encoders in training.

    Args:
        config: The run's configuration.
        device: Where networks and batches live.
        rank: Number of this data-parallel worker; each draws its own codes.
    """

    number = 1

    def __init__(
        self, config: RunConfig, device: torch.device | str = "cpu", *, rank: int = 0
    ) -> None:
        super().__init__(config, torch.device(device), rank)
        model, optim = config.model, config.stage1
        with self.seeded_weights():
            self.generator = Generator(model).to(device)
            self.encoders = Encoders(model).to(device)
            self.background_discriminator = BackgroundDiscriminator(model).to(device)
            self.parent_classifier = ParentClassifier(model).to(device)
            self.child_discriminator = ChildDiscriminator(model).to(device)
            self.pair_discriminators = PairDiscriminators(model).to(device)
        self.average = Averaged(self.generator, optim.ema_decay)
        share_weights(self.modules().values())

        def optimiser(*modules: nn.Module) -> torch.optim.Adam:
            parameters = [p for module in modules for p in module.parameters()]
            return adam(parameters, lr=optim.lr, beta1=optim.beta1, beta2=optim.beta2)

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

    def step(self, batch: Batch) -> Losses:
        """One update of every network.

        Args:
            batch: Real pictures, on the stage's device.

        Returns:
            Every loss term before its weight, detached and still on the device.
        """
        tied = sample_tied(self.config.model, batch.image.shape[0], self.random)
        layers: Layers = self.generator(tied)
        painted_background = background_view(layers.background)
        encoded = soften(self.encoders.logits(batch.image))

        losses = self._update_background(batch, painted_background.detach())
        losses |= self._update_child(batch, layers.child_image.detach())
        losses |= self._update_pairs(
            (batch.image, encoded.detach()), (layers.child_image.detach(), tied)
        )
        losses |= self._update_generator(batch, layers, painted_background, tied, encoded)
        self.average.update(self.generator)
        self.steps_done += 1
        return {name: loss.detach() for name, loss in losses.items()}

    def _update_background(self, batch: Batch, painted: Float[Tensor, "B 3 T T"]) -> Losses:
        weights, discriminator = self.config.weights, self.background_discriminator
        free = background_patches(batch.background_box, self.config.model.image_size)
        scores = discriminator(batch.background)
        real = real_patch_loss(scores.real, free)
        fake = fake_loss(discriminator(painted).real)
        kind = patch_class_loss(scores.background, free)
        update(
            self.optimisers["background"],
            weights.background_real * (real + fake) + weights.background_class * kind,
        )
        return {
            "background_d/real": real,
            "background_d/fake": fake,
            "background_d/class": kind,
            "background_d/free_patches": free.float().mean(),
        }

    def _update_child(self, batch: Batch, painted: Float[Tensor, "B 3 S S"]) -> Losses:
        real = real_loss(self.child_discriminator.real_logits(batch.image))
        fake = fake_loss(self.child_discriminator.real_logits(painted))
        update(self.optimisers["child"], self.config.weights.child_real * (real + fake))
        return {"child_d/real": real, "child_d/fake": fake}

    def _update_pairs(
        self,
        real: tuple[Float[Tensor, "B 3 S S"], Codes],
        fake: tuple[Float[Tensor, "B 3 S S"], Codes],
    ) -> Losses:
        critics = self.pair_discriminators
        real_score = critics(*real, self.random).sum(dim=1).mean()
        fake_score = critics(*fake, self.random).sum(dim=1).mean()
        penalty = gradient_penalty(critics, real, fake, self.random)
        weights = self.config.weights
        update(
            self.optimisers["pair"],
            weights.pair * (fake_score - real_score) + weights.gradient_penalty * penalty,
        )
        return {
            "pair_d/real_score": real_score,
            "pair_d/fake_score": fake_score,
            "pair_d/gradient_penalty": penalty,
        }

    def _update_generator(
        self,
        batch: Batch,
        layers: Layers,
        painted_background: Float[Tensor, "B 3 T T"],
        tied: Codes,
        encoded: Codes,
    ) -> Losses:
        child = self.child_discriminator
        with frozen(
            self.background_discriminator, self.pair_discriminators, child.trunk, child.real_head
        ):
            scores = self.background_discriminator(painted_background)
            parent_logits = self.parent_classifier(layers.parent_mask * layers.parent_foreground)
            child_logits = child.code_logits(layers.child_mask * layers.child_foreground)
            real_score = self.pair_discriminators(batch.image, encoded, self.random)
            fake_score = self.pair_discriminators(layers.child_image, tied, self.random)
            losses = {
                "background_real": real_loss(scores.real),
                "background_class": real_loss(scores.background),
                "child_real": real_loss(child.real_logits(layers.child_image)),
                "parent_code": code_loss(parent_logits, tied.p),
                "child_code": code_loss(child_logits, tied.c),
                "pair": (real_score - fake_score).sum(dim=1).mean(),
                **self._encoder_losses(batch.image.shape[0]),
            }
            weights = self.config.weights
            total = torch.stack([getattr(weights, name) * loss for name, loss in losses.items()])
            update(self.optimisers["generator"], total.sum())
        return {f"generator/{name}": loss for name, loss in losses.items()}

    def _encoder_losses(self, count: int) -> Losses:
        """The encoders' errors on pictures painted from free codes, which teach them alone."""
        free = sample_free(self.config.model, count, self.random)
        with torch.no_grad():
            image = self.generator(free).child_image
        predicted = self.encoders.logits(image)
        return {
            "encode_z": F.l1_loss(predicted.z, free.z),
            "encode_b": code_loss(predicted.b, free.b),
            "encode_p": code_loss(predicted.p, free.p),
            "encode_c": code_loss(predicted.c, free.c),
        }
