"""Contact sheets of data sets, to look at what training will see."""

from typing import cast

import numpy as np
from PIL import Image, ImageDraw

from mixnmatch.data.pictures import decode_picture
from mixnmatch.data.store import Dataset
from mixnmatch.data.views import Crop, centre_crop, prepare_views

_GAP = 4
_PAPER = (245, 245, 245)
_INK = (255, 40, 120)
_SHOWN_SIDE = 128
_COLUMNS = 4


def contact_sheet(dataset: Dataset, count: int, image_size: int) -> Image.Image:
    """Pictures spread evenly over a data set, each beside its object and its background view.

    Args:
        dataset: What to show.
        count: Most pictures to show.
        image_size: Side of the object views, in pixels; they are enlarged to be seen.

    Raises:
        DataError: If a picture cannot be read.
    """
    count = min(count, len(dataset))
    rows = np.linspace(0, len(dataset) - 1, count).round().astype(int)
    triples = [_triple(dataset, int(row), image_size) for row in rows]
    width, height = triples[0].width + 3 * _GAP, triples[0].height + _GAP
    columns = min(_COLUMNS, count)
    sheet = Image.new("RGB", (columns * width, -(-count // columns) * height), _PAPER)
    for position, triple in enumerate(triples):
        row, column = divmod(position, columns)
        sheet.paste(triple, (column * width + _GAP, row * height + _GAP // 2))
    return sheet


def _triple(dataset: Dataset, row: int, image_size: int) -> Image.Image:
    record = dataset[row]
    image = decode_picture(record.image, record.source)
    views = prepare_views(image, record.box, image_size)
    whole = Image.new("RGB", (_SHOWN_SIDE, _SHOWN_SIDE), _PAPER)
    factor = _SHOWN_SIDE / max(image.size)
    shown = image.resize(
        (max(1, round(factor * image.width)), max(1, round(factor * image.height)))
    )
    _outline(shown, record.box.scale(factor, factor).corners)
    whole.paste(shown)
    parts = [
        whole,
        _shown(centre_crop(views.object_pixels, views.object_box, image_size)),
        _shown(centre_crop(views.background_pixels, views.background_box, image_size - 2)),
    ]
    strip = Image.new("RGB", (3 * _SHOWN_SIDE + 2 * _GAP, _SHOWN_SIDE), _PAPER)
    for position, part in enumerate(parts):
        strip.paste(part, (position * (_SHOWN_SIDE + _GAP), 0))
    return strip


def _shown(crop: Crop) -> Image.Image:
    factor = _SHOWN_SIDE / crop.pixels.shape[0]
    image = Image.fromarray(np.ascontiguousarray(crop.pixels))
    image = image.resize((_SHOWN_SIDE, _SHOWN_SIDE), Image.Resampling.BOX)
    _outline(image, cast(tuple[float, ...], tuple(float(edge) * factor for edge in crop.box)))
    return image


def _outline(image: Image.Image, corners: tuple[float, ...]) -> None:
    left, top, right, bottom = corners
    if right > left:
        ImageDraw.Draw(image).rectangle((left, top, right - 1, bottom - 1), outline=_INK)
