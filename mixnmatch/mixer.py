"""Mixing: the background of one picture, the pose, shape and texture of others."""

import importlib.metadata
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from mixnmatch.animation import Frame
from mixnmatch.bundle import ModelBundle, load_bundle
from mixnmatch.codes import Codes
from mixnmatch.data.pictures import read_upright
from mixnmatch.drawing import read_drawing
from mixnmatch.errors import InputError, ModelError
from mixnmatch.networks.encoders import CodeName
from mixnmatch.recipes import Factor, Recipe, codes_of, interpolate
from mixnmatch.sheets import to_picture, to_tensor

Mode = Literal["code", "feature"]


class Mixer:
    """A trained model that mixes pictures.

    Args:
        bundle: The model, in eval mode, all on one device.
        batch_size: Most pictures that go through the networks at once; more than that are worked
            off in turn. The results do not depend on it.
    """

    def __init__(self, bundle: ModelBundle, *, batch_size: int = 32) -> None:
        if batch_size < 1:
            raise InputError(f"batch size is {batch_size}: it must be at least 1")
        self.bundle = bundle
        self.device = bundle.device
        self.batch_size = batch_size

    @classmethod
    def from_pretrained(
        cls, source: str | Path, device: torch.device | str = "cpu", *, batch_size: int = 32
    ) -> "Mixer":
        """Load a model.

        Args:
            source: A bundle's folder, or an address of an installed scheme
                (``models:/NAME@champion``).
            device: Where to mix.
            batch_size: Most pictures that go through the networks at once.

        Raises:
            InputError: If the batch size is below 1.
            ModelError: If there is no such model, or it cannot be read.
        """
        return cls(load_bundle(find_model(source)).to(device), batch_size=batch_size)

    @property
    def image_size(self) -> int:
        """Side of the pictures, in pixels."""
        return self.bundle.config.model.image_size

    def read(self, *paths: Path) -> Float[Tensor, "B 3 S S"]:
        """Read pictures of one object each, which should fill the middle: their middle squares.

        The model has learnt close views of objects, so one that is small or at the edge is missed.
        A photograph is turned as its EXIF orientation says.

        Raises:
            DataError: If one is missing, corrupt, too large or no picture.
        """
        side = self.image_size
        return torch.cat([to_tensor(read_upright(path, side), side) for path in paths])

    def read_drawing(
        self, path: Path, *, fill: bool = False, trim: bool = False
    ) -> Float[Tensor, "1 3 S S"]:
        """Read a drawing, to give the shape in feature mode; see ``drawing.read_drawing``.

        Raises:
            DataError: If it cannot be read, or has no lines to trim to, or none that enclose.
        """
        return to_tensor(read_drawing(path, fill=fill, trim=trim), self.image_size)

    @torch.no_grad()
    def encode(self, images: Float[Tensor, "B 3 S S"]) -> Codes:
        """The four codes of pictures, pixels in [-1, 1]; on the model's device."""
        return Codes(*(self._code(name, images) for name in ("z", "b", "p", "c")))

    @torch.no_grad()
    def shape_feature(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B C S S"]:
        """The shape feature of pictures, for feature mode; on the model's device.

        Raises:
            ModelError: If the model has not been through stage 2.
        """
        if self.bundle.extractor is None:
            raise ModelError("this model has no shape extractor: feature mode needs stage 2")
        return self._in_batches(self.bundle.extractor, images)

    def recipe(
        self,
        *,
        background: Float[Tensor, "#B 3 S S"],
        pose: Float[Tensor, "#B 3 S S"],
        shape: Float[Tensor, "#B 3 S S"],
        texture: Float[Tensor, "#B 3 S S"],
        mode: Mode = "code",
    ) -> Recipe:
        """What a mix of pictures is painted from; ``paint`` paints it, ``vary`` and ``walk`` go on.

        Args:
            background: Gives the background code and its noise.
            pose: Gives the pose code; feature mode does not look at it.
            shape: Gives the shape code; in feature mode the shape feature, pose included.
            texture: Gives the texture code.
            mode: ``code`` or ``feature``.

        Raises:
            ModelError: For feature mode of a model without a shape extractor.
        """
        feature = self.shape_feature(shape) if mode == "feature" else None
        codes = Codes(
            z=self._code("z", shape if mode == "feature" else pose),
            b=self._code("b", background),
            p=self._code("p", shape),
            c=self._code("c", texture),
        )
        return Recipe(codes, self._code("z", background), feature)

    @torch.no_grad()
    def paint(self, recipe: Recipe) -> Float[Tensor, "N 3 S S"]:
        """Paint pictures, pixels in [-1, 1], on the CPU."""
        starts = range(0, recipe.rows, self.batch_size)
        parts = (recipe.part(start, start + self.batch_size) for start in starts)
        return torch.cat([self._paint(part).cpu() for part in parts])

    def mix_tensors(
        self,
        *,
        background: Float[Tensor, "#B 3 S S"],
        pose: Float[Tensor, "#B 3 S S"],
        shape: Float[Tensor, "#B 3 S S"],
        texture: Float[Tensor, "#B 3 S S"],
        mode: Mode = "code",
    ) -> Float[Tensor, "N 3 S S"]:
        """Mix batches of pictures, pixels in [-1, 1]; a batch of one goes with all of the others.

        The pictures are those of ``recipe``.

        Raises:
            ModelError: For feature mode of a model without a shape extractor.
        """
        sources = {"background": background, "pose": pose, "shape": shape, "texture": texture}
        mixes = []
        # Batch by batch from the start, because shape features are large.
        for start in range(0, max(len(images) for images in sources.values()), self.batch_size):
            rows = slice(start, start + self.batch_size)
            part = {name: i if len(i) == 1 else i[rows] for name, i in sources.items()}
            mixes.append(self.paint(self.recipe(**part, mode=mode)))
        return torch.cat(mixes)

    def mix(
        self, *, background: Path, pose: Path | None, shape: Path, texture: Path, mode: Mode
    ) -> Image.Image:
        """Mix picture files, the object in the middle of each; see ``read`` and ``mix_tensors``.

        Raises:
            DataError: If a picture cannot be read.
            ModelError: For feature mode of a model without a shape extractor.
        """
        mixed = self.mix_tensors(
            background=self.read(background),
            pose=self.read(shape if pose is None else pose),
            shape=self.read(shape),
            texture=self.read(texture),
            mode=mode,
        )
        return to_picture(mixed[0])

    def vary(
        self,
        held: Recipe,
        factor: Factor,
        *,
        images: Float[Tensor, "N 3 S S"] | None = None,
        count: int | None = None,
        seed: int = 0,
    ) -> Float[Tensor, "N 3 S S"]:
        """Paint one recipe with many values of one factor.

        Args:
            held: Recipe of one picture; its other factors are kept.
            factor: The one to vary; feature mode varies ``shape`` with the pose in it, by pictures.
            images: Pictures to take it from, pixels in [-1, 1]; a background with its noise.
                Without them the factor goes through its categories, or through sampled poses.
            count: How many of those: by default all categories, ten poses.
            seed: Of the sampled poses.

        Raises:
            InputError: For the pose alone in feature mode, or a count beyond the categories, of
                poses beyond ``MOST_POSES``.
        """
        if images is None:
            codes = codes_of(factor, self.bundle.config.model, count, seed=seed)
            return self.paint(held.with_code(factor, codes.to(self.device)))
        mode: Mode = "code" if held.feature is None else "feature"
        painted = []
        for part in images.split(self.batch_size):
            other = self.recipe(background=part, pose=part, shape=part, texture=part, mode=mode)
            painted.append(self.paint(held.take(factor, other)))
        return torch.cat(painted)

    def walk(
        self, stops: Recipe, frames: int, *, factor: Factor | None = None
    ) -> Iterator[Float[Tensor, "B 3 S S"]]:
        """Paint the way from picture to picture, in batches; see ``recipes.interpolate``.

        Args:
            stops: Recipe of two or more pictures; the first and the last are painted as they are.
            frames: Pictures to paint, both ends included.
            factor: The only one that changes; the others stay those of the first picture.

        Raises:
            InputError: If there are fewer than two pictures or frames, or for the pose alone in
                feature mode.
        """
        if stops.rows < 2 or frames < 2:
            raise InputError(
                f"a walk of {frames} frames along {stops.rows} pictures: it needs two of each"
            )
        if factor is not None:
            stops = stops.part(0, 1).take(factor, stops)
        positions = torch.linspace(0, stops.rows - 1, frames, device=self.device)
        return (self.paint(interpolate(stops, part)) for part in positions.split(self.batch_size))

    def animate(
        self,
        frames: Iterable[Frame],
        *,
        background: Float[Tensor, "1 3 S S"],
        texture: Float[Tensor, "1 3 S S"],
        mode: Mode = "feature",
    ) -> Iterator[Frame]:
        """Paint each frame's shape and pose with the texture and before the background of pictures.

        Args:
            frames: The frames that drive it, of any size; only a batch of them is held at a time.
            background: Picture of the background.
            texture: Picture of the texture.
            mode: ``feature`` follows the outlines of the frames; ``code`` takes pose and shape
                code of each.

        Raises:
            ModelError: For feature mode of a model without a shape extractor.
        """
        ahead = iter(frames)
        while batch := list(islice(ahead, self.batch_size)):
            driving = torch.cat([to_tensor(frame.picture, self.image_size) for frame in batch])
            mixed = self.mix_tensors(
                background=background, pose=driving, shape=driving, texture=texture, mode=mode
            )
            for image, frame in zip(mixed, batch, strict=True):
                yield Frame(to_picture(image), frame.seconds)

    def _paint(self, recipe: Recipe) -> Tensor:
        generator, codes = self.bundle.generator, recipe.codes
        # Stage by stage, so that what all pictures share is painted once.
        background = generator.paint_background(*_alike(recipe.background_z, codes.b))
        feature = recipe.feature
        if feature is None:
            feature = generator.shape_feature(*_alike(codes.z, codes.p))
        feature, c, background = _alike(feature, codes.c, background)
        return generator.paint_object(feature, c, background).child_image

    @torch.no_grad()
    def _code(self, name: CodeName, images: Tensor) -> Tensor:
        return self._in_batches(lambda part: self.bundle.encoders.code(name, part), images)

    def _in_batches(self, function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        parts = images.split(self.batch_size)
        return torch.cat([function(part.to(self.device)) for part in parts])


def _alike(*tensors: Tensor) -> Sequence[Tensor]:
    """Tensors with as many rows each, where some had one for all."""
    rows = max(len(tensor) for tensor in tensors)
    return [tensor.expand(rows, *tensor.shape[1:]) for tensor in tensors]


def find_model(source: str | Path) -> Path:
    """The folder of a model: the path itself, or what an installed scheme fetches.

    Packages offer schemes through the entry-point group ``mixnmatch.model_sources``.

    Raises:
        ModelError: If there is no such folder or scheme.
    """
    scheme, colon, _ = str(source).partition(":")
    if not colon or "/" in scheme:
        path = Path(source)
        if not path.is_dir():
            raise ModelError(f"{path}: no such model folder")
        return path
    group = importlib.metadata.entry_points(group="mixnmatch.model_sources")
    for entry in group.select(name=scheme):
        found: Path = entry.load()(str(source))
        return found
    known = ", ".join(f"{entry.name}:" for entry in group) or "none"
    raise ModelError(f"{source}: no installed package knows the scheme {scheme}: (known: {known})")
