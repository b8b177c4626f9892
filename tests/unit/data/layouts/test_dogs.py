import tempfile
from pathlib import Path

import pytest
from annotated import (
    PICTURE,
    annotation,
    boxes_of,
    cub_boxes,
    listing_of,
    mat_cells,
    pixels_from_one,
    rows,
    save,
    whole_boxes,
    write,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from mixnmatch.data.records import Box, Record, Reject
from mixnmatch.errors import DataError

PUG, SHIH_TZU = "n02110958-pug", "n02086240-Shih-Tzu"


def dog(root: Path, breed: str, number: int, text: str | None = None) -> str:
    """A picture and its annotation, whose file name is a placeholder as in the real set."""
    key = f"{breed}/{breed.partition('-')[0]}_{number}"
    text = text or annotation(("dog", (11, 6, 30, 25)), filename="%s")
    write(root, **{f"Annotation/{key}": text, f"Images/{key}.jpg": PICTURE})
    return key


def test_pictures_and_breeds_go_by_path(tmp_path: Path) -> None:
    dog(tmp_path, PUG, 7)
    dog(tmp_path, SHIH_TZU, 12)
    listing = listing_of(tmp_path)
    assert (listing.kind, listing.class_names) == ("dogs", ("Shih-Tzu", "pug")), "by WordNet id"
    assert listing.saw == "Stanford Dogs: 2 XML files without a suffix in Annotation"
    assert listing.notes == []
    first, second = rows(tmp_path)
    assert isinstance(first, Record)
    assert isinstance(second, Record)
    assert (first.source, first.class_name, first.label) == (
        f"Images/{SHIH_TZU}/n02086240_12.jpg",
        "Shih-Tzu",
        0,
    )
    assert (second.class_name, second.label, second.split) == ("pug", 1, "train")
    assert second.box == Box(10, 5, 20, 20)


def test_deeper_folders_and_other_files_do_no_harm(tmp_path: Path) -> None:
    key = dog(tmp_path / "images", PUG, 7)
    (tmp_path / "images/Annotation").rename(tmp_path / "annotations")
    write(tmp_path, **{"annotations/README": "?", "images/logo.png": PICTURE})
    (row,) = rows(tmp_path)
    assert isinstance(row, Record)
    assert row.source == f"images/Images/{key}.jpg"


def test_several_dogs_of_a_picture_are_of_its_breed(tmp_path: Path) -> None:
    text = annotation(("dog", (1, 1, 5, 5)), ("wolf", (2, 2, 9, 9)))
    dog(tmp_path, PUG, 7, text)
    assert [row.class_name for row in rows(tmp_path) if isinstance(row, Record)] == ["pug", "pug"]


def test_lists_give_the_splits(tmp_path: Path) -> None:
    keys = [dog(tmp_path, PUG, number) for number in range(3)]
    for name, key in (("train", keys[0]), ("test", keys[1])):
        cells = mat_cells([f"{key}.jpg"] if name == "train" else [f"{key}.jpg"] * 2, down=True)
        save(tmp_path / f"lists/{name}_list.mat", file_list=cells)
    listing = listing_of(tmp_path)
    assert [entry.split for entry in listing.entries] == ["train", "test", None]
    assert listing.notes == [
        f"pictures in neither list, taken for training: 1, such as Images/{keys[2]}.jpg"
    ]


@pytest.mark.parametrize("content", [b"", b"\0" * 300, b"MATLAB 5.0 MAT-file"])
def test_a_damaged_list_is_named(tmp_path: Path, content: bytes) -> None:
    dog(tmp_path, PUG, 7)
    write(tmp_path, **{"train_list.mat": content})
    with pytest.raises(DataError, match=r"/train_list\.mat: ") as caught:
        listing_of(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_list_of_something_else_is_named(tmp_path: Path) -> None:
    dog(tmp_path, PUG, 7)
    save(tmp_path / "test_list.mat", file_list=mat_cells([f"{PUG}/a.jpg", "b.jpg"]))
    with pytest.raises(DataError, match=r"test_list\.mat: item 2 of file_list must name"):
        listing_of(tmp_path)


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    keys = [dog(tmp_path, PUG, number) for number in range(4)]
    write(tmp_path, **{f"Annotation/{keys[1]}": "<annotation>"})
    (tmp_path / f"Images/{keys[2]}.jpg").unlink()
    write(tmp_path, **{f"Images/{keys[3]}.png": PICTURE, f"Images/{PUG}/other.jpg": PICTURE})
    first, *rejects = rows(tmp_path)
    assert isinstance(first, Record)
    reasons = [reject.reason for reject in rejects if isinstance(reject, Reject)]
    assert f"{keys[1]}.jpg: Annotation/{keys[1]}: not well-formed XML" in reasons[0]
    assert reasons[1] == f"{tmp_path}/Images/{keys[2]}.jpg: no such file"
    assert f"its picture may be Images/{keys[3]}.jpg or Images/{keys[3]}.png" in reasons[2]
    assert listing_of(tmp_path).notes == [
        f"pictures without annotation, left out: 1, such as Images/{PUG}/other.jpg"
    ]


def test_a_folder_of_other_files_is_refused(tmp_path: Path) -> None:
    write(tmp_path, **{"Annotation/cats/1": "?", "a.jpg": PICTURE})
    with pytest.raises(DataError, match="Annotation: missing; Stanford Dogs has files such as"):
        listing_of(tmp_path, "dogs")


@settings(max_examples=20, deadline=None)
@given(st.lists(whole_boxes, min_size=1, max_size=4))
def test_boxes_equal_those_of_cub(boxes: list[Box]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for number, box in enumerate(boxes):
            dog(root / "dogs", PUG, number, annotation(("dog", pixels_from_one(box))))
        names = [f"{number}.jpg" for number in range(len(boxes))]
        assert boxes_of(root / "dogs") == cub_boxes(root / "cub", boxes, names)
