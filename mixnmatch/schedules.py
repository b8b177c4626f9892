"""Configuration of the two training stages: how long, how fast, and what keeps them stable."""

from dataclasses import dataclass

from mixnmatch.checks import require


def _check_schedule(name: str, config: "Stage1Config | Stage2Config") -> None:
    require(config.steps >= 1, f"{name}.steps", config.steps, "at least 1")
    require(
        config.batch_size >= 2, f"{name}.batch_size", config.batch_size, "at least 2 (batch norm)"
    )
    require(0 < config.lr < 1, f"{name}.lr", config.lr, "between 0 and 1")
    require(0 <= config.beta1 < 1, f"{name}.beta1", config.beta1, "in [0, 1)")
    require(0 <= config.beta2 < 1, f"{name}.beta2", config.beta2, "in [0, 1)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage1Config:
    """Training of generator and encoders. 600 epochs of CUB birds are 589,000 steps."""

    steps: int = 589_000
    """Optimiser steps."""
    batch_size: int = 12
    """Pictures a step and worker."""
    lr: float = 2e-4
    """Learning rate of every network."""
    beta1: float = 0.5
    """Adam's first decay."""
    beta2: float = 0.999
    """Adam's second decay."""
    ema_decay: float = 0.999
    """Decay a step of the averaged generator."""
    ema_half_life_images: int | None = None
    """Pictures after which a weight counts half in the average; takes the place of ``ema_decay``,
    and does not change its meaning with the batch size."""
    adopt_average_every_steps: int = 0
    """Steps after which training goes on from the averaged generator; the original does so once an
    epoch, 0 never does."""
    average_statistics: str = "estimated"
    """Batch norm statistics of the averaged generator: ``estimated`` measures its own before it is
    evaluated; ``live`` takes those of the generator in training, as the original does."""
    pair_init: str = "default"
    """Initial weights of the pair discriminators: PyTorch's ``default``, as in the original, or
    ``orthogonal`` as those of all other networks."""
    r1_every_steps: int = 16
    """Steps between two R1 penalties; each counts as many times more."""
    augment: str = ""
    """Changes to what the child discriminator sees, real and painted alike (DiffAugment, arXiv
    2006.10738): any of ``color``, ``translation`` and ``cutout``, joined by commas."""

    def __post_init__(self) -> None:
        _check_schedule("stage1", self)
        require(0 <= self.ema_decay < 1, "stage1.ema_decay", self.ema_decay, "in [0, 1)")
        half_life = self.ema_half_life_images
        require(
            half_life is None or half_life >= 1,
            "stage1.ema_half_life_images",
            half_life,
            "at least 1, or none",
        )
        adopt = self.adopt_average_every_steps
        require(adopt >= 0, "stage1.adopt_average_every_steps", adopt, "0 (never) or more")
        require(
            self.r1_every_steps >= 1, "stage1.r1_every_steps", self.r1_every_steps, "at least 1"
        )
        for name, choices in (
            ("average_statistics", ("live", "estimated")),
            ("pair_init", ("default", "orthogonal")),
        ):
            value = getattr(self, name)
            require(value in choices, f"stage1.{name}", value, " or ".join(choices))
        require(
            set(self.augmentations) <= {"color", "translation", "cutout"},
            "stage1.augment",
            self.augment,
            "empty, or any of color, translation and cutout, joined by commas",
        )

    @property
    def augmentations(self) -> tuple[str, ...]:
        """The parts of ``augment``."""
        return tuple(self.augment.split(",")) if self.augment else ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage2Config:
    """Training of the shape extractor. 400 epochs of CUB birds are 393,000 steps."""

    steps: int = 393_000
    """Optimiser steps."""
    batch_size: int = 12
    """Pictures a step and worker."""
    lr: float = 2e-4
    """Learning rate of the extractor."""
    discriminator_lr: float = 2e-5
    """Learning rate of the feature discriminator."""
    beta1: float = 0.5
    """Adam's first decay."""
    beta2: float = 0.999
    """Adam's second decay."""
    soft_shape_probability: float = 0.2
    """Share of batches whose shape codes are soft instead of one-hot."""

    def __post_init__(self) -> None:
        _check_schedule("stage2", self)
        require(
            0 < self.discriminator_lr < 1,
            "stage2.discriminator_lr",
            self.discriminator_lr,
            "between 0 and 1",
        )
        share = self.soft_shape_probability
        require(0 <= share <= 1, "stage2.soft_shape_probability", share, "in [0, 1]")
