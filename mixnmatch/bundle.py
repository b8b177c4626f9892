"""A trained model as users hold it: a folder with weights (safetensors) and its description (JSON).

``model.safetensors`` holds the averaged generator, the encoders and, after stage 2, the shape
extractor; ``bundle.json`` the configuration, the figures measured and a checksum of the weights.
"""

import json
import math
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mixnmatch.config import RunConfig
from mixnmatch.errors import ConfigError, ModelError
from mixnmatch.files import checksum, replace_folder
from mixnmatch.metrics.report import finite_or_null
from mixnmatch.networks import Encoders, Generator, ShapeExtractor
from mixnmatch.settings import from_dict, to_dict
from mixnmatch.training.state import TrainingStage

SCHEMA = 1
"""Version of the format; a bundle of a newer one is refused."""
WEIGHTS, DESCRIPTION = "model.safetensors", "bundle.json"


@dataclass(frozen=True, kw_only=True)
class ModelBundle:
    """Networks in eval mode, with what is known about them."""

    config: RunConfig
    generator: Generator
    encoders: Encoders
    extractor: ShapeExtractor | None
    """Only after stage 2; feature mode needs it."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Figures measured at the end of training."""
    data: dict[str, Any] = field(default_factory=dict)
    """The training data: kind, count, fingerprint."""

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.generator.parameters()).device

    def to(self, device: torch.device | str) -> "ModelBundle":
        """Move the networks."""
        for network in (self.generator, self.encoders, self.extractor):
            if network is not None:
                network.to(device)
        return self

    @property
    def stages(self) -> tuple[int, ...]:
        """Stages that these weights went through."""
        return (1,) if self.extractor is None else (1, 2)


def bundle_of(
    stage: TrainingStage, *, metrics: dict[str, float], data: dict[str, Any]
) -> ModelBundle:
    """The model that a training stage holds: the averaged generator, not the live one.

    Args:
        stage: Stage 1 or stage 2.
        metrics: Figures measured on it.
        data: The training data: kind, count, fingerprint.
    """
    modules = stage.modules()
    generator = modules.get("generator_average", modules["generator"])
    encoders, extractor = modules["encoders"], modules.get("extractor")
    assert isinstance(generator, Generator)
    assert isinstance(encoders, Encoders)
    assert extractor is None or isinstance(extractor, ShapeExtractor)
    return ModelBundle(
        config=stage.config,
        generator=generator,
        encoders=encoders,
        extractor=extractor,
        metrics=metrics,
        data=data,
    )


def save_bundle(bundle: ModelBundle, out: Path) -> Path:
    """Write a bundle; an existing one at ``out`` is replaced at once, never half.

    Returns:
        The folder written.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        weights = {
            f"{name}.{key}": value.contiguous().cpu()
            for name in ("generator", "encoders", "extractor")
            if (module := getattr(bundle, name)) is not None
            for key, value in module.state_dict().items()
        }
        save_file(weights, work / WEIGHTS)
        description = {
            "schema": SCHEMA,
            "stages": bundle.stages,
            "config": to_dict(bundle.config),
            "metrics": finite_or_null(bundle.metrics),
            "data": bundle.data,
            "sha256": checksum(work / WEIGHTS),
        }
        (work / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
        work.chmod(0o755)
        replace_folder(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return out


def bundle_metrics(path: Path) -> dict[str, float]:
    """The figures of a bundle, without reading its weights."""
    return _metrics(json.loads((path / DESCRIPTION).read_text()))


def _metrics(description: dict[str, Any]) -> dict[str, float]:
    """Its figures; NaN for those that JSON has no number for."""
    metrics = description.get("metrics", {})
    return {name: math.nan if value is None else float(value) for name, value in metrics.items()}


def load_bundle(path: Path) -> ModelBundle:
    """Read and check a bundle; its networks are on the CPU, in eval mode.

    Raises:
        ModelError: If files are missing or damaged, or belong to another model or a newer schema.
    """
    for name in (DESCRIPTION, WEIGHTS):
        if not (path / name).is_file():
            raise ModelError(
                f"{path} is no model: it has no {name} (a bundle of `mixnmatch train`)"
            )
    try:
        description = json.loads((path / DESCRIPTION).read_text())
        schema, expected = int(description["schema"]), str(description["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path / DESCRIPTION} cannot be read: {error!r}") from error
    if schema > SCHEMA:
        raise ModelError(f"{path} has bundle schema {schema}: this version reads up to {SCHEMA}")
    if checksum(path / WEIGHTS) != expected:
        raise ModelError(f"{path / WEIGHTS} is damaged: its sha256 is not that of {DESCRIPTION}")
    try:
        config = from_dict(RunConfig, description["config"])
        weights = load_file(path / WEIGHTS)
        metrics = _metrics(description)
    except (ConfigError, SafetensorError, KeyError, AttributeError, TypeError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error

    def filled(name: str, module: Any) -> Any:
        prefix = f"{name}."
        # Copies: the file's tensors are mapped from it, and would change or fault with it.
        state: dict[str, Tensor] = {
            key.removeprefix(prefix): value.to(
                torch.float32 if value.is_floating_point() else value.dtype, copy=True
            )
            for key, value in weights.items()
            if key.startswith(prefix)
        }
        try:
            module.load_state_dict(state, assign=True)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise ModelError(
                f"{path / WEIGHTS} does not fit its configuration: {reason}"
            ) from error
        return module.eval().requires_grad_(False)

    kinds: dict[str, type[Any]] = {
        "generator": Generator,
        "encoders": Encoders,
        "extractor": ShapeExtractor,
    }
    found = {key.partition(".")[0] for key in weights}
    if foreign := sorted(found - kinds.keys()):
        raise ModelError(f"{path / WEIGHTS} has weights of an unknown network {foreign[0]!r}")
    # Without memory of their own, and so without the minute that orthogonal weights take.
    with torch.device("meta"):
        networks = {name: kind(config.model) for name, kind in kinds.items()}
    return ModelBundle(
        config=config,
        generator=filled("generator", networks["generator"]),
        encoders=filled("encoders", networks["encoders"]),
        extractor=filled("extractor", networks["extractor"]) if "extractor" in found else None,
        metrics=metrics,
        data=description.get("data", {}),
    )
