import io

import torch
from PIL import Image

from mixnmatch.data.store import Dataset
from mixnmatch_platform.serving.gallery import choose_pictures, for_model


def test_the_same_held_out_pictures_each_time_spread_over_the_classes(
    tiny_dataset: Dataset,
) -> None:
    chosen = choose_pictures(tiny_dataset, 6)
    assert list(choose_pictures(tiny_dataset, 6).items()) == list(chosen.items())
    assert len(chosen) == 6
    rows = {
        f"{tiny_dataset[int(row)].id:04d}": tiny_dataset[int(row)]
        for row in tiny_dataset.held_out_rows()
    }
    records = [rows[name.partition("-")[0]] for name in chosen]
    classes = {tiny_dataset[int(row)].label for row in tiny_dataset.held_out_rows()}
    assert {record.label for record in records} == classes


def test_a_small_data_set_gives_what_it_has(tiny_dataset: Dataset) -> None:
    assert len(choose_pictures(tiny_dataset, 1000)) == len(tiny_dataset.held_out_rows())


def test_they_are_seen_in_the_size_of_the_model(gallery: dict[str, bytes]) -> None:
    for tensor, png in for_model(gallery, 32).values():
        assert tensor.shape == (1, 3, 32, 32)
        shown = Image.open(io.BytesIO(png))
        assert shown.size == (32, 32)
        assert shown.getpixel((3, 4)) == tuple(
            torch.round((tensor[0, :, 4, 3] + 1) * 127.5).int().tolist()
        )
