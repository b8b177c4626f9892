"""Pictures to choose from: some of a data set that the model was not trained on."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from mixnmatch.data.export import file_name
from mixnmatch.data.pictures import decode_picture, encode_png
from mixnmatch.data.store import Dataset
from mixnmatch.data.views import object_square
from mixnmatch.sheets import to_picture, to_tensor

__all__ = ["choose_pictures", "for_model"]

COUNT = 24
SIDE = 512
"""Most pixels of a side that are kept, whatever size models have."""


def choose_pictures(dataset: Dataset, count: int = COUNT) -> dict[str, bytes]:
    """Some held-out pictures, cut to the object's surroundings: the same ones each time.

    They are spread evenly over the classes, where there are any, and over the data set.

    Args:
        dataset: Where they are.
        count: How many, if there are as many.

    Returns:
        PNG files by id.

    Raises:
        DataError: If one cannot be read.
    """
    rows = dataset.held_out_rows()
    labels = dataset.column("label")
    rows = np.array(sorted(rows, key=lambda row: (labels[row] is None, labels[row] or 0, row)))
    steps = (np.arange(min(count, len(rows))) + 0.5) * len(rows) / min(count, len(rows))
    chosen = {}
    for row in rows[steps.astype(int)]:
        record = dataset[int(row)]
        picture = decode_picture(record.image, record.source)
        square = object_square(record.box, picture.width, picture.height)
        left, top, right, bottom = (round(value) for value in square.corners)
        cut = picture.crop((left, top, right, bottom))
        cut.thumbnail((SIDE, SIDE))
        chosen[Path(file_name(record)).stem] = encode_png(cut)
    return chosen


def for_model(pictures: Mapping[str, bytes], side: int) -> dict[str, tuple[Tensor, bytes]]:
    """The pictures as a model sees them, 1×3×S×S in [-1, 1], and as PNG files of that size."""
    shown = {}
    for name, data in pictures.items():
        with Image.open(io.BytesIO(data)) as picture:
            tensor = to_tensor(picture, side)
        shown[name] = tensor, encode_png(to_picture(tensor[0]))
    return shown
