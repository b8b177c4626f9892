"""One picture as the project knows it: its bytes, its box and, where known, its factors."""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

Split = Literal["train", "test", "judge"]
"""Part of a data set; "judge" are drawn pictures with textures free of shapes, as in mixes."""


Number = int | float
"""Where whole pixels will do as well; the checks in the tests take no int for a float."""


class Box(NamedTuple):
    """Axis-aligned box in pixels; x and y are its left and top edge."""

    x: Number
    y: Number
    width: Number
    height: Number

    @classmethod
    def from_corners(cls, left: Number, top: Number, right: Number, bottom: Number) -> "Box":
        """The box between two corners."""
        return cls(left, top, right - left, bottom - top)

    @property
    def right(self) -> Number:
        """Right edge."""
        return self.x + self.width

    @property
    def bottom(self) -> Number:
        """Bottom edge."""
        return self.y + self.height

    @property
    def corners(self) -> tuple[Number, Number, Number, Number]:
        """``(x1, y1, x2, y2)``: left, top, right and bottom edge."""
        return (self.x, self.y, self.right, self.bottom)

    @property
    def centre(self) -> tuple[float, float]:
        """``(x, y)`` of its middle."""
        return (self.x + self.width / 2, self.y + self.height / 2)

    @property
    def area(self) -> Number:
        """Square pixels; zero for a box turned inside out."""
        return max(0.0, self.width) * max(0.0, self.height)

    @property
    def is_finite(self) -> bool:
        """Whether no edge is infinite or not a number."""
        return all(math.isfinite(value) for value in self)

    def clip(self, width: Number, height: Number) -> "Box":
        """The part inside a picture of that size; of zero area where none is."""
        left, right = (min(max(value, 0.0), width) for value in (self.x, self.right))
        top, bottom = (min(max(value, 0.0), height) for value in (self.y, self.bottom))
        return Box.from_corners(left, top, right, bottom)

    def scale(self, factor_x: Number, factor_y: Number) -> "Box":
        """The box in a picture resized by these factors."""
        return Box(
            self.x * factor_x, self.y * factor_y, self.width * factor_x, self.height * factor_y
        )

    def shift(self, offset_x: Number, offset_y: Number) -> "Box":
        """The box moved by an offset."""
        return self._replace(x=self.x + offset_x, y=self.y + offset_y)


class Part(NamedTuple):
    """A visible keypoint of an object."""

    part: int
    """Which one: index into ``DatasetInfo.parts``."""
    x: Number
    """Pixels from the left edge of the picture."""
    y: Number
    """Pixels from its upper edge."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Factors:
    """What a picture was drawn from: categories, and the continuous pose behind ``pose``."""

    background: int
    """Index of the background."""
    shape: int
    """Index of the shape, the super category."""
    texture: int
    """Index of the texture, the fine category."""
    pose: int
    """Index of the pose class: two of mirroring by two of tilt."""
    position_x: float
    """Centre of the object as a share of the picture's width, in [0, 1]."""
    position_y: float
    """Centre of the object as a share of the picture's height, in [0, 1]."""
    scale: float
    """Longer side of the upright object as a share of the picture's side, in (0, 1]."""
    rotation: float
    """Degrees, counter-clockwise as seen."""
    mirrored: bool
    """Whether left and right are swapped."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One row of a data set."""

    id: int
    """Number of the picture in its source; unique in a data set."""
    source: str
    """Where it came from, for people and for messages."""
    image: bytes
    """Encoded picture, of one of ``pictures.FORMATS``."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    box: Box
    """Around the object, inside the picture."""
    label: int | None = None
    """Class index from 0."""
    class_name: str | None = None
    """Class in words."""
    split: Split | None = None
    """Part of the data set that it belongs to."""
    mask: bytes | None = None
    """Encoded PNG of mode L and the picture's size; 255 is the object."""
    factors: Factors | None = None
    """Known only for drawn pictures."""
    parts: tuple[Part, ...] = ()
    """Keypoints that can be seen, where they are annotated."""
    remarks: tuple[str, ...] = ()
    """What is odd about it but no reason to leave it out, for people: a box that was cut, a grey
    picture, more objects than this one."""


class Reject(NamedTuple):
    """A picture, or an object of one, that was left out."""

    source: str
    """The picture."""
    reason: str
    """Why, in one line."""
