"""Our networks answer as the published ones do, for weights filled by the parity folder's rule.

Generator, encoders and shape extractor go through the conversion, so by the names of the keys.
Every comparison prints a row of a table; `pytest tests/parity/test_published_networks.py -rP`
shows them.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from published_form import Sizes, State, entry, form, inputs, read_shapes, read_state, small
from published_reference import (
    FIXTURES,
    SIDES,
    answers,
    background,
    double,
    encode,
    extract,
    paint,
    shape_feature,
)
from torch import Tensor, nn

from mixnmatch.bundle import ModelBundle
from mixnmatch.codes import Codes
from mixnmatch.config import ModelConfig
from mixnmatch.mixer import Mixer
from mixnmatch.networks import (
    BackgroundDiscriminator,
    ChildDiscriminator,
    FeatureDiscriminator,
    PairDiscriminators,
    ParentClassifier,
)
from mixnmatch.networks.generator import background_view
from mixnmatch.published import Checkpoint, bundle_of_published, load_published

SHARED = Path(os.environ.get("MIXNMATCH_PARITY", Path(__file__).parents[3] / "shared" / "parity"))
TABLE, ANSWERS = SHARED / "published_keys_20_200.tsv", SHARED / "published_20_200.npz"
needs_parity = pytest.mark.skipif(
    not ANSWERS.is_file() or not TABLE.is_file(),
    reason=f"the published networks' answers are not at {SHARED} (set MIXNMATCH_PARITY)",
)
NETWORKS = ("G", "E", "EX")
IMAGES, LOGITS = 1e-4, 1e-3


def _close(name: str, ours: Tensor, right: Tensor | np.ndarray) -> None:
    """Hold ours to an answer, of which every n-th pixel may have been kept; prints the row."""
    right = torch.as_tensor(right)
    if ours.ndim == 4 and ours.shape != right.shape:
        step = -(-ours.shape[-1] // right.shape[-1])
        ours = ours[..., ::step, ::step]
    assert ours.shape == right.shape, name
    # A mix goes through the logits of encoders.
    loose = name.startswith(("encoder_", "pair_")) or name.endswith(("_logits", "_mix"))
    tolerance = LOGITS if loose else IMAGES
    difference = float((ours - right).abs().max())
    print(f"| `{name}` | {difference:.1e} | {tolerance:.0e} |")
    assert difference <= tolerance, f"{name}: maximum difference {difference:.2e}"


@torch.no_grad()
def _answers_of(bundle: ModelBundle, given: State) -> State:
    """Ours, under the names of the reference."""
    assert bundle.extractor is not None
    codes = Codes(given["z"], given["b"], given["p"], given["c"])
    layers = bundle.generator(codes, given["background_z"])
    view = background_view(layers.background)
    feature = bundle.extractor(given["image"])
    painted = bundle.generator.paint_object(feature, codes.c, layers.background)
    encoded = bundle.encoders.logits(given["image"])._asdict()
    names = [
        f"{stage}_{what}"
        for stage in ("parent", "child")
        for what in ("foreground", "mask", "image")
    ]
    return {
        f"code_background_{view.shape[-1]}": view,
        **{f"code_{name}": getattr(layers, name) for name in names},
        **{f"encoder_{name}": value for name, value in encoded.items()},
        "shape_feature": feature,
        "feature_child_image": painted.child_image,
    }


def _converted(states: dict[str, State], folder: Path) -> ModelBundle:
    """Through real files, as users hold them."""
    folder.mkdir(exist_ok=True)
    for network, state in states.items():
        torch.save(state, folder / f"{network}.pth")
    return load_published(folder)


# Anywhere


@pytest.mark.parametrize("side", SIDES)
def test_ours_meet_the_fixture(side: int, tmp_path: Path) -> None:
    states = {name: read_state(FIXTURES / f"keys_{side}.tsv", name) for name in NETWORKS}
    ours = _answers_of(_converted(states, tmp_path), inputs(small(side)))
    with np.load(FIXTURES / f"answers_{side}.npz") as arrays:
        assert ours.keys() == set(arrays)
        for name, value in ours.items():
            _close(name, value, arrays[name])


@pytest.mark.parametrize("side", SIDES)
def test_the_fixture_is_what_the_reference_gives(side: int) -> None:
    assert read_shapes(FIXTURES / f"keys_{side}.tsv") == form(small(side))
    states = {name: read_state(FIXTURES / f"keys_{side}.tsv", name) for name in NETWORKS}
    found = answers({name: double(state) for name, state in states.items()}, inputs(small(side)))
    with np.load(FIXTURES / f"answers_{side}.npz") as arrays:
        assert found.keys() == set(arrays)
        for name, value in found.items():
            kept = arrays[name]
            step = 1 if value.ndim == 2 else -(-value.shape[-1] // kept.shape[-1])
            thin = value[..., ::step, ::step] if step > 1 else value
            np.testing.assert_allclose(kept, thin.numpy(), rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("side", [64, 256])
def test_other_sides(side: int, tmp_path: Path) -> None:
    states = {
        name: {key: entry(key, shape, [7, k, n]) for n, (key, shape) in enumerate(shapes.items())}
        for k, (name, shapes) in enumerate(form(small(side)).items())
    }
    bundle = _converted(states, tmp_path)
    assert bundle.config.model.image_size == side
    right = answers(states, inputs(small(side)))
    for name, value in _answers_of(bundle, inputs(small(side))).items():
        _close(name, value, right[name])


@torch.no_grad()
def test_a_converted_model_mixes_as_the_published_networks(tmp_path: Path) -> None:
    g, e, ex = (
        {
            k.removeprefix("module."): v
            for k, v in read_state(FIXTURES / "keys_32.tsv", name).items()
        }
        for name in NETWORKS
    )
    mixer = Mixer(_converted({"G": g, "E": e, "EX": ex}, tmp_path))
    random = torch.Generator().manual_seed(0)
    pictures = {
        name: 2 * torch.rand(3, 3, 32, 32, generator=random) - 1
        for name in ("background", "pose", "shape", "texture")
    }
    b, p, c = (
        torch.softmax(encode(e, code, pictures[name]), dim=1)
        for code, name in (("b", "background"), ("p", "shape"), ("c", "texture"))
    )
    behind = background(g, encode(e, "z", pictures["background"]), b)
    features = {
        "code": shape_feature(g, encode(e, "z", pictures["pose"]), p),
        "feature": extract(ex, pictures["shape"]),
    }
    for mode in ("code", "feature"):
        right = paint(g, features[mode], c, behind)["child_image"]
        _close(f"{mode}_mix", mixer.mix_tensors(**pictures, mode=mode), right)
    assert not torch.allclose(features["code"], features["feature"], atol=0.01)


# With the answers of the published networks themselves


@pytest.fixture(scope="module")
def published() -> dict[str, np.ndarray]:
    with np.load(ANSWERS) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def states() -> dict[str, State]:
    return {network: read_state(TABLE, network) for network in NETWORKS}


@pytest.fixture(scope="module")
def bundle(states: dict[str, State]) -> ModelBundle:
    """Without a detour over files, which would be 700 MB."""
    checkpoints = [
        Checkpoint(
            Path(f"{network}.pth"),
            {key.removeprefix("module."): value for key, value in state.items()},
        )
        for network, state in states.items()
    ]
    return bundle_of_published(checkpoints, data={})


@needs_parity
def test_the_form_is_the_published_one() -> None:
    shapes = read_shapes(TABLE)
    for network, ours in form(Sizes()).items():
        assert list(ours.items()) == list(shapes[network].items())


@needs_parity
def test_the_reference_meets_the_published_answers(
    published: dict[str, np.ndarray], states: dict[str, State]
) -> None:
    for name, value in answers(states, inputs(Sizes())).items():
        _close(name, value, published[name])


@needs_parity
def test_ours_meet_the_published_answers(
    published: dict[str, np.ndarray], bundle: ModelBundle
) -> None:
    assert bundle.config.model == ModelConfig()
    for name, value in _answers_of(bundle, inputs(Sizes())).items():
        _close(name, value, published[name])


def _fill(module: nn.Module, network: str, drop: str = "") -> None:
    """Fill a discriminator by position: our modules are registered in the published order.

    Args:
        drop: Published keys with this prefix have no place here.
    """
    state = read_state(TABLE, network)
    values = [v for key, v in state.items() if not (drop and key.startswith(drop))]
    module.load_state_dict(dict(zip(module.state_dict(), values, strict=True)))
    module.eval()


@needs_parity
@torch.no_grad()
def test_discriminators(published: dict[str, np.ndarray], bundle: ModelBundle) -> None:
    given = inputs(Sizes())
    image = given["image"]
    assert bundle.extractor is not None

    background_judge = BackgroundDiscriminator(ModelConfig())
    _fill(background_judge, "D0")
    scores = background_judge(given["background_image"])
    _close("background_class", scores.background.sigmoid(), published["background_class"])
    _close("background_real", scores.real.sigmoid(), published["background_real"])

    parent = ParentClassifier(ModelConfig())
    _fill(parent, "D1", drop="module.rf_logits")
    _close("parent_code_logits", parent(image), published["parent_code_logits"])

    child = ChildDiscriminator(ModelConfig())
    _fill(child, "D2")
    _close("child_code_logits", child.code_logits(image), published["child_code_logits"])
    real = child.real_logits(image).sigmoid()
    _close("child_real", real.flatten(), published["child_real"].flatten())

    pairs = PairDiscriminators(ModelConfig())
    _fill(pairs, "BD")
    codes = Codes(given["background_z"], given["b"], given["p"], given["c"])
    scores = pairs(image, codes)
    for i, name in enumerate(Codes._fields):
        _close(f"pair_{name}", scores[:, i], published[f"pair_{name}"].flatten())

    feature_judge = FeatureDiscriminator(ModelConfig())
    _fill(feature_judge, "DD")
    real = feature_judge(bundle.extractor(image)).sigmoid()
    _close("feature_real", real, published["feature_real"])
