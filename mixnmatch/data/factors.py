"""A drawn data set whose factors are known, to measure what a model has taken apart.

Textures are children of shapes, as breeds are of species; background and pose are free of both.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from PIL import Image, ImageDraw

from mixnmatch.data.pictures import encode_png
from mixnmatch.data.records import Box, Factors, Record, Split
from mixnmatch.data.scenes import BACKGROUND_NAMES, paint_scene
from mixnmatch.data.silhouettes import SHAPE_NAMES, Points, Silhouette, silhouette
from mixnmatch.data.textures import TEXTURE_COUNT, paint, texture
from mixnmatch.errors import DataError

POSES = 4
"""Pose classes: 2 · mirrored + (rotation > 0)."""

_OVERSAMPLING = 3
_OUTLINE = (30, 22, 34)
_OUTLINE_SHARE = 0.045  # of the object's longer side
_SCALES = (0.38, 0.58)
_TILTS = (10.0, 30.0)
_LARGEST_SHIFT = 0.16
_TRAIN_SHARE = 0.8


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

    def __post_init__(self) -> None:
        for name, low, high in (
            ("count", 1, 10**7),
            ("side", 32, 1024),
            ("shapes", 1, len(SHAPE_NAMES)),
            ("textures_per_shape", 1, TEXTURE_COUNT // self.shapes if self.shapes > 0 else 1),
            ("backgrounds", 1, len(BACKGROUND_NAMES)),
            ("seed", 0, 2**63 - 1),
            ("judge_count", 0, 10**7),
        ):
            value = getattr(self, name)
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


class Drawing(NamedTuple):
    """A drawn picture."""

    image: Image.Image
    """RGB."""
    mask: Image.Image
    """Mode L, 255 where the object is."""
    box: Box
    """Around the object, in pixels."""


def draw_factor_dataset(spec: FactorSpec) -> Iterator[Record]:
    """Draw the pictures of a data set, the same for the same spec.

    Each picture has its own stream of randomness, so a larger count begins with the same ones.
    """
    for number in range(spec.count):
        rng = np.random.default_rng([spec.seed, 0, number])
        split: Split = "train" if rng.random() < _TRAIN_SHARE else "test"
        yield _draw_record(spec, number, split, rng)
    judged = replace(spec, free_textures=True)
    for number in range(spec.judge_count):
        rng = np.random.default_rng([spec.seed, 1, number])
        yield _draw_record(judged, spec.count + number, "judge", rng)


def sample_factors(spec: FactorSpec, rng: np.random.Generator) -> Factors:
    """Factors of one picture: shape, background and pose uniform and independent.

    The texture is one of the shape's own, or any of them with ``spec.free_textures``.
    """
    shape = int(rng.integers(spec.shapes))
    child = int(rng.integers(spec.textures_per_shape))
    any_texture = int(rng.integers(spec.textures))
    mirrored = bool(rng.integers(2))
    rotation = float(rng.uniform(*_TILTS) * rng.choice((-1, 1)))
    scale = float(rng.uniform(*_SCALES))
    shift = min(_LARGEST_SHIFT, (1 - scale) / 2 - 0.02)
    position_x, position_y = (float(value) for value in 0.5 + rng.uniform(-shift, shift, size=2))
    return Factors(
        background=int(rng.integers(spec.backgrounds)),
        shape=shape,
        texture=any_texture if spec.free_textures else shape * spec.textures_per_shape + child,
        pose=2 * mirrored + (rotation > 0),
        position_x=position_x,
        position_y=position_y,
        scale=scale,
        rotation=rotation,
        mirrored=mirrored,
    )


def draw_picture(spec: FactorSpec, factors: Factors, rng: np.random.Generator) -> Drawing:
    """Draw one picture; any texture goes on any shape, so it is a perfect mixer.

    Args:
        spec: Gives the side of the picture.
        factors: What to draw; ``pose`` follows from rotation and mirroring and is not read.
        rng: Of what the factors leave open: clouds, bricks, the shift of a pattern.
    """
    side = spec.side * _OVERSAMPLING
    scene = paint_scene(factors.background, side, rng)
    outline = silhouette(factors.shape)
    placement = _place(outline, factors, side)
    stroke = _OUTLINE_SHARE * factors.scale * side
    body, whole = Image.new("L", (side, side)), Image.new("L", (side, side))
    for part in outline.parts:
        corners = _pairs(placement.to_picture(part))
        ImageDraw.Draw(body).polygon(corners, fill=255)
        ImageDraw.Draw(whole).polygon(corners, fill=255)
        closed = [*corners, *corners[:2]]
        ImageDraw.Draw(whole).line(closed, fill=255, width=round(2 * stroke), joint="curve")
    scene.paste(_OUTLINE, mask=whole)
    region = whole.getbbox() or (0, 0, side, side)
    painted = _painted_body(placement, factors, side, region, rng)
    scene.paste(painted, region, mask=body.crop(region))
    _draw_details(scene, outline, placement, stroke)
    mask = whole.reduce(_OVERSAMPLING)
    edges = mask.point(lambda value: 255 if value >= 128 else 0).getbbox()
    if edges is None:
        raise DataError(f"picture of side {spec.side}: too small to show its object")
    return Drawing(scene.reduce(_OVERSAMPLING), mask, Box.from_corners(*map(float, edges)))


def _draw_record(spec: FactorSpec, number: int, split: Split, rng: np.random.Generator) -> Record:
    factors = sample_factors(spec, rng)
    drawing = draw_picture(spec, factors, rng)
    return Record(
        id=number,
        source=f"drawn/{number:06d}.png",
        image=encode_png(drawing.image),
        width=spec.side,
        height=spec.side,
        box=drawing.box,
        label=factors.texture,
        class_name=f"{SHAPE_NAMES[factors.shape]}/{texture(factors.texture).name}",
        split=split,
        mask=encode_png(drawing.mask),
        factors=factors,
    )


class _Placement(NamedTuple):
    """The map from an object's frame to the picture: turned, scaled and moved."""

    matrix: Float64[np.ndarray, "2 2"]
    offset: Float64[np.ndarray, "2"]

    def to_picture(self, points: Points) -> Points:
        return points @ self.matrix.T + self.offset

    def to_object(self, points: Points) -> Points:
        return (points - self.offset) @ np.linalg.inv(self.matrix).T


