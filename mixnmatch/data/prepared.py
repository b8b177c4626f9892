"""Both training views of every picture, decoded and resized once and kept for all later runs.

A folder of the cache (``prepared/KEY``) holds one file of pixels, which is mapped into memory and
so may be larger than it, and a small index. KEY stands for all that changes a pixel: data set,
split, image size, version of our code, Pillow and its JPEG decoder.

Whatever is opened has been read in full against its SHA-256, at about a second a gigabyte once a
stage and process; a damaged folder is made again. Processes that need the same pictures at the same
time wait for the first of them.

A picture of CUB takes 173 kB at 128 px, all 11,788 of them 2.0 GB. Nothing is deleted by itself:
remove the folder ``prepared``, or a part of it, to free the space. Runs that use it are not
disturbed, and later ones make again what they need.
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import PIL
import torch
from jaxtyping import Float32, Int64, UInt8
from PIL import features
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor
from tqdm import tqdm

from mixnmatch.data.ahead import made_ahead
from mixnmatch.data.info import one_line
from mixnmatch.data.records import Split
from mixnmatch.data.store import Dataset
from mixnmatch.data.views import VIEWS_VERSION, Views, read_views
from mixnmatch.errors import DataError, RunError
from mixnmatch.files import cache_folder, replace_folder

PIXELS_NAME = "pixels.bin"
INDEX_NAME = "index.safetensors"
_FORMAT = 1  # of the two files


class PreparedViews(NamedTuple):
    """The views of some pictures: of each first the object's, then the background's."""

    pixels: UInt8[Tensor, "P"]
    """All views, one after the other, each (3, H, W) row by row; mapped, never written to."""
    starts: Int64[np.ndarray, "N 2"]
    """Number of each view's first byte."""
    sizes: Int64[np.ndarray, "N 2 2"]
    """Height and width of each view in pixels."""
    boxes: Float32[np.ndarray, "N 2 4"]
    """The object's box in each view: x1, y1, x2, y2 in pixels."""


def open_prepared(dataset: Dataset, image_size: int, split: Split | None = None) -> PreparedViews:
    """The views of a data set's pictures: from the cache, or prepared now.

    Where the cache folder cannot be written to, a line on stderr says so, and the views are
    prepared in a temporary file that ends with this process.

    Args:
        dataset: The pictures.
        image_size: Side S of the object views to be cropped, in pixels.
        split: Only those of this split, in the order of the data set.

    Raises:
        DataError: If a picture cannot be read.
        RunError: If there is no room for the views, neither in the cache nor in a temporary file.
    """
    source = _Source(dataset, image_size, split)
    folder = cache_folder() / "prepared" / source.key
    with suppress(OSError, DataError):
        return _open(folder, source)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            try:
                return _open(folder, source)  # another process may have made it meanwhile
            except FileNotFoundError:
                pass
            except DataError as error:
                _say(f"{error}: it is made again")
            _make(folder, source)
        return _open(folder, source)
    except OSError as error:
        reason = error.strerror or one_line(error)
        _say(
            f"{folder}: prepared pictures cannot be kept there ({reason}): they are prepared in a "
            "temporary file, for this run alone; set MIXNMATCH_CACHE to a folder with room"
        )
    try:
        with tempfile.TemporaryDirectory(prefix="mixnmatch-") as temporary:
            made = Path(temporary) / source.key
            _make(made, source)
            return _open(made, source)  # what is mapped stays when its name is gone
    except OSError as error:
        raise RunError(
            f"{tempfile.gettempdir()}: {len(source.rows)} pictures cannot be prepared there either "
            f"({error.strerror or one_line(error)}): set MIXNMATCH_CACHE to a folder with room"
        ) from error


class _Source:
    """What the views are made from; ``key`` stands for everything that changes a pixel."""

    def __init__(self, dataset: Dataset, image_size: int, split: Split | None) -> None:
        self.dataset = dataset
        self.image_size = image_size
        self.rows = dataset.indices(split)
        versions = [_FORMAT, VIEWS_VERSION, PIL.__version__, features.version("libjpeg_turbo")]
        text = json.dumps([*versions, dataset.info.fingerprint, split, image_size])
        self.key = hashlib.sha256(text.encode()).hexdigest()[:16]

    def views(self, number: int) -> Views:
        """Those of the picture with this number in the split."""
        return read_views(self.dataset[int(self.rows[number])], self.image_size)


