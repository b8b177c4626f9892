"""Configuration of a run: frozen dataclasses that check themselves.

The same object travels to workers, MLflow and checkpoints, as ``to_dict`` and ``from_dict`` of
plain JSON types.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mixnmatch.errors import ConfigError

T = TypeVar("T")


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

    def __post_init__(self) -> None:
        _check_schedule("stage1", self)
        _require(0 <= self.ema_decay < 1, "stage1.ema_decay", self.ema_decay, "in [0, 1)")


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


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as nested plain dictionaries, ready for JSON."""
    return dataclasses.asdict(config)


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """A configuration as one level of dotted keys, ``{"stage1.lr": 2e-4, …}``."""
    flat: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            flat |= flatten(value, f"{prefix}{item.name}.")
        else:
            flat[prefix + item.name] = value
    return flat


def from_dict(kind: type[T], values: object, prefix: str = "") -> T:
    """Build a configuration from nested dictionaries.

    Args:
        kind: The configuration class.
        values: Its fields; those left out keep their defaults.
        prefix: Dotted path of ``values``, for messages.

    Raises:
        ConfigError: For an unknown key, a value of the wrong type, or one out of range.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"{prefix.rstrip('.') or 'configuration'} is {values!r}: it must be a table of keys"
        )
    hints = typing.get_type_hints(kind)
    unknown = [key for key in values if key not in hints]
    if unknown:
        raise _unknown_key(f"{prefix}{unknown[0]}", [prefix + name for name in hints], kind)
    return kind(**{key: _convert(hints[key], value, prefix + key) for key, value in values.items()})


def override(config: T, changes: Mapping[str, Any]) -> T:
    """A copy of a configuration with some dotted keys changed at once.

    Args:
        config: Any configuration of this module.
        changes: For instance ``{"stage1.lr": 1e-4}``.

    Raises:
        ConfigError: For an unknown key, a value of the wrong type, or one out of range.
    """
    nested = to_dict(config)
    for key, value in changes.items():
        *path, leaf = key.split(".")
        table: Any = nested
        for name in path:
            table = table.get(name) if isinstance(table, dict) else None
        if not isinstance(table, dict) or leaf not in table or isinstance(table[leaf], dict):
            raise _unknown_key(key, list(flatten(config)), type(config))
        table[leaf] = value
    return from_dict(type(config), nested)


def parse_assignment(text: str) -> tuple[str, Any]:
    """Split a command-line ``key=value``; the value is read as an integer, a float, none, or text.

    Raises:
        ConfigError: If there is no ``=``.
    """
    key, separator, raw = text.partition("=")
    if not separator or not key:
        raise ConfigError(f"{text!r} is no setting: write key=value, for instance stage1.lr=1e-4")
    for convert in (int, float):
        try:
            return key, convert(raw)
        except ValueError:
            continue
    return key, None if raw.lower() in ("none", "null") else raw


def _unknown_key(key: str, known: list[str], kind: type[Any]) -> ConfigError:
    """The error for a key that is not there, with what may have been meant."""
    leaves = {name.rpartition(".")[2]: name for name in known}
    leaf = key.rpartition(".")[2]
    close = difflib.get_close_matches(key, known, n=3)
    close += [leaves[match] for match in difflib.get_close_matches(leaf, leaves, n=2, cutoff=0.8)]
    if close:
        hint = f"did you mean {' or '.join(dict.fromkeys(close))}?"
    else:
        section = key.partition(".")[0] + "."
        inside = [name for name in known if name.startswith(section)]
        hint = f"known are {', '.join(inside or [item.name for item in dataclasses.fields(kind)])}"
    return ConfigError(f"unknown configuration key {key}: {hint}")


def _convert(hint: Any, value: Any, name: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type[Any], hint), value, f"{name}.")
    if isinstance(hint, types.UnionType):
        allowed = typing.get_args(hint)
        if value is None and types.NoneType in allowed:
            return None
        hint = next(option for option in allowed if option is not types.NoneType)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as error:
            raise ConfigError(f"{name} is {value!r}: it must be smaller") from error
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{name} is {value!r}: it must be of type {hint.__name__}")
    return value
