"""Our networks answer as the published ones do, for weights filled by the parity folder's rule."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mixnmatch.codes import Codes
from mixnmatch.config import ModelConfig
from mixnmatch.networks import (
    BackgroundDiscriminator,
    ChildDiscriminator,
    Encoders,
    FeatureDiscriminator,
    Generator,
    PairDiscriminators,
    ParentClassifier,
    ShapeExtractor,
)
from mixnmatch.networks.generator import background_view

SHARED = Path(os.environ.get("MIXNMATCH_PARITY", Path(__file__).parents[3] / "shared" / "parity"))
needs_parity = pytest.mark.skipif(
    not (SHARED / "published_20_200.npz").is_file(),
    reason=f"the published networks' answers are not at {SHARED} (set MIXNMATCH_PARITY)",
)


def _entry(key: str, shape: tuple[int, ...], seed: list[int]) -> Tensor:
    rng = np.random.Generator(np.random.PCG64(seed))
    if key.endswith("num_batches_tracked"):
        return torch.tensor(0)
    if key.endswith("running_var"):
        return torch.from_numpy(0.5 + rng.random(shape)).float()
    values = rng.standard_normal(shape)
    if len(shape) >= 2:
        values = values * np.sqrt(2 / (values.size / shape[0]))
    elif key.endswith("weight"):
        values = 1 + 0.1 * values
    else:
        values = 0.1 * values
    return torch.from_numpy(values).float()


def _fill(module: nn.Module, network: str, drop: str = "", order: tuple[str, ...] = ()) -> None:
    """Fill a network by position: our modules are registered in the published order.

    Args:
        drop: Published keys with this prefix have no place here.
        order: Prefixes of our keys that stand in another order than the published ones.
    """
    with (SHARED / "published_keys_20_200.tsv").open() as lines:
        rows = [row for row in csv.reader(lines, delimiter="\t") if row[0] == network]
    rows = [row for row in rows if not (drop and row[3].startswith(drop))]
    ours = list(module.state_dict().items())
    if order:
        rank = {prefix: i for i, prefix in enumerate(order)}
        ours.sort(key=lambda item: rank[next(p for p in order if item[0].startswith(p))])
    state = {}
    for row, (key, value) in zip(rows, ours, strict=True):
        shape = () if row[4] == "scalar" else tuple(int(n) for n in row[4].split("x"))
        assert shape == tuple(value.shape), (row[3], key)
        state[key] = _entry(row[3], shape, [7, int(row[1]), int(row[2])])
    module.load_state_dict(state)
    module.eval()


@pytest.fixture(scope="module")
def answers() -> dict[str, np.ndarray]:
    with np.load(SHARED / "published_20_200.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def inputs() -> dict[str, Tensor]:
    def rng(i: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64([7, 100, i]))

    def simplex(i: int, n: int) -> Tensor:
        return torch.softmax(torch.from_numpy(2 * rng(i).standard_normal((2, n))), 1).float()

    return {
        "background_z": torch.from_numpy(rng(0).standard_normal((2, 100))).float(),
        "z": torch.from_numpy(rng(1).standard_normal((2, 100))).float(),
        "b": simplex(2, 200),
        "p": simplex(3, 20),
        "c": simplex(4, 200),
        "image": torch.from_numpy(2 * rng(5).random((2, 3, 128, 128)) - 1).float(),
        "image126": torch.from_numpy(2 * rng(6).random((2, 3, 126, 126)) - 1).float(),
    }


def _close(ours: Tensor, published: np.ndarray, tolerance: float) -> None:
    difference = float((ours - torch.from_numpy(published)).abs().max())
    assert difference <= tolerance, f"maximum difference {difference:.2e} > {tolerance:.0e}"


@needs_parity
@torch.no_grad()
def test_generator_and_extractor(answers: dict[str, np.ndarray], inputs: dict[str, Tensor]) -> None:
    generator = Generator(ModelConfig())
    _fill(
        generator,
        "G",
        order=(
            "background_stage",
            "background_image",
            "parent_stage",
            "parent_joint",
            "parent_residual",
            "parent_canvas",
            "child_joint",
            "child_residual",
            "child_same",
            "child_canvas",
        ),
    )
    codes = Codes(inputs["z"], inputs["b"], inputs["p"], inputs["c"])
    layers = generator(codes, inputs["background_z"])
    for name, ours in {
        "code_background_126": background_view(layers.background),
        "code_parent_image": layers.parent_image,
        "code_child_image": layers.child_image,
        "code_parent_foreground": layers.parent_foreground,
        "code_child_foreground": layers.child_foreground,
        "code_parent_mask": layers.parent_mask,
        "code_child_mask": layers.child_mask,
    }.items():
        _close(ours[..., ::2, ::2], answers[name], 1e-4)

    extractor = ShapeExtractor(ModelConfig())
    _fill(extractor, "EX")
    feature = extractor(inputs["image"])
    _close(feature[..., ::4, ::4], answers["shape_feature"], 1e-4)
    image = generator.paint_object(feature, codes.c, layers.background).child_image
    _close(image[..., ::2, ::2], answers["feature_child_image"], 1e-4)

    discriminator = FeatureDiscriminator(ModelConfig())
    _fill(discriminator, "DD")
    _close(discriminator(feature).sigmoid(), answers["feature_real"], 1e-4)


@needs_parity
@torch.no_grad()
def test_encoders_and_pair_discriminators(
    answers: dict[str, np.ndarray], inputs: dict[str, Tensor]
) -> None:
    encoders = Encoders(ModelConfig())
    _fill(encoders, "E")
    for name, ours in encoders.logits(inputs["image"])._asdict().items():
        _close(ours, answers[f"encoder_{name}"], 1e-3)

    pairs = PairDiscriminators(ModelConfig())
    _fill(pairs, "BD")
    codes = Codes(inputs["background_z"], inputs["b"], inputs["p"], inputs["c"])
    scores = pairs(inputs["image"], codes)
    for i, name in enumerate(Codes._fields):
        _close(scores[:, i], answers[f"pair_{name}"].reshape(-1), 1e-3)


@needs_parity
@torch.no_grad()
def test_discriminators(answers: dict[str, np.ndarray], inputs: dict[str, Tensor]) -> None:
    background = BackgroundDiscriminator(ModelConfig())
    _fill(background, "D0")
    scores = background(inputs["image126"])
    _close(scores.background.sigmoid(), answers["background_class"], 1e-4)
    _close(scores.real.sigmoid(), answers["background_real"], 1e-4)

    parent = ParentClassifier(ModelConfig())
    _fill(parent, "D1", drop="module.rf_logits")
    _close(parent(inputs["image"]), answers["parent_code_logits"], 1e-3)

    child = ChildDiscriminator(ModelConfig())
    _fill(child, "D2")
    _close(child.code_logits(inputs["image"]), answers["child_code_logits"], 1e-3)
    real = child.real_logits(inputs["image"]).sigmoid().flatten()
    _close(real, answers["child_real"].reshape(-1), 1e-4)
