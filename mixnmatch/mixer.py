"""Mixing: the background of one picture, the pose, shape and texture of others."""

import importlib.metadata
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from mixnmatch.bundle import ModelBundle, load_bundle
from mixnmatch.codes import Codes
from mixnmatch.data.pictures import decode_upright
from mixnmatch.errors import DataError, ModelError
from mixnmatch.sheets import to_picture, to_tensor

Mode = Literal["code", "feature"]


class Mixer:
    """A trained model that mixes pictures.

    Args:
        bundle: The model, in eval mode, all on one device.
    """

    def __init__(self, bundle: ModelBundle) -> None:
        self.bundle = bundle
        self.device = bundle.device

    @classmethod
    def from_pretrained(cls, source: str | Path, device: torch.device | str = "cpu") -> "Mixer":
        """Load a model.

        Args:
            source: A bundle's folder, or an address of an installed scheme
                (``models:/NAME@champion``).
            device: Where to mix.

        Raises:
            ModelError: If there is no such model, or it cannot be read.
        """
        return cls(load_bundle(find_model(source)).to(device))

    @property
    def image_size(self) -> int:
        """Side of the pictures, in pixels."""
        return self.bundle.config.model.image_size

    def read(self, path: Path) -> Float[Tensor, "1 3 S S"]:
        """Read a picture of one object, which should fill the middle: its middle square, resized.

        The model has learnt close views of objects, so one that is small or at the edge is missed.
        A photograph is turned as its EXIF orientation says.

        Raises:
            DataError: If it is missing, corrupt or no picture.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error
        return to_tensor(decode_upright(data, str(path)), self.image_size)

    @torch.no_grad()
    def encode(self, images: Float[Tensor, "B 3 S S"]) -> Codes:
        """The four codes of pictures, pixels in [-1, 1]."""
        return Codes(*self.bundle.encoders(images.to(self.device)))

    @torch.no_grad()
    def shape_feature(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B C S S"]:
        """The shape feature of pictures, for feature mode.

        Raises:
            ModelError: If the model has not been through stage 2.
        """
        if self.bundle.extractor is None:
            raise ModelError("this model has no shape extractor: feature mode needs stage 2")
        feature: Tensor = self.bundle.extractor(images.to(self.device))
        return feature

    @torch.no_grad()
    def mix_tensors(
        self,
        *,
        background: Float[Tensor, "B 3 S S"],
        pose: Float[Tensor, "B 3 S S"],
        shape: Float[Tensor, "B 3 S S"],
        texture: Float[Tensor, "B 3 S S"],
        mode: Mode = "code",
    ) -> Float[Tensor, "B 3 S S"]:
        """Mix batches of pictures, pixels in [-1, 1].

        Args:
            background: Gives the background code and its noise.
            pose: Gives the pose code; feature mode does not look at it.
            shape: Gives the shape code; in feature mode the shape feature, pose included.
            texture: Gives the texture code.
            mode: ``code`` or ``feature``.

        Raises:
            ModelError: For feature mode of a model without a shape extractor.
        """
        generator, encoders = self.bundle.generator, self.bundle.encoders
        behind = generator.paint_background(
            encoders.code("z", background.to(self.device)),
            encoders.code("b", background.to(self.device)),
        )
        c = encoders.code("c", texture.to(self.device))
        if mode == "feature":
            feature = self.shape_feature(shape)
        else:
            z = encoders.code("z", pose.to(self.device))
            p = encoders.code("p", shape.to(self.device))
            feature = generator.shape_feature(z, p)
        return generator.paint_object(feature, c, behind).child_image.cpu()

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
