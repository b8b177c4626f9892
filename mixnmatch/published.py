"""The authors' published checkpoints (``G.pth``, ``E.pth``, ``EX.pth``) as a model of ours.

Their networks are ours under other names (``mixnmatch.published_names``), and the shapes of their
weights tell the sizes.
"""

import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from mixnmatch.bundle import ModelBundle
from mixnmatch.config import ModelConfig, RunConfig
from mixnmatch.errors import ConfigError, ModelError
from mixnmatch.files import checksum
from mixnmatch.networks import Encoders, Generator, ShapeExtractor
from mixnmatch.published_names import (
    encoder_names,
    extractor_names,
    generator_names,
    published_key,
)

NetworkT = TypeVar("NetworkT", bound=nn.Module)

GENERATOR, ENCODERS, EXTRACTOR = "a generator", "encoders", "a shape extractor"
SIGNS = {
    "background_stage.": GENERATOR,
    "model_z.": ENCODERS,
    "down1.": EXTRACTOR,
    "encode_img.": "a discriminator",
    "encode_mask.": "a discriminator",
    "BD_z.": "pair discriminators",
}
"""Prefix of a key that only this kind of network has."""


class Checkpoint(NamedTuple):
    """The weights of one published network."""

    path: Path
    """Its file, for the messages."""
    state: Mapping[str, Tensor]
    """By their published keys, without ``module.``."""

    def shape(self, key: str, dimensions: int) -> tuple[int, ...]:
        """Shape of the weights of a key, which tells sizes.

        Raises:
            ModelError: If the key is missing, or its weights have more or fewer dimensions.
        """
        if key not in self.state:
            raise ModelError(
                f"{self.path}: misses the key {key!r}: it must hold the whole network, as published"
            )
        shape = tuple(self.state[key].shape)
        if len(shape) != dimensions:
            raise ModelError(
                f"{self.path}: {key} is {_by(shape)}: it must have {dimensions} dimensions"
            )
        return shape

    def numbers(self, pattern: str) -> set[str]:
        """The different numbers that the one group of a pattern finds at the keys' beginnings."""
        return {found[1] for key in self.state if (found := re.match(pattern, key))}


