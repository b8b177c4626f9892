"""Uploads as the model sees them: read as the command line reads files, within limits."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from mixnmatch.animation import Frame, read_frames, save_animation
from mixnmatch.data.pictures import decode_upright
from mixnmatch.drawing import DRAWING_SIDE, ready_drawing
from mixnmatch.errors import DataError, InputError
from mixnmatch.mixer import Mixer
from mixnmatch.sheets import to_picture, to_tensor
from mixnmatch_platform.serving.limits import Limits

__all__ = ["Film", "gif_of", "read_film", "read_upload"]


class Film(NamedTuple):
    """The frames of a film as a model sees them."""

    frames: Tensor
    """N×3×S×S, pixels in [-1, 1]."""
    seconds: list[float]
    """How long each is shown."""


def read_upload(
    data: bytes, field: str, mixer: Mixer, limits: Limits, *, sketch: bool = False
) -> Tensor:
    """The picture of an upload, 1×3×S×S, pixels in [-1, 1].

    Args:
        data: An encoded picture.
        field: Where it was sent, for messages.
        mixer: Reads it.
        limits: What is accepted.
        sketch: Whether it is a drawing, to be filled and trimmed.

    Raises:
        DataError: If it is no picture, damaged or too large, or a drawing without an outline.
    """
    side = DRAWING_SIDE if sketch else mixer.image_size
    picture = decode_upright(data, field, side, limits.pixels)
    if sketch:
        picture = ready_drawing(picture, field, fill=True, trim=True)
    return to_tensor(picture, mixer.image_size)


def read_film(data: bytes, field: str, side: int, limits: Limits) -> Film:
    """The frames of an upload; a still picture is one.

    Raises:
        DataError: If it is neither an animation nor a video, damaged, too large or too long.
    """
    frames: list[Tensor] = []
    seconds: list[float] = []
    pixels = 0
    with _as_file(data, field) as path:
        for picture, shown in islice(read_frames(path), limits.frames + 1):
            pixels += picture.width * picture.height
            if pixels > limits.film_pixels:
                raise DataError(
                    f"{field}: more than {limits.film_pixels} pixels in all frames: make it smaller"
                )
            frames.append(to_tensor(picture, side))
            seconds.append(shown)
    if len(frames) > limits.frames:
        raise DataError(f"{field}: more than {limits.frames} frames: make it shorter")
    return Film(torch.cat(frames), seconds)


def gif_of(images: Tensor, seconds: list[float]) -> bytes:
    """An animation of N×3×S×S, pixels in [-1, 1].

    Raises:
        InputError: If its frames are shown for too long.
    """
    frames = (Frame(to_picture(i), shown) for i, shown in zip(images, seconds, strict=True))
    with _folder() as folder:
        out = folder / "driving.gif"
        with _without_folder(folder):
            save_animation(frames, out)
        return out.read_bytes()


@contextmanager
def _as_file(data: bytes, field: str) -> Iterator[Path]:
    """The upload as a file that is named as its field, in messages, too."""
    with _folder() as folder, _without_folder(folder):
        path = folder / field
        path.write_bytes(data)
        yield path


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="mixnmatch-upload-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _without_folder(folder: Path) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise DataError(str(error).replace(f"{folder}/", "")) from error
