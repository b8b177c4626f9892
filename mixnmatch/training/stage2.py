"""Stage 2: the shape extractor, trained against the features of the finished generator."""

import torch
from torch import nn
from torch.nn import functional as F

from mixnmatch.codes import Codes, sample_free
from mixnmatch.config import RunConfig
from mixnmatch.data.batches import Batch
from mixnmatch.losses import fake_loss, real_loss
from mixnmatch.networks import Encoders, FeatureDiscriminator, Generator, ShapeExtractor
from mixnmatch.training.optim import adam, frozen, share_weights, update
from mixnmatch.training.stage1 import CodeStage, Losses
from mixnmatch.training.state import TrainingStage


class ShapeStage(TrainingStage):
    """The shape extractor in training; generator and encoders are frozen in eval mode.

    Args:
        config: The run's configuration.
        device: Where networks and batches live.
        rank: Number of this data-parallel worker; each draws its own codes.
    """

    number = 2

    def __init__(
        self, config: RunConfig, device: torch.device | str = "cpu", *, rank: int = 0
    ) -> None:
        super().__init__(config, torch.device(device), rank)
        model, optim = config.model, config.stage2
        with self.seeded_weights():
            self.extractor = ShapeExtractor(model).to(device)
            self.feature_discriminator = FeatureDiscriminator(model).to(device)
            self.generator = Generator(model).to(device).eval().requires_grad_(False)
            self.encoders = Encoders(model).to(device).eval().requires_grad_(False)
        share_weights(self.modules().values())

        def optimiser(module: nn.Module, lr: float) -> torch.optim.Adam:
            return adam(module.parameters(), lr=lr, beta1=optim.beta1, beta2=optim.beta2)

        self.optimisers = {
            "extractor": optimiser(self.extractor, optim.lr),
            "feature": optimiser(self.feature_discriminator, optim.discriminator_lr),
        }

    @classmethod
    def after(cls, stage1: CodeStage) -> "ShapeStage":
        """Begin stage 2 with the averaged generator and the encoders of stage 1."""
        stage = cls(stage1.config, stage1.device, rank=stage1.rank)
        stage.begin_with(stage1.average.network, stage1.encoders)
        return stage

    def begin_with(self, generator: Generator, encoders: Encoders) -> None:
        """Take the finished networks of stage 1."""
        self.generator.load_state_dict(generator.state_dict())
        self.encoders.load_state_dict(encoders.state_dict())
        # Each worker's batch norm has seen other pictures; worker 0's statistics are the ones kept.
        share_weights([self.generator, self.encoders])

    def modules(self) -> dict[str, nn.Module]:
        """All networks by name."""
        return {
            "generator": self.generator,
            "encoders": self.encoders,
            "extractor": self.extractor,
            "feature_discriminator": self.feature_discriminator,
        }

    def step(self, batch: Batch) -> Losses:
        """One update of the extractor and of its discriminator.

        Args:
            batch: Real pictures, on the stage's device.

        Returns:
            Every loss term before its weight, detached and still on the device.
        """
        with torch.no_grad():
            painted = self.generator(self._sample_codes(batch.image.shape[0]))
        extracted = self.extractor(batch.image)
        discriminator, weights = self.feature_discriminator, self.config.weights

        fake = fake_loss(discriminator(extracted.detach()))
        real = real_loss(discriminator(painted.shape_feature))
        update(self.optimisers["feature"], fake + real)

        with frozen(discriminator):
            adversarial = real_loss(discriminator(extracted))
            distance = F.l1_loss(self.extractor(painted.child_image), painted.shape_feature)
            loss = weights.feature_adversarial * adversarial + weights.feature_l1 * distance
            update(self.optimisers["extractor"], loss)
        self.steps_done += 1
        return {
            "feature_d/real": real.detach(),
            "feature_d/fake": fake.detach(),
            "extractor/feature_adversarial": adversarial.detach(),
            "extractor/feature_l1": distance.detach(),
        }

    def _sample_codes(self, count: int) -> Codes:
        """Free codes; in some batches the shape code is soft, as encoded ones are."""
        codes = sample_free(self.config.model, count, self.random)
        draw = torch.rand((), generator=self.random, device=self.device)
        noise = torch.randn(codes.p.shape, generator=self.random, device=self.device)
        soft = draw < self.config.stage2.soft_shape_probability
        return codes._replace(p=torch.where(soft, torch.softmax(noise, dim=1), codes.p))
