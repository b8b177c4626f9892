"""The contact sheet: sources and mixes, and rows in which one factor varies."""

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from mixnmatch.data.batches import evaluation_pictures
from mixnmatch.data.store import Dataset
from mixnmatch.errors import DataError
from mixnmatch.mixer import Mixer
from mixnmatch.recipes import CODE_OF
from mixnmatch.sheets import grid, labelled, stack, zoom_of


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
    sources = dict(zip(CODE_OF, four, strict=True))
    mixes = {f"{name} of": images for name, images in sources.items()}
    mixes["code mix"] = mixer.mix_tensors(**sources, mode="code")
    if mixer.bundle.extractor is not None:
        mixes["feature mix\n(pose of shape)"] = mixer.mix_tensors(**sources, mode="feature")
    zoom = zoom_of(mixer.image_size)
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
    config = mixer.bundle.config.model
    fine, supers = config.fine_categories, config.super_categories
    table = {"taken from": others}
    recipe = mixer.recipe(background=held, pose=held, shape=held, texture=held)
    for name in CODE_OF:
        table[f"{name} varies"] = mixer.vary(recipe, name, images=others)
    for name, categories in (("background", fine), ("shape", supers), ("texture", fine)):
        count = min(len(others), categories)
        table[f"every {name} code"] = mixer.vary(recipe, name, count=count)
    images = [torch.cat([held, row]) for row in table.values()]
    return labelled(
        grid(images, zoom=zoom),
        list(table),
        title="One factor at a time: the first column is held",
    )
