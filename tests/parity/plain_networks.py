"""All networks in their plain form: evaluated from copies of their weights, by name.

Functions of torch alone, no layer of ours: nothing that ``mixnmatch.networks`` computes can move
the reference. The names are those of the state dictionaries, which are also those of saved weights.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NOISE = (0.5, 0.3, 0.3)


class Weights:
    """A copy of a network's weights and buffers, and the layers that use them by name."""

    def __init__(self, network: nn.Module) -> None:
        learnt = {name for name, p in network.named_parameters() if p.requires_grad}
        self.training = network.training
        # In the usual memory order, whichever the network prefers.
        self.values = {
            name: value.detach()
            .clone(memory_format=torch.contiguous_format)
            .requires_grad_(name in learnt)
            for name, value in network.state_dict().items()
        }

    def parameters(self, *parts: str) -> list[Tensor]:
        """What is learnt, of the whole network or of these parts."""
        return [
            v for name, v in self.values.items() if v.requires_grad and name.startswith(parts or "")
        ]

    def layers(self, part: str) -> list[str]:
        """The layers of a part that have weights, in order."""
        depth = part.count(".") + 2
        names = [name for name in self.values if name.startswith(f"{part}.")]
        return list(dict.fromkeys(".".join(name.split(".")[:depth]) for name in names))

    def conv(self, x: Tensor, name: str, stride: int = 1, padding: int = 0) -> Tensor:
        weight, bias = self.values[f"{name}.weight"], self.values.get(f"{name}.bias")
        return F.conv2d(x, weight, bias, stride, padding)

    def half(self, x: Tensor, name: str, padding: int = 1) -> Tensor:
        """A 4×4 convolution of stride 2."""
        return self.conv(x, name, 2, padding)

    def enlarge(self, x: Tensor, name: str) -> Tensor:
        """A transposed 4×4 convolution of stride 2."""
        weight, bias = self.values[f"{name}.weight"], self.values.get(f"{name}.bias")
        return F.conv_transpose2d(x, weight, bias, 2, 1)

    def linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.values[f"{name}.weight"], self.values.get(f"{name}.bias"))

    def norm(self, x: Tensor, name: str) -> Tensor:
        """Batch norm: by the batch and counted in training, else by the running statistics."""
        if self.training:
            self.values[f"{name}.num_batches_tracked"] += 1
        running = (self.values[f"{name}.running_mean"], self.values[f"{name}.running_var"])
        weight, bias = self.values[f"{name}.weight"], self.values[f"{name}.bias"]
        return F.batch_norm(x, *running, weight, bias, self.training, 0.1, 1e-5)

    def same(self, x: Tensor, part: str) -> Tensor:
        """3×3 convolution, batch norm, GLU."""
        return glu(self.norm(self.conv(x, f"{part}.0", padding=1), f"{part}.1"))

    def residuals(self, x: Tensor, part: str) -> Tensor:
        for block in self.layers(part):
            inner = self.same(x, f"{block}.block")
            inner = self.conv(inner, f"{block}.block.3", padding=1)
            x = x + self.norm(inner, f"{block}.block.4")
        return x


def glu(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=1)
    return first * torch.sigmoid(second)


def leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2, inplace=True)


def smaller(image: Tensor) -> Tensor:
    side = image.shape[-1] - 2
    return F.interpolate(image, (side, side), mode="bilinear", align_corners=True)


class Painted(NamedTuple):
    """What the losses read of a painted picture."""

    background: Tensor
    parent: Tensor
    child: Tensor
    image: Tensor
    feature: Tensor


