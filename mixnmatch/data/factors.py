"""A drawn data set whose factors are known, to measure what a model has taken apart.

Textures are children of shapes, as breeds are of species; pose is free of everything, and so is the
background unless it is tied to the texture.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from itertools import islice
from multiprocessing import get_context

import numpy as np

from mixnmatch.data.drawn.pictures import Drawing, draw_picture
from mixnmatch.data.drawn.silhouettes import SHAPE_NAMES
from mixnmatch.data.drawn.spec import MARGIN, POSES, TRAIN_SHARE, FactorSpec
from mixnmatch.data.drawn.textures import texture
from mixnmatch.data.pictures import encode_png
from mixnmatch.data.pool import follow_parent
from mixnmatch.data.records import Factors, Record, Split
from mixnmatch.errors import RunError

__all__ = [
    "POSES",
    "Drawing",
    "FactorSpec",
    "draw_factor_dataset",
    "draw_picture",
    "draw_record",
    "sample_factors",
]

_BATCH = 32  # pictures that a worker draws at a time
_AHEAD = 2  # batches of each worker that may wait in memory


def draw_factor_dataset(spec: FactorSpec, workers: int = 1) -> Iterator[Record]:
    """Draw the pictures of a data set, the same for the same spec.

    Each picture has its own stream of randomness, so a larger count begins with the same ones.

    Args:
        spec: What to draw.
        workers: Processes; the pictures are the same for any number. What waits in memory does not
            grow with the count.

    Raises:
        RunError: If a worker is killed.
    """
    total = spec.count + spec.judge_count
    workers = min(workers, -(-total // _BATCH))
    if workers == 1:
        for number in range(total):
            yield draw_record(spec, number)
        return
    batches = (range(start, min(start + _BATCH, total)) for start in range(0, total, _BATCH))
    ahead: deque[Future[list[Record]]] = deque()
    with ProcessPoolExecutor(workers, get_context("spawn"), follow_parent) as pool:
        try:
            while True:
                missing = _AHEAD * workers - len(ahead)
                ahead.extend(pool.submit(_draw_batch, spec, b) for b in islice(batches, missing))
                if not ahead:
                    return
                yield from ahead.popleft().result()
        except BrokenProcessPool as error:
            raise RunError(
                "a worker process was killed, perhaps for want of memory: draw again with fewer "
                "workers"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def draw_record(spec: FactorSpec, number: int) -> Record:
    """Draw one picture of a data set.

    Args:
        spec: What to draw.
        number: Of the picture; those for judges follow the others.
    """
    split: Split = "judge"
    if number < spec.count:
        rng = np.random.default_rng([spec.seed, 0, number])
        split = "train" if rng.random() < TRAIN_SHARE else "test"
    else:
        rng = np.random.default_rng([spec.seed, 1, number - spec.count])
        spec = replace(spec, free_textures=True, background_texture_correlation=0.0)
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
        parts=drawing.parts,
    )


def sample_factors(spec: FactorSpec, rng: np.random.Generator) -> Factors:
    """Factors of one picture: shape, background and pose uniform and independent.

    The texture is one of the shape's own, or any of them with ``spec.free_textures``. By chance
    ``spec.background_texture_correlation`` the background is the one tied to the texture.
    """
    (ties,) = rng.spawn(1)  # a stream of its own: ties change nothing but the background
    shape = int(rng.integers(spec.shapes))
    child = int(rng.integers(spec.textures_per_shape))
    any_texture = int(rng.integers(spec.textures))
    mirrored = bool(rng.integers(2))
    rotation = float(rng.uniform(*spec.tilt) * rng.choice((-1, 1)))
    scale = float(rng.uniform(*spec.scale))
    shift = min(spec.shift, (1 - scale) / 2 - MARGIN)
    position_x, position_y = (float(value) for value in 0.5 + rng.uniform(-shift, shift, size=2))
    background = int(rng.integers(spec.backgrounds))
    chosen = any_texture if spec.free_textures else shape * spec.textures_per_shape + child
    if ties.random() < spec.background_texture_correlation:
        background = spec.tied_background(chosen)
    return Factors(
        background=background,
        shape=shape,
        texture=chosen,
        pose=2 * mirrored + (rotation > 0),
        position_x=position_x,
        position_y=position_y,
        scale=scale,
        rotation=rotation,
        mirrored=mirrored,
    )


def _draw_batch(spec: FactorSpec, numbers: range) -> list[Record]:
    return [draw_record(spec, number) for number in numbers]
