"""Each layer that saves work against the plain layers that it stands for, in float64."""

from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mixnmatch.config import ModelConfig
from mixnmatch.networks import BackgroundDiscriminator
from mixnmatch.networks.generator import _Canvas
from mixnmatch.networks.layers import (
    GLU,
    CodeConv3,
    JointBlock,
    Residual,
    UpConv3,
    WholeMap,
    code_head,
    initialise,
)
from mixnmatch.networks.normalisation import BatchNorm
from mixnmatch.networks.precision import full_precision


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def alike(ours: Tensor, plain: Tensor, leaves: Sequence[Tensor]) -> None:
    """The same values, and the same gradients of a random weighting of them."""
    torch.testing.assert_close(ours, plain)
    weighting = torch.randn_like(plain)
    pairs = zip(
        torch.autograd.grad(ours, leaves, weighting),
        torch.autograd.grad(plain, leaves, weighting),
        strict=True,
    )
    for gradient, expected in pairs:
        assert gradient.abs().max() > 0
        torch.testing.assert_close(gradient, expected)


def leaf(*shape: int) -> Tensor:
    return torch.randn(shape, requires_grad=True)


# A code beside a feature


def with_planes(layer: CodeConv3, feature: Tensor, code: Tensor) -> Tensor:
    """The code as constant planes, concatenated with the feature."""
    planes = code[..., None, None].expand(*code.shape, *feature.shape[2:])
    both = [planes, feature] if layer.code_first else [feature, planes]
    return F.conv2d(torch.cat(both, dim=1), layer.weight, padding=1)


@pytest.mark.parametrize("code_first", [True, False])
@pytest.mark.parametrize("size", [(4, 4), (8, 8), (2, 2), (3, 3), (7, 5), (2, 9), (32, 32)])
def test_a_code_convolution_is_that_of_its_planes(size: tuple[int, int], code_first: bool) -> None:
    layer = CodeConv3(3, 5, 4, code_first=code_first).double()
    feature, code = leaf(2, 3, *size), leaf(2, 5)
    ours = layer(feature, code)
    assert ours.shape == (2, 4, *size)
    alike(ours, with_planes(layer, feature, code), [feature, code, layer.weight])


@pytest.mark.parametrize(("features", "code", "outputs"), [(1, 1, 1), (6, 2, 3), (2, 7, 1)])
def test_a_code_convolution_of_any_widths(features: int, code: int, outputs: int) -> None:
    layer = CodeConv3(features, code, outputs, code_first=True).double()
    x, k = leaf(1, features, 5, 4), leaf(1, code)
    alike(layer(x, k), with_planes(layer, x, k), [x, k, layer.weight])


def test_the_code_is_seen_at_the_border_as_anywhere() -> None:
    layer = CodeConv3(1, 1, 1, code_first=False).double()
    nn.init.ones_(layer.weight)
    answer = layer(torch.zeros(1, 1, 4, 5), torch.ones(1, 1))[0, 0]
    # Taps that are inside the picture.
    expected = [[4, 6, 6, 6, 4], [6, 9, 9, 9, 6], [6, 9, 9, 9, 6], [4, 6, 6, 6, 4]]
    assert answer.tolist() == expected


@pytest.mark.parametrize("code_first", [True, False])
def test_gradients_of_a_code_convolution_by_differences(code_first: bool) -> None:
    layer = CodeConv3(2, 2, 2, code_first=code_first).double()

    def call(feature: Tensor, code: Tensor, weight: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": weight}, (feature, code))

    inputs = (leaf(2, 2, 4, 3), leaf(2, 2), leaf(2, 4, 3, 3))
    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(call, inputs)


@pytest.mark.parametrize("wanted", [(True, False), (False, True)])
def test_either_gradient_alone(wanted: tuple[bool, bool]) -> None:
    layer = CodeConv3(2, 3, 2, code_first=True).double().requires_grad_(False)
    inputs = (
        torch.randn(2, 2, 4, 4, requires_grad=wanted[0]),
        torch.randn(2, 3, requires_grad=wanted[1]),
    )
    leaves = [x for x in inputs if x.requires_grad]
    alike(layer(*inputs), with_planes(layer, *inputs), leaves)


def test_adding_in_place_is_known_to_autograd() -> None:
    """What was changed after its value was kept must be refused, not be wrong."""
    layer = CodeConv3(2, 2, 2, code_first=True).double()
    feature, code = leaf(1, 2, 4, 4), leaf(1, 2)
    answer = layer(feature, code)
    assert answer.requires_grad
    assert not answer.is_leaf
    # The answer goes through layers that keep it, twice, and its inputs are used once more.
    twice = (answer * answer).sum() + torch.sigmoid(answer).sum() + (feature.sum() * code.sum())
    gradients = torch.autograd.grad(twice, [feature, code, layer.weight])
    plain = with_planes(layer, feature, code)
    expected = (plain * plain).sum() + torch.sigmoid(plain).sum() + (feature.sum() * code.sum())
    for gradient, right in zip(
        gradients, torch.autograd.grad(expected, [feature, code, layer.weight]), strict=True
    ):
        torch.testing.assert_close(gradient, right)
    answer = layer(feature, code)
    kept = answer.square().sum()
    with torch.no_grad():
        answer += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        kept.backward()


def test_a_joint_block_normalises_and_gates() -> None:
    block = JointBlock(3, 2, 4, code_first=False).double()
    feature, code = leaf(2, 3, 4, 4), leaf(2, 2)
    convolution, norm, _ = block
    plain = with_planes(convolution, feature, code)
    plain = F.batch_norm(plain, None, None, norm.weight, norm.bias, training=True)
    plain = plain[:, :4] * torch.sigmoid(plain[:, 4:])
    alike(block(feature, code), plain, [feature, code, convolution.weight, norm.weight])


@pytest.mark.parametrize("kind", [CodeConv3, JointBlock])
def test_a_code_convolution_keeps_nothing_but_its_weight_in_a_state(
    kind: Callable[..., nn.Module],
) -> None:
    layer = kind(1, 1, 1, code_first=True)
    kept = [key for key in layer.state_dict() if key.rpartition(".")[0] in ("", "0")]
    assert [key.rpartition(".")[2] for key in kept] == ["weight"]
    with torch.device("meta"):
        layer = CodeConv3(1, 1, 1, code_first=True)
    assert layer.weight.device.type == "meta"
    assert layer.inside.device.type == "cpu"


# Up-convolutions


@pytest.mark.parametrize("size", [(4, 4), (5, 3), (1, 1), (8, 2)])
def test_up_convolution_is_nearest_then_convolution(size: tuple[int, int]) -> None:
    layer = UpConv3(3, 4).double()
    nn.init.normal_(layer.weight)
    x = leaf(2, 3, *size)
    plain = F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), layer.weight, padding=1)
    alike(layer(x), plain, [x, layer.weight])


