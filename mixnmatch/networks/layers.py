"""Building blocks shared by the networks. No convolution here but the last has a bias."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mixnmatch.networks.normalisation import BatchNorm


class GLU(nn.Module):
    """Gated linear unit over the channels: first half × sigmoid(second half)."""

    def forward(self, x: Float[Tensor, "B C *rest"]) -> Float[Tensor, "B D *rest"]:
        """Halve the channels."""
        return F.glu(x, dim=1)


def conv3(inputs: int, outputs: int) -> nn.Conv2d:
    """3×3 convolution that keeps the size."""
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


class Conv4(nn.Conv2d):
    """4×4 convolution.

    Where it leaves a map of 4×4 or less, most of its time goes into its many weights, which a CPU's
    bfloat16 kernels for convolutions handle badly: there it is done as one matrix product.
    """

    MANY_WEIGHTS = 2**20

    def forward(self, input: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D I J"]:
        """Convolve."""
        side, padding = self.stride[0], int(self.padding[0])
        height = (input.shape[-2] + 2 * padding - 4) // side + 1
        width = (input.shape[-1] + 2 * padding - 4) // side + 1
        small = height * width <= 16 and self.weight.numel() >= self.MANY_WEIGHTS
        if not small or not _in_bfloat16_on_cpu(input):
            return super().forward(input)
        patches = F.unfold(input, 4, padding=padding, stride=side).transpose(1, 2)  # B L C·16
        product = F.linear(patches.flatten(0, 1), self.weight.flatten(1), self.bias)
        return product.unflatten(0, (-1, height, width)).permute(0, 3, 1, 2).contiguous()


def _in_bfloat16_on_cpu(x: Tensor) -> bool:
    if x.device.type != "cpu" or x.dtype == torch.float64:
        return False
    return x.dtype == torch.bfloat16 or (
        torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    )


def conv4(inputs: int, outputs: int, *, stride: int = 2, padding: int = 1) -> nn.Conv2d:
    """4×4 convolution; by default it halves the size."""
    return Conv4(inputs, outputs, 4, stride, padding, bias=False)


def leaky() -> nn.LeakyReLU:
    """The discriminators' activation."""
    return nn.LeakyReLU(0.2, inplace=True)


class UpConv3(nn.Conv2d):
    """Nearest ×2, then a 3×3 convolution that keeps the size, as one transposed convolution.

    After nearest ×2 two of a kernel's three rows (and columns) meet the same input pixel, so that
    both steps together are a transposed 4×4 convolution of stride 2: 4 products for an output pixel
    instead of 9, with the same weights and the same answer up to rounding.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=False)
        # Tap a of the 4-tap kernel is the sum of these taps of the 3-tap one.
        taps = [[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]]
        # On the CPU even where weights are made on the meta device: no state fills this buffer.
        values = torch.tensor(taps, dtype=torch.float32, device="cpu")
        self.register_buffer("taps", values, persistent=False)
        self.taps: Tensor

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D 2*H 2*W"]:
        """Double the size."""
        kernel = torch.einsum("ak,bl,oikl->ioab", self.taps, self.taps, self.weight)
        return F.conv_transpose2d(x, kernel, stride=2, padding=1)


class CodeConv3(nn.Conv2d):
    """3×3 convolution of a feature and a code's constant planes, without the planes.

    A constant plane gives the same sum of weights at every pixel, but for the border, where zero
    padding takes taps away. So the code adds one of nine numbers to a channel: those of the first,
    the inner and the last row, by the first, the inner and the last column.

    Args:
        features: Channels of the feature.
        code: Dimensions of the code.
        outputs: Channels of the answer.
        code_first: Whether the code's weights come before the feature's.
    """

    def __init__(self, features: int, code: int, outputs: int, *, code_first: bool) -> None:
        super().__init__(features + code, outputs, 3, padding=1, bias=False)
        self.sizes = (code, features) if code_first else (features, code)
        self.code_first = code_first
        # Which taps of a kernel are inside the picture at its first, inner and last pixel.
        inside = [[0, 1, 1], [1, 1, 1], [1, 1, 0]]
        values = torch.tensor(inside, dtype=torch.float32, device="cpu")
        self.register_buffer("inside", values, persistent=False)
        self.inside: Tensor

    def forward(  # type: ignore[override]  # two inputs instead of one
        self, feature: Float[Tensor, "B C H W"], code: Float[Tensor, "B K"]
    ) -> Float[Tensor, "B D H W"]:
        """Convolve the feature with the code beside it at every pixel."""
        first, second = self.weight.split(self.sizes, dim=1)
        of_code, of_feature = (first, second) if self.code_first else (second, first)
        sums = torch.einsum("rk,sl,oikl->irso", self.inside, self.inside, of_code)
        bias = (code @ sums.flatten(1)).unflatten(1, sums.shape[1:]).permute(0, 3, 1, 2)
        return _AddByBorder.apply(F.conv2d(feature, of_feature, padding=1), bias)


class _AddByBorder(torch.autograd.Function):
    """Add, in place, a number for each channel and each class of pixels; see ``CodeConv3``."""

    @staticmethod
    def forward(
        ctx: Any, x: Float[Tensor, "B D H W"], classes: Float[Tensor, "B D 3 3"]
    ) -> Float[Tensor, "B D H W"]:
        ctx.mark_dirty(x)
        ctx.dtype = classes.dtype
        classes = classes.to(x.dtype)
        down, right = x.shape[-2] - 1, x.shape[-1] - 1  # steps from the first to the last
        x[..., 1:-1, 1:-1] += classes[..., 1:2, 1:2]
        x[..., 1:-1, ::right] += classes[..., 1:2, ::2]
        x[..., ::down, 1:-1] += classes[..., ::2, 1:2]
        x[..., ::down, ::right] += classes[..., ::2, ::2]
        return x

    @staticmethod
    def backward(
        ctx: Any, gradient: Float[Tensor, "B D H W"]
    ) -> tuple[Float[Tensor, "B D H W"], Float[Tensor, "B D 3 3"]]:
        inner = gradient[..., 1:-1, :].sum(dim=-2, dtype=ctx.dtype)
        rows = torch.stack([gradient[..., 0, :], inner, gradient[..., -1, :]], dim=-2)
        inner = rows[..., 1:-1].sum(dim=-1)
        return gradient, torch.stack([rows[..., 0], inner, rows[..., -1]], dim=-1)


def up_block(inputs: int, outputs: int) -> nn.Sequential:
    """Nearest ×2, 3×3 convolution, batch norm, GLU."""
    return nn.Sequential(
        UpConv3(inputs, 2 * outputs),
        BatchNorm(2 * outputs),
        GLU(),
    )


class WholeMap(nn.Conv2d):
    """4×4 convolution of a 4×4 map, as the matrix product that it is."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 4, stride=4)

    def forward(self, x: Float[Tensor, "B C 4 4"]) -> Float[Tensor, "B D"]:
        """A vector for each map."""
        return F.linear(x.flatten(1), self.weight.flatten(1), self.bias)


