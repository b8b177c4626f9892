"""What pictures are painted from, and how it is varied: factor by factor, or between pictures."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mixnmatch.codes import Codes
from mixnmatch.config import ModelConfig
from mixnmatch.errors import InputError

Factor = Literal["background", "pose", "shape", "texture"]
CODE_OF: dict[Factor, Literal["z", "b", "p", "c"]] = {
    "background": "b",
    "pose": "z",
    "shape": "p",
    "texture": "c",
}
"""The code that gives each factor."""
MOST_POSES = 2000
"""Poses that are sampled at once."""


class Recipe(NamedTuple):
    """All that pictures are painted from; each tensor has a row a picture, or one for all."""

    codes: Codes
    """Pose, background, shape and texture."""
    background_z: Float[Tensor, "B Z"]
    """Noise of the background stage."""
    feature: Float[Tensor, "B C S S"] | None = None
    """In feature mode the shape feature, in place of the pose and shape codes."""

    @property
    def rows(self) -> int:
        """Pictures that it paints.

        Raises:
            ValueError: If its tensors differ in rows, other than one for all.
        """
        tensors = [*self.codes, self.background_z]
        if self.feature is not None:
            tensors.append(self.feature)
        rows = {len(tensor) for tensor in tensors} - {1}
        if len(rows) > 1:
            raise ValueError(f"a recipe has tensors of {sorted(rows)} rows: they must agree")
        return rows.pop() if rows else 1

    def map(self, function: Callable[[Tensor], Tensor]) -> "Recipe":
        """The recipe with each of its tensors changed."""
        return Recipe(
            Codes(*(function(code) for code in self.codes)),
            function(self.background_z),
            None if self.feature is None else function(self.feature),
        )

    def part(self, start: int, stop: int) -> "Recipe":
        """Some of its pictures; a row for all stays one."""
        return self.map(lambda rows: rows if len(rows) == 1 else rows[start:stop])

    def with_code(self, factor: Factor, values: Float[Tensor, "N K"]) -> "Recipe":
        """The recipe with other codes of one factor; the background keeps its noise.

        Raises:
            InputError: For pose or shape in feature mode, where their codes are not looked at.
        """
        if self.feature is not None and factor in ("pose", "shape"):
            raise InputError(
                f"{factor} codes cannot be set in feature mode: it takes pose and shape from a "
                "picture; use code mode"
            )
        return self._replace(codes=self.codes._replace(**{CODE_OF[factor]: values}))

    def take(self, factor: Factor, other: "Recipe") -> "Recipe":
        """The recipe with one factor of another; what a mix would take of its picture.

        Raises:
            InputError: For the pose alone in feature mode.
        """
        if factor == "shape" and self.feature is not None:
            return self._replace(feature=other.feature)
        taken = self.with_code(factor, getattr(other.codes, CODE_OF[factor]))
        if factor == "background":
            return taken._replace(background_z=other.background_z)
        return taken


def codes_of(
    factor: Factor, config: ModelConfig, count: int | None, *, seed: int = 0
) -> Float[Tensor, "N K"]:
    """Codes that go through the values of one factor.

    Args:
        factor: Which; of background, shape and texture the categories in order, one-hot, and of
            pose samples of N(0, I).
        config: Category counts and noise dimensions.
        count: How many; all categories by default, of poses ten.
        seed: Of the poses.

    Raises:
        InputError: If there are not that many.
    """
    if factor == "pose":
        most = MOST_POSES
        count = 10 if count is None else count
    else:
        most = config.super_categories if factor == "shape" else config.fine_categories
        count = most if count is None else count
    if not 1 <= count <= most:
        of_model = "" if factor == "pose" else f", the {factor}s of this model"
        raise InputError(f"{factor} count is {count}: it must be from 1 to {most}{of_model}")
    if factor == "pose":
        random = torch.Generator().manual_seed(seed)
        return torch.randn(count, config.noise_dim, generator=random)
    return F.one_hot(torch.arange(count), most).float()


def interpolate(stops: Recipe, positions: Float[Tensor, "N"]) -> Recipe:
    """Recipes on the way from picture to picture.

    Noise goes along the arc between two codes, as ``arc`` says. The others go along the straight
    line, which stays on the simplex; so does the shape feature.

    Args:
        stops: Recipe of two or more pictures; what is one row for all is held.
        positions: Where on the way, from 0 (the first picture) to the number of pictures less 1.
    """
    below = positions.floor().clamp(max=stops.rows - 2).long()
    share = (positions - below).to(stops.background_z)

    def between(way: Callable[[Tensor, Tensor, Tensor], Tensor], rows: Tensor) -> Tensor:
        if len(rows) == 1:
            return rows
        weight = share.view(-1, *[1] * (rows.ndim - 1))
        return way(rows[below], rows[below + 1], weight)

    straight = stops.map(lambda rows: between(torch.lerp, rows))
    return straight._replace(
        codes=straight.codes._replace(z=between(arc, stops.codes.z)),
        background_z=between(arc, stops.background_z),
    )


def arc(
    start: Float[Tensor, "N Z"], end: Float[Tensor, "N Z"], share: Float[Tensor, "N 1"]
) -> Float[Tensor, "N Z"]:
    """Between two noise vectors: the direction turns evenly, the length changes evenly.

    Samples of N(0, I) in many dimensions have lengths close to sqrt(Z). The middle of the straight
    line between two of them is only 0.7 times as long, which the generator has never seen and
    paints duller. Where no arc is defined, between opposite, equal or zero vectors, the straight
    line is taken.

    Args:
        start: At share 0.
        end: At share 1.
        share: Of the way, in [0, 1].
    """
    lengths = start.norm(dim=1, keepdim=True), end.norm(dim=1, keepdim=True)
    directions = start / lengths[0], end / lengths[1]
    angle = torch.acos((directions[0] * directions[1]).sum(dim=1, keepdim=True).clamp(-1, 1))
    turned = ((1 - share) * angle).sin() * directions[0] + (share * angle).sin() * directions[1]
    curved = torch.lerp(*lengths, share) * turned / angle.sin()
    # Zero vectors make the angle NaN, which is not above the bound either.
    return torch.where(angle.sin() > 1e-3, curved, torch.lerp(start, end, share))