def test_up_convolution_keeps_nothing_but_its_weight_in_a_state() -> None:
    assert list(UpConv3(1, 1).state_dict()) == ["weight"]
    with torch.device("meta"):
        assert UpConv3(1, 1).taps.device.type == "cpu"


# Convolutions of whole maps, and merged heads


@pytest.mark.parametrize(("count", "inputs", "outputs"), [(1, 1, 1), (2, 3, 5), (7, 8, 1)])
def test_a_whole_map_is_a_convolution(count: int, inputs: int, outputs: int) -> None:
    layer = WholeMap(inputs, outputs)
    x = leaf(count, inputs, 4, 4)
    plain = F.conv2d(x, layer.weight, layer.bias, stride=4)
    assert plain.shape == (count, outputs, 1, 1)
    ours = layer(x)
    assert ours.shape == (count, outputs)
    alike(ours[..., None, None], plain, [x, layer.weight, layer.bias])


def test_a_whole_map_in_any_memory_order() -> None:
    layer, x = WholeMap(3, 5), torch.randn(2, 3, 4, 4)
    expected = layer(x)
    layer.to(memory_format=torch.channels_last)
    torch.testing.assert_close(layer(x.to(memory_format=torch.channels_last)), expected)
    torch.testing.assert_close(layer(x), expected)


def test_a_canvas_is_two_convolutions() -> None:
    canvas = _Canvas(3)
    x = leaf(2, 3, 6, 6)
    image, mask = canvas(x)
    leaves = [x, canvas.image[0].weight, canvas.mask[0].weight]
    alike(
        torch.cat([image, mask], dim=1), torch.cat([canvas.image(x), canvas.mask(x)], dim=1), leaves
    )


@pytest.mark.parametrize("side", [32, 64])
def test_patch_scores_are_two_convolutions(side: int) -> None:
    net = BackgroundDiscriminator(ModelConfig(image_size=side, discriminator_width=4))
    for head in (net.real_head, net.background_head):  # they begin with biases 0
        nn.init.normal_(head.bias)
    view = leaf(2, 3, side - 2, side - 2)
    scores, feature = net(view), net.trunk(view)
    plain = [net.real_head(feature), net.background_head(feature)]
    leaves = [view, *net.parameters()]
    alike(torch.cat(scores, dim=1), torch.cat(plain, dim=1), leaves)


# The rest


def test_glu_and_residual() -> None:
    x = torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(GLU()(x), x[:, :2] * torch.sigmoid(x[:, 2:]))
    block = Residual(4).eval()
    nn.init.zeros_(block.block[-1].weight)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize(
    ("given", "got"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_full_precision(given: torch.dtype, got: torch.dtype) -> None:
    x = torch.randn(3).to(given)
    assert full_precision(x).dtype == got
    assert torch.equal(full_precision(x).double(), x.double())


def test_initial_weights() -> None:
    layers = nn.ModuleList(
        [
            nn.Conv2d(3, 64, 4),
            nn.ConvTranspose2d(64, 8, 4),
            nn.Linear(32, 16),
            BatchNorm(5000),
            code_head(4, 7),
        ]
    )
    for parameter in layers.parameters():
        nn.init.constant_(parameter, 7.0)
    initialise(layers)
    for layer in layers[:3]:
        rows = layer.weight.flatten(1)
        gram = rows @ rows.T if rows.shape[0] <= rows.shape[1] else rows.T @ rows
        torch.testing.assert_close(gram, torch.eye(len(gram)))
        assert not layer.bias.any()
    norm, head = layers[3], layers[4]
    assert abs(norm.weight.mean().item() - 1) < 2e-3
    assert abs(norm.weight.std().item() - 0.02) < 2e-3
    assert not norm.bias.any()
    assert not head[3].bias.any()
