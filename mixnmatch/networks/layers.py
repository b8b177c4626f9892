"""Building blocks shared by the networks. No convolution here has a bias."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class GLU(nn.Module):
    """Gated linear unit over the channels: first half × sigmoid(second half)."""

    def forward(self, x: Float[Tensor, "B C *rest"]) -> Float[Tensor, "B D *rest"]:
        """Halve the channels."""
        return F.glu(x, dim=1)


def conv3(inputs: int, outputs: int) -> nn.Conv2d:
    """3×3 convolution that keeps the size."""
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


def conv4(inputs: int, outputs: int, *, stride: int = 2, padding: int = 1) -> nn.Conv2d:
    """4×4 convolution; by default it halves the size."""
    return nn.Conv2d(inputs, outputs, 4, stride, padding, bias=False)


def leaky() -> nn.LeakyReLU:
    """The discriminators' activation."""
    return nn.LeakyReLU(0.2, inplace=True)


class UpConv3(nn.Conv2d):
    """Nearest ×2, then a 3×3 convolution that keeps the size.

    After nearest ×2 two of a kernel's three rows (and columns) meet the same input pixel, so each
    of the four output phases is a 2×2 convolution of the small picture: 4 products for an output
    pixel instead of 9, with the same weights and the same answer up to rounding.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=False)
        # Phase, tap of the small kernel, tap of the 3-tap kernel.
        phases = [[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]]
        # On the CPU even where weights are made on the meta device: no state fills this buffer.
        values = torch.tensor(phases, dtype=torch.float32, device="cpu")
        self.register_buffer("phases", values, persistent=False)
        self.phases: Tensor

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D 2*H 2*W"]:
        """Double the size."""
        small = torch.einsum("pak,qbl,oikl->pqoiab", self.phases, self.phases, self.weight)
        corners = F.conv2d(x, small.flatten(0, 2), padding=1)  # H+1 × W+1: each phase takes H × W
        even_even, even_odd, odd_even, odd_odd = corners.chunk(4, dim=1)
        even = torch.stack([even_even[..., :-1, :-1], even_odd[..., :-1, 1:]], dim=-1)
        odd = torch.stack([odd_even[..., 1:, :-1], odd_odd[..., 1:, 1:]], dim=-1)
        return torch.stack([even, odd], dim=3).flatten(4, 5).flatten(2, 3)


def up_block(inputs: int, outputs: int) -> nn.Sequential:
    """Nearest ×2, 3×3 convolution, batch norm, GLU."""
    return nn.Sequential(
        UpConv3(inputs, 2 * outputs),
        nn.BatchNorm2d(2 * outputs),
        GLU(),
    )


def same_block(inputs: int, outputs: int) -> nn.Sequential:
    """3×3 convolution, batch norm, GLU."""
    return nn.Sequential(conv3(inputs, 2 * outputs), nn.BatchNorm2d(2 * outputs), GLU())


class Residual(nn.Module):
    """``x + [3×3 convolution, batch norm, GLU, 3×3 convolution, batch norm]``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            conv3(channels, 2 * channels),
            nn.BatchNorm2d(2 * channels),
            GLU(),
            conv3(channels, channels),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Add the block's answer to its input."""
        return x + self.block(x)


def code_trunk(image_size: int, width: int, *, widest: int) -> tuple[nn.Sequential, int]:
    """Strided convolutions down to a 4×4 map, then one that sets the channels to ``8 * width``.

    Args:
        image_size: Side of the picture, in pixels.
        width: Channels after the first convolution; they double with each one.
        widest: Cap on the doubling, in multiples of ``width``.

    Returns:
        The trunk (batch norm from the second convolution on) and its output channels.
    """
    layers: list[nn.Module] = [conv4(3, width), leaky()]
    channels = width
    for i in range(1, int(math.log2(image_size // 4))):
        following = width * min(2**i, widest)
        layers += [conv4(channels, following), nn.BatchNorm2d(following), leaky()]
        channels = following
    layers += [conv3(channels, 8 * width), nn.BatchNorm2d(8 * width), leaky()]
    return nn.Sequential(*layers), 8 * width


def code_head(channels: int, outputs: int) -> nn.Sequential:
    """A 4×4 map to logits: 3×3 convolution, batch norm, activation, 4×4 convolution with bias."""
    return nn.Sequential(
        conv3(channels, channels),
        nn.BatchNorm2d(channels),
        leaky(),
        nn.Conv2d(channels, outputs, 4, stride=4),
        nn.Flatten(),
    )


def initialise(module: nn.Module) -> None:
    """Published initial weights: orthogonal, batch norm N(1, 0.02), biases 0.

    Args:
        module: Network whose parameters are overwritten, from torch's global random state.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.orthogonal_(layer.weight)
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