def paint(generator: Weights, z: Tensor, b: Tensor, p: Tensor, c: Tensor) -> Painted:
    def stage(name: str, code: Tensor) -> Tensor:
        linear, norm, *ups = generator.layers(name)
        hidden = glu(generator.norm(generator.linear(torch.cat([z, code], dim=1), linear), norm))
        hidden = hidden.reshape(len(hidden), -1, 4, 4)
        for up in ups:
            hidden = generator.same(F.interpolate(hidden, scale_factor=2, mode="nearest"), up)
        return hidden

    def planes(code: Tensor) -> Tensor:
        return code.reshape(*code.shape, 1, 1).repeat(1, 1, side, side)

    def canvas(name: str, hidden: Tensor) -> tuple[Tensor, Tensor]:
        foreground = torch.tanh(generator.conv(hidden, f"{name}.image.0", padding=1))
        return foreground, torch.sigmoid(generator.conv(hidden, f"{name}.mask.0", padding=1))

    hidden = stage("background_stage", b)
    background = torch.tanh(generator.conv(hidden, "background_image.0", padding=1))
    side = background.shape[-1]

    joint = torch.cat([stage("parent_stage", p), planes(p)], dim=1)
    feature = generator.residuals(generator.same(joint, "parent_joint"), "parent_residual")
    foreground, mask = canvas("parent_canvas", feature)
    parent = mask * foreground
    behind = parent + (1 - mask) * background

    joint = torch.cat([planes(c), feature], dim=1)
    hidden = generator.residuals(generator.same(joint, "child_joint"), "child_residual")
    foreground, mask = canvas("child_canvas", generator.same(hidden, "child_same"))
    child = mask * foreground
    return Painted(background, parent, child, child + (1 - mask) * behind, feature)


def trunk(network: Weights, image: Tensor, part: str) -> Tensor:
    """Strided convolutions to 4×4 and one 3×3, all but the first with batch norm."""
    first, *others = network.layers(part)
    hidden = leaky(network.half(image, first))
    for conv, norm in zip(others[:-2:2], others[1:-2:2], strict=True):
        hidden = leaky(network.norm(network.half(hidden, conv), norm))
    conv, norm = others[-2:]
    return leaky(network.norm(network.conv(hidden, conv, padding=1), norm))


def read_code(network: Weights, image: Tensor, trunk_part: str, head: str) -> Tensor:
    """Logits of a code: an encoder's, or a classifier's."""
    hidden = trunk(network, image, trunk_part)
    hidden = leaky(network.norm(network.conv(hidden, f"{head}.0", padding=1), f"{head}.1"))
    return network.conv(hidden, f"{head}.3", stride=4).flatten(1)


def read_codes(encoders: Weights, image: Tensor) -> list[Tensor]:
    """The pose, and the logits of the other codes."""
    z, *others = (read_code(encoders, image, f"{k}.0", f"{k}.1") for k in "zbpc")
    return [4 * torch.tanh(z), *others]


def patch_feature(network: Weights, view: Tensor) -> Tensor:
    *strided, last = network.layers("trunk")
    for conv in strided:
        view = leaky(network.half(view, conv, padding=0))
    return leaky(network.conv(view, last))


def real_child(network: Weights, image: Tensor) -> Tensor:
    return network.conv(trunk(network, image, "trunk"), "real_head.0", stride=4).flatten(1)


def critic_score(
    critics: Weights, name: str, image: Tensor, code: Tensor, random: torch.Generator
) -> Tensor:
    hidden = code
    for layer, deviation in zip(critics.layers(f"{name}.code_path"), NOISE, strict=True):
        hidden = F.leaky_relu(critics.linear(hidden, layer), 0.2)
        draw: Any = {"generator": random, "device": hidden.device, "dtype": hidden.dtype}
        hidden = hidden + deviation * torch.randn(hidden.shape, **draw)
    *strided, last = critics.layers(f"{name}.image_path")
    for conv in strided:
        image = F.leaky_relu(critics.half(image, conv), 0.2)
    image = F.leaky_relu(critics.conv(image, last), 0.2).flatten(1)
    joint = critics.linear(torch.cat([image, hidden], dim=1), f"{name}.joint.0")
    return critics.linear(F.leaky_relu(joint, 0.2), f"{name}.joint.2")


def extract(extractor: Weights, image: Tensor) -> Tensor:
    hidden = extractor.same(extractor.same(image, "first.0"), "first.1")
    skips = []
    for down in extractor.layers("downs"):
        hidden = glu(extractor.norm(extractor.half(hidden, f"{down}.0"), f"{down}.1"))
        skips.append(hidden)
    hidden = skips.pop()
    for up in extractor.layers("ups"):
        hidden = glu(extractor.norm(extractor.enlarge(hidden, f"{up}.0"), f"{up}.1"))
        if skips:
            hidden = torch.cat([hidden, skips.pop()], dim=1)
    return extractor.residuals(hidden, "last")
