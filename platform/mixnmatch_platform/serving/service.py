"""What requests are answered from: the model of the moment, and what reads uploads for it."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import torch
from starlette.exceptions import HTTPException
from torch import Tensor
from torch.nn import functional as F

from mixnmatch.errors import InputError
from mixnmatch.mixer import Mode
from mixnmatch.recipes import Factor, Recipe
from mixnmatch_platform.serving.batching import Bench
from mixnmatch_platform.serving.fields import Animate, Encode, Mix, Picture, Vary
from mixnmatch_platform.serving.gallery import for_model
from mixnmatch_platform.serving.limits import Limits
from mixnmatch_platform.serving.metrics import Metrics
from mixnmatch_platform.serving.models import Served
from mixnmatch_platform.serving.painter import Order, Painter
from mixnmatch_platform.serving.pictures import gif_of, read_film, read_upload

__all__ = ["Loaded", "Service"]

T = TypeVar("T")
CODERS = 2
"""Threads that decode and encode; a large upload takes each some hundred megabytes for a moment."""
FACTORS: tuple[Factor, ...] = ("background", "pose", "shape", "texture")


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A model that answers; a request keeps to one from its start to its end."""

    served: Served
    painter: Painter
    gallery: Mapping[str, tuple[Tensor, bytes]]
    """By id: as the model sees it, and as a PNG file."""

    @property
    def modes(self) -> tuple[Mode, ...]:
        """Those that it can paint in."""
        return ("code",) if self.painter.mixer.bundle.extractor is None else ("code", "feature")

    @property
    def categories(self) -> dict[Factor, int]:
        """How many there are of each factor that has categories."""
        config = self.painter.mixer.bundle.config.model
        fine = config.fine_categories
        return {"background": fine, "shape": config.super_categories, "texture": fine}