def load_published(folder: Path) -> ModelBundle:
    """Read the published checkpoints of a folder: ``G.pth``, ``E.pth`` and, if there, ``EX.pth``.

    Returns:
        The model, on the CPU, in eval mode; without ``EX.pth`` one of stage 1 only. Sizes that no
        file tells, those of discriminators, are the defaults.

    Raises:
        ModelError: If a file is missing, is no state dict of its network, or does not fit the
            others.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder: name the one that holds G.pth and E.pth")
    paths = [folder / name for name in ("G.pth", "E.pth", "EX.pth")]
    if not os.path.lexists(paths[-1]):
        paths.pop()
    for path in paths:
        if not path.is_file():
            raise ModelError(f"{path}: no such file: G.pth and E.pth are needed, EX.pth if there")
    checksums = {path.name: checksum(path) for path in paths}
    data = {"source": "published checkpoints", "files": checksums}
    return bundle_of_published([_read(path) for path in paths], data=data)


def bundle_of_published(checkpoints: Sequence[Checkpoint], *, data: dict[str, Any]) -> ModelBundle:
    """Build our networks from published weights.

    Args:
        checkpoints: Of the generator, the encoders and, perhaps, the shape extractor.
        data: Where they come from, for the bundle.

    Raises:
        ModelError: If keys or shapes are not those of the networks, sizes contradict each other,
            or weights are not finite.
    """
    kinds = (GENERATOR, ENCODERS, EXTRACTOR)
    for checkpoint, kind in zip(checkpoints, kinds, strict=False):
        _check_kind(checkpoint, kind)
    generator, encoders, *rest = checkpoints
    config = RunConfig(model=_config(checkpoints))
    size = config.model.image_size
    # Without memory of their own: the checkpoints' weights take the place of these.
    with torch.device("meta"):
        empty = Generator(config.model), Encoders(config.model), ShapeExtractor(config.model)
    return ModelBundle(
        config=config,
        generator=_filled(empty[0], generator, generator_names(size)),
        encoders=_filled(empty[1], encoders, encoder_names(size)),
        extractor=_filled(empty[2], rest[0], extractor_names(size)) if rest else None,
        data=data,
    )


def _generator_sizes(checkpoint: Checkpoint) -> dict[str, int]:
    hidden, background_inputs = checkpoint.shape("background_stage.fc.0.weight", 2)
    parent, parent_inputs, *_ = checkpoint.shape("parent_stage.jointConv.0.weight", 4)
    child, child_inputs, *_ = checkpoint.shape("child_stage.jointConv.0.weight", 4)
    # The gate doubles the channels; the joint convolution also sees the shape feature.
    supers, fine = parent_inputs - parent // 2, child_inputs - child // 4
    blocks = checkpoint.numbers(r"background_stage\.upsample(\d+)\.")
    return {
        "image_size": 4 * 2 ** len(blocks),
        "super_categories": supers,
        "fine_categories": fine,
        "noise_dim": background_inputs - fine,
        "generator_width": hidden // (2 * 16 * 8),
        "feature_channels": parent // 2,
    }


def _encoder_sizes(checkpoint: Checkpoint) -> dict[str, int]:
    last = len(checkpoint.numbers(r"model_z\.(\d+)\.")) - 1
    # Layers 0; 2, 3; 5, 6; 8, 9: a convolution, and its batch norm from the second on.
    together = len(checkpoint.numbers(r"model_z\.0\.(\d+)\.")) // 2 + 1
    outputs = {
        code: checkpoint.shape(f"model_{code}.{last}.weight", 4)[0] for code in ("z", "b", "p")
    }
    return {
        "image_size": 4 * 2 ** max(0, together + last - 3),
        "super_categories": outputs["p"],
        "fine_categories": outputs["b"],
        "noise_dim": outputs["z"],
        "encoder_width": checkpoint.shape("model_z.0.0.weight", 4)[0],
    }


def _extractor_sizes(checkpoint: Checkpoint) -> dict[str, int]:
    return {
        "image_size": 2 * 2 ** len(checkpoint.numbers(r"down(\d+)\.")),
        "extractor_width": checkpoint.shape("first.0.0.weight", 4)[0] // 2,
        "feature_channels": checkpoint.shape("last.0.block.0.weight", 4)[1],
    }


SIZES: tuple[Callable[[Checkpoint], dict[str, int]], ...] = (
    _generator_sizes,
    _encoder_sizes,
    _extractor_sizes,
)


def _config(checkpoints: Sequence[Checkpoint]) -> ModelConfig:
    """Sizes of the networks, as far as the checkpoints tell them.

    Raises:
        ModelError: If two checkpoints contradict each other, or no network has such sizes.
    """
    known: dict[str, int] = {}
    told_by: dict[str, Path] = {}
    for checkpoint, sizes in zip(checkpoints, SIZES, strict=False):
        for name, value in sizes(checkpoint).items():
            if known.setdefault(name, value) != value:
                raise ModelError(
                    f"{checkpoint.path}: {name} is {value}, but {known[name]} in {told_by[name]}: "
                    "the files must be of one model"
                )
            told_by.setdefault(name, checkpoint.path)
    del known["feature_channels"]  # follows from the generator's width
    try:
        return ModelConfig(**known)
    except ConfigError as error:
        name = str(error).partition(" ")[0].removeprefix("model.")
        raise ModelError(f"{told_by[name]}: {error}") from error


def _check_kind(checkpoint: Checkpoint, wanted: str) -> None:
    """Refuse the checkpoint of another network with words that say which it is.

    Raises:
        ModelError: If it has the signs of another kind, and none of the wanted one.
    """
    found: dict[str, str] = {}
    for key in checkpoint.state:
        for sign, kind in SIGNS.items():
            if key.startswith(sign):
                found.setdefault(kind, key)
    if found and wanted not in found:
        kind, key = next(iter(found.items()))
        raise ModelError(f"{checkpoint.path}: holds {kind} ({key}): it must hold {wanted}")


def _filled(network: NetworkT, checkpoint: Checkpoint, names: Mapping[str, str]) -> NetworkT:
    """Give a network without memory the weights of a checkpoint, as float32 copies.

    Raises:
        ModelError: If keys are missing or unknown, or weights have another shape or type or are
            not finite.
    """
    ours = network.state_dict()
    keys = {published_key(key, names): key for key in ours}
    _check_keys(checkpoint, keys)
    state = {}
    for published, key in keys.items():
        value, right = checkpoint.state[published], ours[key]
        thing = f"{checkpoint.path}: {published}"
        if value.shape != right.shape:
            raise ModelError(
                f"{thing} is {_by(value.shape)}: it must be {_by(right.shape)}, for the sizes that "
                "other keys tell"
            )
        if value.is_floating_point() != right.is_floating_point() or value.is_complex():
            raise ModelError(f"{thing} is of {value.dtype}: it must be of {right.dtype}")
        state[key] = value.to(right.dtype, copy=True)
        if not (finite := torch.isfinite(state[key])).all():
            raise ModelError(
                f"{thing} has {int((~finite).sum())} of {finite.numel()} values that are not "
                "finite: all must be numbers within float32"
            )
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


def _check_keys(checkpoint: Checkpoint, wanted: Mapping[str, str]) -> None:
    missing = [key for key in wanted if key not in checkpoint.state]
    unknown = [key for key in checkpoint.state if key not in wanted]
    faults = [
        f"{verb} the key {keys[0]!r}" + (f" and {len(keys) - 1} more" if len(keys) > 1 else "")
        for verb, keys in (("misses", missing), ("has beyond its network", unknown))
        if keys
    ]
    if faults:
        raise ModelError(
            f"{checkpoint.path}: {', '.join(faults)}: it must hold the network as published"
        )


def _read(path: Path) -> Checkpoint:
    """Read a file of weights, and never any other object.

    Raises:
        ModelError: If it is damaged or holds anything but tensors by name.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # on what other files look like
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for bytes that are no weights
        # Its own words advise to unpickle the file, which would run whatever code it names.
        if found := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise ModelError(
                f"{path}: holds an object ({found[1]}) that is not opened, since that runs its "
                "code: it must be a state dict, as torch.save(network.state_dict(), …) writes"
            ) from error
        raise ModelError(
            f"{path}: not a file of weights that torch.save wrote, or damaged: copy it again"
        ) from error
    if not isinstance(state, dict) or not state:
        kind = type(state).__name__
        held = "an empty dictionary" if isinstance(state, dict) else f"a value of type {kind}"
        raise ModelError(f"{path}: holds {held}: it must be a state dict of weights by name")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise ModelError(
                f"{path}: holds a value of type {type(value).__name__} under {key!r}: it must be a "
                "state dict, nothing but weights by name"
            )
        if value.layout is not torch.strided or value.device.type != "cpu":
            raise ModelError(f"{path}: {key} holds no plain values: it must be a dense tensor")
    prefix = "module." if all(key.startswith("module.") for key in state) else ""
    return Checkpoint(path, {key.removeprefix(prefix): value for key, value in state.items()})


def _by(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) or "a single number"
