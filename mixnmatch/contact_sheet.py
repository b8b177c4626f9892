"""The contact sheet: sources and mixes, and rows in which one factor varies."""

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from mixnmatch.codes import Codes
from mixnmatch.data.batches import evaluation_pictures
from mixnmatch.data.store import Dataset
from mixnmatch.errors import DataError
from mixnmatch.metrics.disentanglement import FACTORS
from mixnmatch.mixer import Mixer
from mixnmatch.sheets import grid, labelled, stack

CELL = 64
"""Smallest side of a picture on the sheet, in pixels."""


def contact_sheet(mixer: Mixer, dataset: Dataset, *, columns: int, seed: int = 0) -> Image.Image:
    """Draw what a model can do.

    Args:
        mixer: The model.
        dataset: Gives the sources: pictures of its test split, or of the whole without one.
        columns: Pictures a row.
        seed: Of their choice.

    Raises:
        DataError: If there are fewer than two pictures.
    """
    rows = dataset.indices("test")
    rows = rows if len(rows) > 1 else dataset.indices()
    if len(rows) < 2:
        raise DataError(f"{dataset.path}: a contact sheet needs two pictures, there is {len(rows)}")
    random = torch.Generator().manual_seed(seed)
    picks = torch.randint(len(rows), (5, columns), generator=random)
    pictures = evaluation_pictures(dataset, rows[picks.flatten().numpy()], mixer.image_size).images
    *four, others = pictures.split(columns)
    sources = dict(zip(FACTORS, four, strict=True))
    mixes = {f"{name} of": images for name, images in sources.items()}
    mixes["code mix"] = mixer.mix_tensors(**sources, mode="code")
    if mixer.bundle.extractor is not None:
        mixes["feature mix\n(pose of shape)"] = mixer.mix_tensors(**sources, mode="feature")
    zoom = max(1, CELL // mixer.image_size)
    return stack(
        labelled(
            grid(list(mixes.values()), zoom=zoom),
            list(mixes),
            title="Mixes: each column takes four factors from four pictures",
        ),
        _variation(mixer, others, four[0][:1], zoom),
    )


def _variation(
    mixer: Mixer,
    others: Float[Tensor, "N 3 S S"],
    held: Float[Tensor, "1 3 S S"],
    zoom: int,
) -> Image.Image:
    """Rows that hold one picture's factors and take a single one from other pictures."""
    table = {"taken from": others}
    same = held.expand_as(others)
    for name in FACTORS:
        sources = {**dict.fromkeys(FACTORS, same), name: others}
        table[f"{name} varies"] = mixer.mix_tensors(**sources, mode="code")
    table |= {
        f"every {name} code": row for name, row in _all_codes(mixer, held, len(others)).items()
    }
    images = [torch.cat([held, row]) for row in table.values()]
    return labelled(
        grid(images, zoom=zoom),
        list(table),
        title="One factor at a time: the first column is held",
    )


@torch.no_grad()
def _all_codes(
    mixer: Mixer, held: Float[Tensor, "1 3 S S"], most: int
) -> dict[str, Float[Tensor, "N 3 S S"]]:
    """The held picture painted with one-hot codes, up to ``most`` of each kind."""
    codes = mixer.encode(held)
    painted = {}
    for factor, field in (("background", "b"), ("shape", "p"), ("texture", "c")):
        one_hot = torch.eye(getattr(codes, field).shape[1], device=mixer.device)[:most]
        repeated = Codes(*(code.expand(len(one_hot), -1) for code in codes))
        layers = mixer.bundle.generator(repeated._replace(**{field: one_hot}))
        painted[factor] = layers.child_image.cpu()
    return painted