@dataclass(kw_only=True)
class Service:
    """Answers the requests of one process.

    Args:
        loaded: The model; may be replaced at any time.
        replica: Name of the process.
        bench: Where its networks run.
        token: SHA-256 digest of what clients must know, None where they need not.
    """

    loaded: Loaded
    replica: str
    bench: Bench
    metrics: Metrics
    limits: Limits = field(default_factory=Limits)
    token: bytes | None = None

    def __post_init__(self) -> None:
        self._aside = ThreadPoolExecutor(CODERS, thread_name_prefix="coder")
        # Films take seconds each, for which pictures would wait.
        self._films = ThreadPoolExecutor(1, thread_name_prefix="films")

    async def aside(self, function: Callable[..., T], *arguments: Any, of_film: bool = False) -> T:
        """What a function returns that takes long enough to hold up other requests."""
        loop, threads = asyncio.get_running_loop(), self._films if of_film else self._aside
        return await loop.run_in_executor(threads, function, *arguments)

    async def mix(self, loaded: Loaded, fields: Mix) -> tuple[Tensor, Recipe]:
        """The picture, 3×S×S in [-1, 1], and what it was painted from.

        Raises:
            InputError: If a field cannot be used.
        """
        recipe = await loaded.painter.recipe(await self._order(loaded, fields))
        return (await loaded.painter.paint(recipe))[0], recipe

    async def vary(self, loaded: Loaded, fields: Vary) -> tuple[Tensor, list[int]]:
        """Pictures, N×3×S×S in [-1, 1], and the values of the factor in them.

        Raises:
            InputError: If a field cannot be used.
        """
        if fields.count > self.limits.count:
            raise InputError(f"count is {fields.count}: at most {self.limits.count} are painted")
        factor, values = fields.factor, list(range(fields.start, fields.start + fields.count))
        codes = torch.cat([_code(loaded, factor, value) for value in values])
        recipe = await loaded.painter.recipe(await self._order(loaded, fields, varied=factor))
        varied = recipe.with_code(factor, codes.to(loaded.painter.mixer.device))
        return await loaded.painter.paint(varied), values

    async def encode(self, loaded: Loaded, fields: Encode) -> Recipe:
        """The codes of pictures.

        Raises:
            InputError: If a field cannot be used.
        """
        reads = (self._picture(loaded, picture, "picture") for picture in fields.picture)
        joined = torch.cat(await asyncio.gather(*reads))
        return await loaded.painter.recipe(Order("code", dict.fromkeys(FACTORS, joined)))

    async def animate(self, loaded: Loaded, fields: Animate) -> bytes:
        """A GIF of a film's frames painted.

        Raises:
            InputError: If a field cannot be used.
        """
        mode = fields.mode or loaded.modes[-1]
        _check_mode(loaded, mode)
        mixer, data = loaded.painter.mixer, fields.driving.data
        if data is None:
            raise InputError("driving is a picture of the gallery: send a film")
        _check_bytes("driving", data, self.limits.film_bytes)
        film = await self.aside(
            read_film, data, "driving", mixer.image_size, self.limits, of_film=True
        )
        still: dict[Factor, Tensor] = {
            "background": await self._picture(loaded, fields.background, "background"),
            "texture": await self._picture(loaded, fields.texture, "texture"),
        }
        painted = []
        # Batch by batch, because shape features are large, and others wait.
        for frames in film.frames.split(mixer.batch_size):
            order = Order(mode, {**still, "pose": frames, "shape": frames})
            painted.append(await loaded.painter.paint(await loaded.painter.recipe(order)))
        return await self.aside(gif_of, torch.cat(painted), film.seconds, of_film=True)

    async def _order(self, loaded: Loaded, fields: Mix, varied: Factor | None = None) -> Order:
        _check_mode(loaded, fields.mode)
        given: dict[Factor, int | None] = {
            "background": fields.background_code,
            "pose": fields.pose_seed,
            "shape": fields.shape_code,
            "texture": fields.texture_code,
        }
        feature = fields.mode == "feature"
        for name in ("shape", "pose"):
            if feature and (given[name] is not None or varied == name):
                raise InputError(
                    f"{name} cannot be set by a code in feature mode, which takes pose and shape "
                    "from the shape picture: use code mode"
                )
        codes = {
            name: _code(loaded, name, value) for name, value in given.items() if value is not None
        }
        if varied is not None:
            codes[varied] = _code(loaded, varied, 0)
        sent: dict[Factor, Picture] = {
            name: picture
            for name in FACTORS
            if (picture := getattr(fields, name)) is not None and not (feature and name == "pose")
        }
        there = {*sent, *codes} | ({"pose"} if feature or "shape" in sent else set())
        if lacking := [name for name in FACTORS if name not in there]:
            name = lacking[0]
            field = "pose_seed" if name == "pose" else f"{name}_code"
            other = "which feature mode needs" if feature and name == "shape" else f"or {field}"
            raise InputError(f"{name} is missing: send a picture, {other}")
        reads = (
            self._picture(loaded, picture, name, sketch=name == "shape" and fields.sketch)
            for name, picture in sent.items()
        )
        pictures = dict(zip(sent, await asyncio.gather(*reads), strict=True))
        if "shape" in pictures:
            pictures.setdefault("pose", pictures["shape"])
        return Order(fields.mode, pictures, codes)

    async def _picture(
        self, loaded: Loaded, sent: Picture, name: str, *, sketch: bool = False
    ) -> Tensor:
        if sent.gallery is not None and not sketch:
            if sent.gallery not in loaded.gallery:
                raise InputError(f"{name} is gallery:{sent.gallery[:60]}: there is no such picture")
            return loaded.gallery[sent.gallery][0]
        if sent.data is None:
            raise InputError(f"{name} is a picture of the gallery: a sketch must be sent")
        _check_bytes(name, sent.data, self.limits.picture_bytes)
        reading = partial(read_upload, sketch=sketch)
        return await self.aside(reading, sent.data, name, loaded.painter.mixer, self.limits)


def loaded_from(served: Served, painter: Painter, gallery: Mapping[str, bytes]) -> Loaded:
    """A model with the gallery as it sees it."""
    return Loaded(
        served=served, painter=painter, gallery=for_model(gallery, painter.mixer.image_size)
    )


def _check_bytes(field: str, data: bytes, most: int) -> None:
    if len(data) > most:
        raise HTTPException(413, f"{field} has {len(data)} bytes: at most {most} are accepted")


def _check_mode(loaded: Loaded, mode: Mode) -> None:
    if mode not in loaded.modes:
        raise InputError(
            "mode is feature: this model has no shape extractor, which stage 2 trains; use code"
        )


def _code(loaded: Loaded, factor: Factor, value: int) -> Tensor:
    """The code of a category or of a seed of poses, 1×K."""
    config = loaded.painter.mixer.bundle.config.model
    if factor == "pose":
        random = torch.Generator().manual_seed(value)
        return torch.randn(1, config.noise_dim, generator=random)
    there = loaded.categories[factor]
    if value >= there:
        raise InputError(f"{factor} category is {value}: this model has 0 to {there - 1}")
    return F.one_hot(torch.tensor([value]), there).float()
