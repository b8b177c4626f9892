"""From a picture to its codes, and the discriminators of pairs of picture and code."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mixnmatch.codes import Codes
from mixnmatch.config import ModelConfig
from mixnmatch.draws import Draws
from mixnmatch.networks.layers import (
    WholeMap,
    code_head,
    code_trunk,
    initialise,
)
from mixnmatch.networks.precision import full_precision

CodeName = Literal["z", "b", "p", "c"]
"""Fields of ``Codes``."""
CODE_NOISE = (0.5, 0.3, 0.3)
"""Standard deviation of the noise after each layer of the pair discriminators' code path."""


class Encoders(nn.Module):
    """Four encoders of one form that share no weights, one a code.

    Args:
        config: Sizes; used are ``image_size``, the category counts, ``noise_dim`` and
            ``encoder_width``.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.z = _encoder(config, config.noise_dim)
        self.b = _encoder(config, config.fine_categories)
        self.p = _encoder(config, config.super_categories)
        self.c = _encoder(config, config.fine_categories)
        initialise(self)

    def code(self, name: CodeName, image: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B K"]:
        """One code of a picture, without the work for the others.

        Args:
            name: Which one.
            image: Pixels in [-1, 1].

        Returns:
            The pose as ``4 * tanh``, any other as a point of a simplex.
        """
        logits = self._logits(name, image)
        return 4 * torch.tanh(logits) if name == "z" else torch.softmax(logits, dim=1)

    def logits(self, image: Float[Tensor, "B 3 S S"]) -> Codes:
        """Pose as ``4 * tanh``, and the logits of background, shape and texture."""
        b, p, c = (self._logits(name, image) for name in ("b", "p", "c"))
        return Codes(z=self.code("z", image), b=b, p=p, c=c)

    def forward(self, image: Float[Tensor, "B 3 S S"]) -> Codes:
        """The codes of a picture, pixels in [-1, 1]: pose in (-4, 4), the others soft."""
        return soften(self.logits(image))

    def _logits(self, name: str, image: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B K"]:
        return full_precision(getattr(self, name)(image))


def soften(logits: Codes) -> Codes:
    """Turn the logits of background, shape and texture into points of a simplex."""
    return Codes(logits.z, *(torch.softmax(code, dim=1) for code in logits[1:]))


def _encoder(config: ModelConfig, outputs: int) -> nn.Sequential:
    trunk, channels = code_trunk(config.image_size, config.encoder_width, widest=16)
    return nn.Sequential(trunk, code_head(channels, outputs))


class PairDiscriminator(nn.Module):
    """Score whether a picture and one of its codes belong together (a critic, no sigmoid).

    Its initial weights are PyTorch's defaults, as in the original, and not orthogonal as those of
    the other networks.

    Args:
        config: Sizes; used are ``image_size`` and ``pair_width``.
        code_size: Dimensions of the code.
    """

    def __init__(self, config: ModelConfig, code_size: int) -> None:
        super().__init__()
        width, hidden = config.pair_width, 32 * config.pair_width
        strided = int(math.log2(config.image_size // 4))
        widths = [3] + [width * min(2**i, 16) for i in range(strided)]
        layers: list[nn.Module] = []
        for i in range(strided):
            layers += [nn.Conv2d(widths[i], widths[i + 1], 4, 2, 1), nn.LeakyReLU(0.2)]
        layers += [WholeMap(widths[-1], hidden), nn.LeakyReLU(0.2)]
        self.image_path = nn.Sequential(*layers)
        self.code_path = nn.ModuleList(
            nn.Linear(inputs, hidden) for inputs in (code_size, hidden, hidden)
        )
        self.joint = nn.Sequential(
            nn.Linear(2 * hidden, 2 * hidden), nn.LeakyReLU(0.2), nn.Linear(2 * hidden, 1)
        )

    def forward(
        self,
        image: Float[Tensor, "B 3 S S"],
        code: Float[Tensor, "B K"],
        noise: Draws | None = None,
    ) -> Float[Tensor, "B 1"]:
        """Score pairs.

        Args:
            image: Pixels in [-1, 1].
            code: One code of the picture.
            noise: Source of the noise on the code path, as in training; none without it.
        """
        hidden = code
        for layer, deviation in zip(self.code_path, CODE_NOISE, strict=True):
            hidden = nn.functional.leaky_relu(layer(hidden), 0.2)
            if noise is not None:
                drawn = noise.normal(*hidden.shape, dtype=code.dtype)
                hidden = hidden + deviation * drawn.to(hidden.dtype)
        return full_precision(self.joint(torch.cat([self.image_path(image), hidden], dim=1)))


class PairDiscriminators(nn.Module):
    """Four pair discriminators, one a code: none can lean on the relation between codes.

    Their initial weights are PyTorch's defaults, as in the original; ``initialise`` makes them
    orthogonal.

    Args:
        config: Sizes.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.z = PairDiscriminator(config, config.noise_dim)
        self.b = PairDiscriminator(config, config.fine_categories)
        self.p = PairDiscriminator(config, config.super_categories)
        self.c = PairDiscriminator(config, config.fine_categories)

    def forward(
        self,
        images: Float[Tensor, "B 3 S S"] | Sequence[Float[Tensor, "B 3 S S"]],
        codes: Codes,
        noise: Draws | None = None,
    ) -> Float[Tensor, "B 4"]:
        """Score the pairs of a picture with each of its codes.

        Args:
            images: The picture, or one tensor for each code in the order z, b, p, c.
            codes: Its codes.
            noise: See ``PairDiscriminator.forward``.
        """
        four = [images] * 4 if isinstance(images, Tensor) else images
        critics = (self.z, self.b, self.p, self.c)
        scores = [
            critic(image, code, noise)
            for critic, image, code in zip(critics, four, codes, strict=True)
        ]
        return torch.cat(scores, dim=1)
