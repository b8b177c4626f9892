"""Stage 2: the shape extractor, trained against the features of the finished generator."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mixnmatch.codes import Codes, sample_free
from mixnmatch.config import RunConfig
from mixnmatch.data.batches import Batch
from mixnmatch.draws import Draws
from mixnmatch.losses import fake_loss, real_loss
from mixnmatch.networks import Encoders, FeatureDiscriminator, Generator, ShapeExtractor
from mixnmatch.networks.normalisation import untracked
from mixnmatch.training.optim import adam, frozen, share_weights
from mixnmatch.training.prepare import prepare_networks
from mixnmatch.training.stage1 import CodeStage
from mixnmatch.training.state import Losses, TrainingStage


class ShapeStage(TrainingStage):
    """The shape extractor in training; generator and encoders are frozen in eval mode.

    Args:
        config: The run's configuration.
        device: Where networks and batches live.
        rank: Number of this data-parallel worker.
        world_size: Number of these workers; each draws its part of the codes.
    """

    number = 2

    def __init__(
        self,
        config: RunConfig,
        device: torch.device | str = "cpu",
        *,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(config, torch.device(device), rank, world_size)
        model, optim = config.model, config.stage2
        with self.seeded_weights():
            self.extractor = ShapeExtractor(model).to(device)
            self.feature_discriminator = FeatureDiscriminator(model).to(device)
            self.generator = Generator(model).to(device).eval().requires_grad_(False)
            self.encoders = Encoders(model).to(device).eval().requires_grad_(False)
        share_weights(self.modules().values())
        prepare_networks(self.modules(), config.compute, self.device)

        def optimiser(module: nn.Module, lr: float) -> torch.optim.Adam:
            return adam(module.parameters(), lr=lr, beta1=optim.beta1, beta2=optim.beta2)

        self.optimisers = {
            "extractor": optimiser(self.extractor, optim.lr),
            "feature": optimiser(self.feature_discriminator, optim.discriminator_lr),
        }

    @classmethod
    def after(cls, stage1: CodeStage) -> "ShapeStage":
        """Begin stage 2 with the averaged generator and the encoders of stage 1."""
        stage1.settle()
        stage = cls(stage1.config, stage1.device, rank=stage1.rank, world_size=stage1.world_size)
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

    def step(self, batch: Batch, *, watch: bool = False) -> Losses:
        """One update of the extractor and of its discriminator; see ``TrainingStage.step``."""
        count, parts = len(batch.image), self.config.compute.micro_batches
        real = batch.image.chunk(parts)
        codes = self._sample_codes(count)
        with torch.no_grad(), self.autocast():
            painted = [self.generator(codes.part(k, parts)) for k in range(parts)]
        with torch.set_grad_enabled(parts == 1), self.autocast():
            extracted = [self.extractor(image) for image in real]

        def judged(k: int, _: Draws) -> tuple[Tensor, Losses]:
            of_extracted = self.feature_discriminator(extracted[k].detach())
            of_painted = self.feature_discriminator(painted[k].shape_feature)
            fake, true = fake_loss(of_extracted), real_loss(of_painted)
            terms = {"feature_d/real": true, "feature_d/fake": fake}
            if watch:
                terms["feature_d/real_logit"] = of_painted.mean()
                terms["feature_d/fake_logit"] = of_extracted.mean()
            return fake + true, terms

        def extractor_loss(k: int, _: Draws) -> tuple[Tensor, Losses]:
            weights = self.config.weights
            again = extracted[k] if parts == 1 else self._extract_again(real[k])
            adversarial = real_loss(self.feature_discriminator(again))
            distance = F.l1_loss(self.extractor(painted[k].child_image), painted[k].shape_feature)
            loss = weights.feature_adversarial * adversarial + weights.feature_l1 * distance
            return loss, {
                "extractor/feature_adversarial": adversarial,
                "extractor/feature_l1": distance,
            }

        losses = self.update("feature", judged, watch=watch)
        with frozen(self.feature_discriminator):
            losses |= self.update("extractor", extractor_loss, watch=watch)
        self.steps_done += 1
        return losses

    def _extract_again(self, image: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B C S S"]:
        with untracked([self.extractor]):
            return self.extractor(image)

    def _sample_codes(self, count: int) -> Codes:
        """Free codes; in some batches the shape code is soft, as encoded ones are."""
        draws = self.worker_draws()
        codes = self.sample(sample_free, count, draws)
        draw = torch.rand((), generator=self.random, device=self.device)
        noise = draws.normal(*codes.p.shape)
        soft = draw < self.config.stage2.soft_shape_probability
        return codes._replace(p=torch.where(soft, torch.softmax(noise, dim=1), codes.p))