def same_block(inputs: int, outputs: int) -> nn.Sequential:
    """3×3 convolution, batch norm, GLU."""
    return nn.Sequential(conv3(inputs, 2 * outputs), BatchNorm(2 * outputs), GLU())


class JointBlock(nn.Sequential):
    """3×3 convolution of a feature beside a code, batch norm, GLU; see ``CodeConv3``."""

    def __init__(self, features: int, code: int, outputs: int, *, code_first: bool) -> None:
        super().__init__(
            CodeConv3(features, code, 2 * outputs, code_first=code_first),
            BatchNorm(2 * outputs),
            GLU(),
        )

    def forward(  # type: ignore[override]  # two inputs instead of one
        self, feature: Float[Tensor, "B C H W"], code: Float[Tensor, "B K"]
    ) -> Float[Tensor, "B D H W"]:
        """Join a code to every pixel of a feature."""
        convolution, *rest = self
        hidden = convolution(feature, code)
        for layer in rest:
            hidden = layer(hidden)
        return hidden


class Residual(nn.Module):
    """``x + [3×3 convolution, batch norm, GLU, 3×3 convolution, batch norm]``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            conv3(channels, 2 * channels),
            BatchNorm(2 * channels),
            GLU(),
            conv3(channels, channels),
            BatchNorm(channels),
        )

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Add the block's answer to its input."""
        return x + self.block(x)


def code_trunk(
    image_size: int, width: int, *, widest: int, inputs: int = 3
) -> tuple[nn.Sequential, int]:
    """Strided convolutions down to a 4×4 map, then one that sets the channels to ``8 * width``.

    Args:
        image_size: Side of the picture, in pixels.
        width: Channels after the first convolution; they double with each one.
        widest: Cap on the doubling, in multiples of ``width``.
        inputs: Channels of the picture.

    Returns:
        The trunk (batch norm from the second convolution on) and its output channels.
    """
    layers: list[nn.Module] = [conv4(inputs, width), leaky()]
    channels = width
    for i in range(1, int(math.log2(image_size // 4))):
        following = width * min(2**i, widest)
        layers += [conv4(channels, following), BatchNorm(following), leaky()]
        channels = following
    layers += [conv3(channels, 8 * width), BatchNorm(8 * width), leaky()]
    return nn.Sequential(*layers), 8 * width


def code_head(channels: int, outputs: int) -> nn.Sequential:
    """A 4×4 map to logits: 3×3 convolution, batch norm, activation, 4×4 convolution with bias."""
    return nn.Sequential(
        conv3(channels, channels),
        BatchNorm(channels),
        leaky(),
        WholeMap(channels, outputs),
    )


def initialise(module: nn.Module) -> None:
    """Published initial weights: orthogonal, batch norm N(1, 0.02), biases 0.

    Args:
        module: Network whose parameters are overwritten, from torch's global random state.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.orthogonal_(layer.weight)
        elif isinstance(layer, BatchNorm):
            nn.init.normal_(layer.weight, 1.0, 0.02)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
