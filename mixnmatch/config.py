"""Configuration of a run: frozen dataclasses that check themselves.

The same object travels to workers, MLflow and checkpoints; ``mixnmatch.settings`` turns it into
plain JSON types and back, and changes it by dotted keys.
"""

import dataclasses
import math
from dataclasses import dataclass, field

from mixnmatch.errors import ConfigError


def _require(condition: bool, name: str, value: object, right: str) -> None:
    if not condition:
        raise ConfigError(f"{name} is {value!r}: it must be {right}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Sizes of all networks. The defaults are the published ones for CUB birds."""

    image_size: int = 128
    """Side of the square pictures, in pixels: a power of two, 32 or more."""
    super_categories: int = 20
    """Number S of shape codes."""
    fine_categories: int = 200
    """Number F of texture codes, and of background codes: a multiple of S."""
    noise_dim: int = 100
    """Dimensions Z of the pose code."""
    generator_width: int = 64
    """W: the stages begin at 8W channels and the shape feature has W/4."""
    discriminator_width: int = 64
    """First width of the background and child discriminators; the parent classifier has half."""
    encoder_width: int = 64
    """First width of the four encoders."""
    pair_width: int = 16
    """First width of the four pair discriminators; their joint layers have 64 times as much."""
    extractor_width: int = 32
    """First width of the shape extractor and of its discriminator."""
    pack_size: int = 1
    """Pictures that the child discriminator judges together (PacGAN, arXiv 1712.04086)."""

    def __post_init__(self) -> None:
        size = self.image_size
        _require(
            size >= 32 and size & (size - 1) == 0,
            "model.image_size",
            size,
            "a power of two of at least 32",
        )
        for name in (
            "super_categories",
            "fine_categories",
            "noise_dim",
            "pair_width",
            "extractor_width",
            "pack_size",
        ):
            _require(getattr(self, name) >= 1, f"model.{name}", getattr(self, name), "at least 1")
        _require(
            self.fine_categories % self.super_categories == 0,
            "model.fine_categories",
            self.fine_categories,
            f"a multiple of model.super_categories, which is {self.super_categories}",
        )
        for name in ("generator_width", "discriminator_width", "encoder_width"):
            width = getattr(self, name)
            _require(
                width >= 4 and width % 4 == 0, f"model.{name}", width, "a positive multiple of 4"
            )

    @property
    def background_size(self) -> int:
        """Side of the pictures that the background discriminator sees, in pixels."""
        return self.image_size - 2

    @property
    def feature_channels(self) -> int:
        """Channels of the shape feature."""
        return self.generator_width // 4


@dataclass(frozen=True, kw_only=True, slots=True)
class LossWeights:
    """Weights of the loss terms. The defaults are the published ones."""

    background_real: float = 10.0
    """Real/fake patches of the background image."""
    background_class: float = 1.0
    """Background/foreground class of its patches."""
    child_real: float = 1.0
    """Real/fake of the child image."""
    child_r1: float = 0.0
    """R1 penalty of the child discriminator (arXiv 1801.04406): half the squared gradient norm."""
    pair: float = 1.0
    """Pairs of image and code, real against generated."""
    gradient_penalty: float = 10.0
    """Gradient penalty of the pair discriminators."""
    parent_code: float = 1.0
    """Shape code read back from the parent foreground."""
    child_code: float = 1.0
    """Texture code read back from the child foreground."""
    encode_z: float = 5.0
    """Pose code predicted by its encoder on generated images."""
    encode_b: float = 5.0
    """Background code predicted by its encoder."""
    encode_p: float = 10.0
    """Shape code predicted by its encoder."""
    encode_c: float = 10.0
    """Texture code predicted by its encoder."""
    feature_adversarial: float = 1.0
    """Stage 2: the extracted shape feature looks like a generated one."""
    feature_l1: float = 1.0
    """Stage 2: the extracted shape feature of a generated image is its own."""

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            _require(0 <= value < math.inf, f"weights.{item.name}", value, "finite and at least 0")


def _check_schedule(name: str, config: "Stage1Config | Stage2Config") -> None:
    _require(config.steps >= 1, f"{name}.steps", config.steps, "at least 1")
    _require(
        config.batch_size >= 2, f"{name}.batch_size", config.batch_size, "at least 2 (batch norm)"
    )
    _require(0 < config.lr < 1, f"{name}.lr", config.lr, "between 0 and 1")
    _require(0 <= config.beta1 < 1, f"{name}.beta1", config.beta1, "in [0, 1)")
    _require(0 <= config.beta2 < 1, f"{name}.beta2", config.beta2, "in [0, 1)")


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
    average_statistics: str = "live"
    """Batch norm statistics of the averaged generator: ``live`` takes those of the generator in
    training, as the original does; ``estimated`` measures its own before it is evaluated."""
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
        _require(0 <= self.ema_decay < 1, "stage1.ema_decay", self.ema_decay, "in [0, 1)")
        half_life = self.ema_half_life_images
        _require(
            half_life is None or half_life >= 1,
            "stage1.ema_half_life_images",
            half_life,
            "at least 1, or none",
        )
        adopt = self.adopt_average_every_steps
        _require(adopt >= 0, "stage1.adopt_average_every_steps", adopt, "0 (never) or more")
        _require(
            self.r1_every_steps >= 1, "stage1.r1_every_steps", self.r1_every_steps, "at least 1"
        )
        for name, choices in (
            ("average_statistics", ("live", "estimated")),
            ("pair_init", ("default", "orthogonal")),
        ):
            value = getattr(self, name)
            _require(value in choices, f"stage1.{name}", value, " or ".join(choices))
        _require(
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
        _require(
            0 < self.discriminator_lr < 1,
            "stage2.discriminator_lr",
            self.discriminator_lr,
            "between 0 and 1",
        )
        share = self.soft_shape_probability
        _require(0 <= share <= 1, "stage2.soft_shape_probability", share, "in [0, 1]")


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    """What is measured after each stage."""

    samples: int = 2048
    """Pictures generated, and mixes judged, for each figure."""
    batch_size: int = 64
    """Pictures a forward pass."""
    classifier_steps: int = 600
    """Training steps of the factor classifiers that judge mixes (once a data set, then cached)."""
    inception_weights: str | None = None
    """Path of the FID Inception-v3 weights; without it `fid` is not measured."""

    def __post_init__(self) -> None:
        _require(self.samples >= 8, "evaluation.samples", self.samples, "at least 8")
        _require(self.batch_size >= 1, "evaluation.batch_size", self.batch_size, "at least 1")
        _require(
            self.classifier_steps >= 1,
            "evaluation.classifier_steps",
            self.classifier_steps,
            "at least 1",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ComputeConfig:
    """How the work of a step is done: what it costs, hardly what comes out of it."""

    precision: str = "auto"
    """``float32``; ``bfloat16`` for the networks, with losses, penalties, pixels, statistics and
    weights in float32; or ``auto``: bfloat16 where the device multiplies it natively."""
    channels_last: bool | None = None
    """Memory order of the networks' maps; none: on GPUs only."""
    compile: bool = False
    """Whether ``torch.compile`` makes the networks' blocks faster, after a minute or more."""
    micro_batches: int = 1
    """Parts that a batch is worked off in, to save memory; batch norm sees one at a time."""
    sync_batch_norm: bool = False
    """Whether batch norm sees the batches of all workers together, or each its own."""

    def __post_init__(self) -> None:
        _require(
            self.precision in ("auto", "float32", "bfloat16"),
            "compute.precision",
            self.precision,
            "auto, float32 or bfloat16",
        )
        parts = self.micro_batches
        _require(parts >= 1, "compute.micro_batches", parts, "at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """One training run: both stages and their evaluation."""

    model: ModelConfig = field(default_factory=ModelConfig)
    """Sizes of the networks."""
    weights: LossWeights = field(default_factory=LossWeights)
    """Weights of the loss terms."""
    stage1: Stage1Config = field(default_factory=Stage1Config)
    """Training of generator and encoders."""
    stage2: Stage2Config = field(default_factory=Stage2Config)
    """Training of the shape extractor."""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    """What is measured after each stage."""
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    """How the work is done."""
    seed: int = 0
    """Seed of weights, codes and data order."""
    log_every_steps: int = 50
    """Steps between two records of the losses."""
    checkpoint_every_steps: int = 1000
    """Steps between two checkpoints."""
    sample_every_steps: int = 1000
    """Steps between two sample grids."""

    def __post_init__(self) -> None:
        _require(self.seed >= 0, "seed", self.seed, "at least 0")
        for name in ("log_every_steps", "checkpoint_every_steps", "sample_every_steps"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        parts, pack = self.compute.micro_batches, self.model.pack_size
        for name, size in (("stage1", self.stage1.batch_size), ("stage2", self.stage2.batch_size)):
            _require(
                size % parts == 0 and size >= 2 * parts,
                f"{name}.batch_size",
                size,
                f"a multiple of compute.micro_batches, which is {parts}, with two pictures a part",
            )
        _require(
            self.stage1.batch_size // parts % pack == 0,
            "model.pack_size",
            pack,
            f"a divisor of the {self.stage1.batch_size // parts} pictures that a step sees at once",
        )
