"""What a drawn data set is to be, and what follows from that before anything is drawn."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from mixnmatch.data.drawn.scenes import BACKGROUND_NAMES
from mixnmatch.data.drawn.silhouettes import SHAPE_NAMES
from mixnmatch.data.drawn.textures import TEXTURE_COUNT
from mixnmatch.data.records import Number
from mixnmatch.errors import DataError

POSES = 4
"""Pose classes: 2 · mirrored + (rotation > 0)."""
TRAIN_SHARE = 0.8
"""Chance of a picture that is not for judges to be of split "train", else of "test"."""
MARGIN = 0.02
"""Share of the side that stays free around an object."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FactorSpec:
    """What to draw."""

    count: int
    """Number of pictures."""
    side: int = 96
    """Side of the square pictures, in pixels."""
    shapes: int = 3
    """Number of shapes, the super categories."""
    textures_per_shape: int = 2
    """Textures of each shape; the fine categories are all of them."""
    backgrounds: int = 3
    """Number of backgrounds."""
    seed: int = 0
    """Of everything drawn."""
    free_textures: bool = False
    """Whether any shape may have any texture, as in mixes, instead of only its own."""
    judge_count: int = 0
    """Pictures of split "judge" besides, with free textures, for classifiers that judge mixes."""
    tilt: tuple[Number, Number] = (10.0, 30.0)
    """Least and most degrees that an object is turned, to either side."""
    scale: tuple[Number, Number] = (0.38, 0.58)
    """Least and most share of the picture's side that is the object's longer side."""
    shift: Number = 0.16
    """Most that an object is moved from the middle, each way, as a share of the side; it is moved
    less where it would be cut."""
    background_texture_correlation: Number = 0.0
    """Chance that a picture has the background tied to its texture, instead of any one. Pictures of
    split "judge" have any one."""
    noise: Number = 0.0
    """Standard deviation of the Gaussian noise on each value of a pixel, in grey levels of 255."""

    def __post_init__(self) -> None:
        least_scale = max(0.1, 10 / self.side if self.side > 0 else 1.0)
        for name, value, low, high in (
            ("count", self.count, 1, 10**7),
            ("side", self.side, 32, 1024),
            ("shapes", self.shapes, 1, len(SHAPE_NAMES)),
            (
                "textures_per_shape",
                self.textures_per_shape,
                1,
                TEXTURE_COUNT // self.shapes if self.shapes > 0 else 1,
            ),
            ("backgrounds", self.backgrounds, 1, len(BACKGROUND_NAMES)),
            ("seed", self.seed, 0, 2**63 - 1),
            ("judge_count", self.judge_count, 0, 10**7),
            # Upright objects would have no tilt to tell, and past 90° the sides change places.
            ("least tilt", self.tilt[0], 1, 90),
            ("most tilt", self.tilt[1], self.tilt[0], 90),
            # Ten pixels still show a shape.
            ("least scale", self.scale[0], round(least_scale, 3), 0.9),
            ("most scale", self.scale[1], self.scale[0], 0.9),
            ("shift", self.shift, 0, 0.45),
            ("background_texture_correlation", self.background_texture_correlation, 0, 1),
            ("noise", self.noise, 0, 64),
        ):
            if not low <= value <= high:
                raise DataError(f"{name} is {value}: it must be from {low} to {high}")

    @property
    def textures(self) -> int:
        """Number of textures."""
        return self.shapes * self.textures_per_shape

    @property
    def cardinalities(self) -> dict[str, int]:
        """Number of categories of each factor."""
        return {
            "background": self.backgrounds,
            "shape": self.shapes,
            "texture": self.textures,
            "pose": POSES,
        }

    def tied_background(self, texture: int) -> int:
        """The background tied to a texture.

        Each texture has its own where there are as many backgrounds; otherwise some share one.
        """
        return texture % self.backgrounds

    def background_chances(self) -> Float64[np.ndarray, "T B"]:
        """P(background | texture), a row each texture; its rows sum to 1.

        With R the correlation and B backgrounds it is R + (1 − R) / B for the tied background, and
        (1 − R) / B for the others.
        """
        share = self.background_texture_correlation
        chances = np.full((self.textures, self.backgrounds), (1 - share) / self.backgrounds)
        for texture in range(self.textures):
            chances[texture, self.tied_background(texture)] += share
        return chances

    def mutual_information_bits(self) -> float:
        """Of background and texture; 0 where they are free of each other.

        The textures are equally likely, in drawn pictures as in this sum.
        """
        given = self.background_chances()
        overall = np.broadcast_to(given.mean(axis=0), given.shape)
        terms = np.zeros_like(given)
        seen = given > 0
        terms[seen] = given[seen] * np.log2(given[seen] / overall[seen])
        return float(terms.sum() / self.textures)