def _place(outline: Silhouette, factors: Factors, side: int) -> _Placement:
    angle = math.radians(factors.rotation)
    cosine, sine = math.cos(angle), math.sin(angle)
    turned = np.array([[cosine, sine], [-sine, cosine]])  # counter-clockwise, as y points down
    if factors.mirrored:
        turned = turned @ np.diag([-1.0, 1.0])
    reached = np.concatenate(outline.parts) @ turned.T
    low, high = reached.min(axis=0), reached.max(axis=0)
    scale = factors.scale * (1 - 2 * _OUTLINE_SHARE) * side / (high - low).max()
    centre = np.array([factors.position_x, factors.position_y]) * side
    return _Placement(turned * scale, centre - scale * (low + high) / 2)


def _painted_body(
    placement: _Placement,
    factors: Factors,
    side: int,
    region: tuple[int, int, int, int],
    rng: np.random.Generator,
) -> Image.Image:
    """The texture and its shading over a region (left, top, right, bottom) of the picture."""
    left, top, right, bottom = region
    y, x = np.mgrid[top:bottom, left:right]
    frame = placement.to_object(np.stack([x, y], axis=-1).reshape(-1, 2) + 0.5)
    frame_x, frame_y = np.moveaxis(frame.astype(np.float32).reshape(*x.shape, 2), -1, 0)
    colours = paint(texture(factors.texture), frame_x, frame_y, rng)
    # Light falls from above in the picture, however the object is turned.
    height = (factors.position_y * side - y) / (factors.scale * side)
    colours = colours * (1 + 0.25 * np.clip(height, -0.7, 0.3)).astype(np.float32)[..., None]
    return Image.fromarray(np.clip(colours, 0, 255).astype(np.uint8))


def _draw_details(
    scene: Image.Image, outline: Silhouette, placement: _Placement, stroke: float
) -> None:
    draw = ImageDraw.Draw(scene)
    for line in outline.lines:
        draw.line(
            _pairs(placement.to_picture(line)), fill=_OUTLINE, width=round(stroke), joint="curve"
        )
    size = math.sqrt(abs(np.linalg.det(placement.matrix)))
    for dot in outline.dots:
        x, y = placement.to_picture(np.array([[dot.x, dot.y]]))[0]
        radius = dot.radius * size
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=dot.colour)


def _pairs(points: Points) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in points]
