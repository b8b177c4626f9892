"""One drawn picture: a scene, an object in it, its mask, box and keypoints."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from PIL import Image, ImageDraw

from mixnmatch.data.drawn.keypoints import keypoints
from mixnmatch.data.drawn.outlines import Points
from mixnmatch.data.drawn.scenes import paint_scene
from mixnmatch.data.drawn.silhouettes import Silhouette, silhouette
from mixnmatch.data.drawn.spec import FactorSpec
from mixnmatch.data.drawn.textures import paint, texture
from mixnmatch.data.records import Box, Factors, Number, Part
from mixnmatch.errors import DataError

_OVERSAMPLING = 3
_OUTLINE = (30, 22, 34)
_OUTLINE_SHARE = 0.045  # of the object's longer side


class Drawing(NamedTuple):
    """A drawn picture."""

    image: Image.Image
    """RGB."""
    mask: Image.Image
    """Mode L, 255 where the object is."""
    box: Box
    """Around the object, in pixels."""
    parts: tuple[Part, ...]
    """All of ``KEYPOINT_NAMES``, in pixels."""


def draw_picture(spec: FactorSpec, factors: Factors, rng: np.random.Generator) -> Drawing:
    """Draw one picture; any texture goes on any shape, so it is a perfect mixer.

    Args:
        spec: Gives the side of the picture and its noise.
        factors: What to draw; ``pose`` follows from rotation and mirroring and is not read.
        rng: Of what the factors leave open: clouds, bricks, the shift of a pattern.
    """
    (grain,) = rng.spawn(1)  # a stream of its own: noise changes nothing else
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
    parts = placement.to_picture(keypoints(factors.shape)) / _OVERSAMPLING
    return Drawing(
        _with_noise(scene.reduce(_OVERSAMPLING), spec.noise, grain),
        mask,
        Box.from_corners(*map(float, edges)),
        tuple(Part(part, x, y) for part, (x, y) in enumerate(_pairs(parts))),
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


def _with_noise(picture: Image.Image, noise: Number, rng: np.random.Generator) -> Image.Image:
    if not noise:
        return picture
    pixels = np.asarray(picture, dtype=np.float32)
    pixels = pixels + np.float32(noise) * rng.standard_normal(pixels.shape, dtype=np.float32)
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def _pairs(points: Points) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in points]
