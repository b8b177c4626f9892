"""Configuration of a run: frozen dataclasses that check themselves.

The same object travels to workers, MLflow and checkpoints; ``mixnmatch.settings`` turns it into
plain JSON types and back, and changes it by dotted keys.
"""

import dataclasses
import math
from dataclasses import dataclass, field

from mixnmatch.checks import require
from mixnmatch.schedules import Stage1Config, Stage2Config

__all__ = [
    "LARGEST_SEED",
    "MEASURES",
    "ComputeConfig",
    "EvaluationConfig",
    "LossWeights",
    "ModelConfig",
    "RunConfig",
    "Stage1Config",
    "Stage2Config",
]

MEASURES = ("quality", "diversity", "factors", "keypoints", "masks", "codes")
"""Groups of figures."""
LARGEST_SEED = 2**31 - 1
"""Seeds are multiplied to keep stages and steps apart, and what comes out must fit 64 bits."""


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
        require(
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
            require(getattr(self, name) >= 1, f"model.{name}", getattr(self, name), "at least 1")
        require(
            self.fine_categories % self.super_categories == 0,
            "model.fine_categories",
            self.fine_categories,
            f"a multiple of model.super_categories, which is {self.super_categories}",
        )
        for name in ("generator_width", "discriminator_width", "encoder_width"):
            width = getattr(self, name)
            require(
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
            require(0 <= value < math.inf, f"weights.{item.name}", value, "finite and at least 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    """What is measured after each stage, and in between."""

    metrics: str = "quality,factors,masks,codes"
    """Groups of figures, separated by commas: some of ``MEASURES``, or ``all``. Those that a data
    set knows too little for are left out."""
    samples: int = 2048
    """Pictures generated, and mixes judged, for each figure."""
    batch_size: int = 64
    """Pictures a forward pass."""
    classifier_steps: int = 600
    """Training steps of the classifier that judges mixes (once a data set, then cached)."""
    localiser_steps: int = 1500
    """Training steps of the network that finds keypoints and masks (once a data set, cached)."""
    inception_weights: str | None = None
    """FID Inception-v3 weights: a file, ``auto`` (where they lie already), ``download``; without
    them `fid` is not measured."""
    every_steps: int = 0
    """Steps of stage 1 between two evaluations in training; 0 evaluates at the end alone."""
    every_samples: int = 512
    """Pictures and mixes of those, whose figures have the count in their names."""

    def __post_init__(self) -> None:
        unknown = set(self.groups) - set(MEASURES)
        require(
            not unknown,
            "evaluation.metrics",
            self.metrics,
            f"all, or some of {', '.join(MEASURES)} separated by commas",
        )
        for name in ("samples", "every_samples"):
            require(
                getattr(self, name) >= 8, f"evaluation.{name}", getattr(self, name), "at least 8"
            )
        for name in ("batch_size", "classifier_steps", "localiser_steps"):
            require(
                getattr(self, name) >= 1, f"evaluation.{name}", getattr(self, name), "at least 1"
            )
        require(self.every_steps >= 0, "evaluation.every_steps", self.every_steps, "0 or more")

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups of figures, in the order of ``MEASURES``; unknown ones last."""
        asked = [name.strip() for name in self.metrics.split(",")]
        if asked == ["all"]:
            return MEASURES
        known = [name for name in MEASURES if name in asked]
        return (*known, *(name for name in asked if name not in MEASURES))


@dataclass(frozen=True, kw_only=True, slots=True)
class ComputeConfig:
    """How the work of a step is done: what it costs, hardly what comes out of it."""

    precision: str = "auto"
    """``float32``; ``bfloat16`` for the networks, with losses, penalties, pixels, statistics and
    weights in float32; or ``auto``: bfloat16 on GPUs that multiply it natively."""
    channels_last: bool | None = None
    """Memory order of the networks' maps; none: on GPUs only."""
    compile: bool = False
    """Whether ``torch.compile`` makes the networks' blocks faster, after a minute or more."""
    micro_batches: int = 1
    """Parts that a batch is worked off in, to save memory; batch norm sees one at a time."""
    sync_batch_norm: bool = False
    """Whether batch norm sees the batches of all workers together, or each its own."""

    def __post_init__(self) -> None:
        require(
            self.precision in ("auto", "float32", "bfloat16"),
            "compute.precision",
            self.precision,
            "auto, float32 or bfloat16",
        )
        parts = self.micro_batches
        require(parts >= 1, "compute.micro_batches", parts, "at least 1")


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
    checkpoint_keep: int = 2
    """Number of the last checkpoints that are kept."""
    checkpoint_best: str | None = None
    """Figure of the evaluations in training by which the best state is kept too, for instance
    ``frechet_factors_512``; none: no best one."""
    sample_every_steps: int = 1000
    """Steps between two sample grids."""

    def __post_init__(self) -> None:
        require(0 <= self.seed <= LARGEST_SEED, "seed", self.seed, f"from 0 to {LARGEST_SEED}")
        for name in (
            "log_every_steps",
            "checkpoint_every_steps",
            "checkpoint_keep",
            "sample_every_steps",
        ):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(
            self.checkpoint_best is None or self.evaluation.every_steps > 0,
            "checkpoint_best",
            self.checkpoint_best,
            "none without evaluations in training (evaluation.every_steps)",
        )
        parts, pack = self.compute.micro_batches, self.model.pack_size
        for name, size in (("stage1", self.stage1.batch_size), ("stage2", self.stage2.batch_size)):
            require(
                size % parts == 0 and size >= 2 * parts,
                f"{name}.batch_size",
                size,
                f"a multiple of compute.micro_batches, which is {parts}, with two pictures a part",
            )
        require(
            self.stage1.batch_size // parts % pack == 0,
            "model.pack_size",
            pack,
            f"a divisor of the {self.stage1.batch_size // parts} pictures that a step sees at once",
        )