def _open(folder: Path, source: _Source) -> PreparedViews:
    """Map the pixels of a folder, if all that is in it is as it was written.

    Raises:
        FileNotFoundError: If there is none.
        DataError: If it is damaged.
    """
    pixels, count = folder / PIXELS_NAME, len(source.rows)
    try:
        with safe_open(folder / INDEX_NAME, "numpy") as index:
            sizes, boxes = index.get_tensor("sizes"), index.get_tensor("boxes")
            expected = (index.metadata() or {}).get("sha256")
    except SafetensorError as error:
        raise DataError(f"{folder}: damaged index ({one_line(error)})") from error
    found = [(part.shape, part.dtype) for part in (sizes, boxes)]
    if found != [((count, 2, 2), np.int64), ((count, 2, 4), np.float32)]:
        raise DataError(f"{folder}: damaged index (not of {count} pictures)")
    lengths = 3 * sizes.prod(axis=2)
    if pixels.stat().st_size != lengths.sum():
        raise DataError(f"{folder}: damaged pixels ({pixels.stat().st_size} bytes)")
    digest = hashlib.sha256(source.key.encode())  # so that no other pictures' views will do
    with pixels.open("rb") as file:
        hashlib.file_digest(file, lambda: digest)
    if _with_index(digest, sizes, boxes) != expected:
        raise DataError(f"{folder}: damaged (its SHA-256 is not the one noted)")
    starts = (np.cumsum(lengths) - lengths.ravel()).reshape(count, 2)
    return PreparedViews(_map(pixels), starts, sizes, boxes)


def _map(path: Path) -> UInt8[Tensor, "P"]:
    """The pixels of a file, each read from disk when it is first used."""
    # Not torch.from_file: it maps for writing, which Linux refuses beyond the size of memory.
    with warnings.catch_warnings(action="ignore"):  # on memory that cannot be written to
        return torch.from_numpy(np.memmap(path, np.uint8, mode="r"))


def _make(folder: Path, source: _Source) -> None:
    """Write a folder; an error or an interrupt leaves nothing behind."""
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.partial")
    partial.mkdir()
    try:
        _write(partial, source)
        replace_folder(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(folder: Path, source: _Source) -> None:
    count = len(source.rows)
    sizes = np.zeros((count, 2, 2), np.int64)
    boxes = np.zeros((count, 2, 4), np.float32)
    digest = hashlib.sha256(source.key.encode())
    cores = os.cpu_count() or 1
    # Threads do: Pillow lets go of the interpreter lock while it decodes and resizes.
    made = made_ahead(
        source.views, range(count), threads=cores, depth=4 * cores, name="mixnmatch-prepare"
    )
    # None: only where stderr is a terminal.
    bar = tqdm(desc="preparing pictures", total=count, unit="picture", disable=None)
    with (folder / PIXELS_NAME).open("wb") as file, bar, closing(made):
        for number, views in enumerate(made):
            for view, (pixels, box) in enumerate((views[:2], views[2:])):
                sizes[number, view], boxes[number, view] = pixels.shape[:2], box
                flat = np.ascontiguousarray(pixels.transpose(2, 0, 1)).data
                file.write(flat)
                digest.update(flat)
            bar.update()
    # Last, so that a folder without it is none.
    save_file(
        {"sizes": sizes, "boxes": boxes},
        folder / INDEX_NAME,
        {"sha256": _with_index(digest, sizes, boxes)},
    )


def _with_index(
    digest: "hashlib._Hash", sizes: Int64[np.ndarray, "N 2 2"], boxes: Float32[np.ndarray, "N 2 4"]
) -> str:
    """The checksum of the pixels, ended with the index."""
    digest.update(sizes.tobytes())
    digest.update(boxes.tobytes())
    return digest.hexdigest()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time make a folder, and remove what a killed one has left of it.

    Where the file system has no locks, two may work at once, each under a name of its own.
    """
    with folder.with_name(f".{folder.name}.lock").open("a") as file:
        if _lock(file, folder):
            for left in folder.parent.glob(f".{folder.name}.*.*"):
                shutil.rmtree(left, ignore_errors=True)
        yield


def _lock(file: IO[str], folder: Path) -> bool:
    """Wait for the lock, which ends with the file or the process; False where there are none."""
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"{folder}: waiting for another process that prepares the same pictures")
            fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:
        return False
    return True


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
