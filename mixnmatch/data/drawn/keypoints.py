"""Ten keypoints of every drawn object, defined on its outline alone, so that all shapes have them.

They belong to the object: they turn and are mirrored with it. The front is where it looks, to the
right of its own frame.
"""

from functools import cache

import numpy as np
from jaxtyping import Bool, Float64
from PIL import Image, ImageDraw

from mixnmatch.data.drawn.outlines import Points
from mixnmatch.data.drawn.silhouettes import silhouette

Point = Float64[np.ndarray, "2"]
"""x and y."""

KEYPOINT_NAMES = (
    "front",
    "back",
    "top",
    "bottom",
    "top-front",
    "bottom-front",
    "top-back",
    "bottom-back",
    "front-core",
    "back-core",
)
"""Names of the keypoints, by index.

The first four are the outermost points of the outline; the next four its points nearest to the
corners of the upright box around it; a core is the middle of the largest circle that fits into one
half of the object, where the body is thickest. Some may fall together, such as the top of a mast
and its corner.
"""

_RASTER = 160  # cells across the frame, to find the cores


@cache
def keypoints(shape: int) -> Points:
    """Keypoints of a shape in its own frame, in the order of ``KEYPOINT_NAMES``.

    Args:
        shape: Index below ``len(SHAPE_NAMES)``.
    """
    parts = silhouette(shape).parts
    outline = np.concatenate(parts)
    low, high = outline.min(axis=0), outline.max(axis=0)
    x, y = outline.T
    extremes = [outline[i] for i in (x.argmax(), x.argmin(), y.argmin(), y.argmax())]
    corners = [
        _nearest(parts, np.array([side, height]))
        for side in (high[0], low[0])
        for height in (low[1], high[1])
    ]
    inside = _raster(parts)
    is_front = np.arange(_RASTER) >= _RASTER // 2
    cores = [_core(inside & half) for half in (is_front, ~is_front)]
    return np.stack([*extremes, *corners, *cores])


def _nearest(parts: tuple[Points, ...], target: Point) -> Point:
    """The point of all edges that is nearest to another point."""
    starts = np.concatenate(parts)
    edges = np.concatenate([np.roll(part, -1, axis=0) for part in parts]) - starts
    lengths = np.maximum((edges**2).sum(axis=1), 1e-12)
    shares = np.clip(((target - starts) * edges).sum(axis=1) / lengths, 0, 1)
    points = starts + shares[:, None] * edges
    nearest: Point = points[((points - target) ** 2).sum(axis=1).argmin()]
    return nearest


def _raster(parts: tuple[Points, ...]) -> Bool[np.ndarray, "H W"]:
    """Cells of the frame that the body covers."""
    body = Image.new("1", (_RASTER, _RASTER))
    draw = ImageDraw.Draw(body)
    for part in parts:
        cells = (part + 1) / 2 * _RASTER - 0.5
        draw.polygon([(float(x), float(y)) for x, y in cells], fill=1)
    return np.asarray(body)


def _core(region: Bool[np.ndarray, "H W"]) -> Point:
    """Middle of the largest circle in a region of cells, in the frame."""
    from scipy.ndimage import distance_transform_edt

    depths = distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(depths.argmax(), depths.shape)
    return np.array([column + 0.5, row + 0.5]) / _RASTER * 2 - 1
