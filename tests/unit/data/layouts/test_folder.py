import io
from pathlib import Path

import pytest
from PIL import Image

from mixnmatch.data.layouts import folder
from mixnmatch.data.layouts.known import read_source
from mixnmatch.data.layouts.listing import LayoutOptions, Listing
from mixnmatch.data.places import Place
from mixnmatch.data.plan import Plan, read_entry
from mixnmatch.data.records import Box, Record
from mixnmatch.errors import DataError


def tree(root: Path, *paths: str) -> Place:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"")
    return Place(root)


def listed(place: Place, **options: object) -> Listing:
    return read_source(place, "folder", LayoutOptions(**options))  # type: ignore[arg-type]


def told(listing: Listing) -> dict[str, tuple[str | None, str | None]]:
    """Split and class by path."""
    return {entry.path: (entry.split, entry.objects[0].class_name) for entry in listing.entries}


def test_first_folders_are_classes(tmp_path: Path) -> None:
    listing = listed(tree(tmp_path, "cat 10/a.JPG", "cat 9/x/b.png", "c.webp", "cat 9/notes.txt"))
    assert told(listing) == {
        "c.webp": (None, None),
        "cat 10/a.JPG": (None, "cat 10"),
        "cat 9/x/b.png": (None, "cat 9"),
    }
    assert listing.class_names == ("cat 9", "cat 10")
    assert listing.saw == "plain folder: 3 pictures in 2 folders, without boxes"
    boxes, outside, others = listing.notes
    assert boxes.startswith("no boxes: ")
    assert "boxes help much" in boxes
    assert outside.startswith("1 pictures are in no folder of a class")
    assert others == "1 other files are passed over, by suffix: 1 .txt"


def test_folders_named_for_splits_are_splits_if_all_are(tmp_path: Path) -> None:
    paths = ("train/cat/a.jpg", "val/dog/b.jpg", "Test/c.jpg")
    assert told(listed(tree(tmp_path / "all", *paths))) == {
        "Test/c.jpg": ("test", None),
        "train/cat/a.jpg": ("train", "cat"),
        "val/dog/b.jpg": ("test", "dog"),
    }
    assert told(listed(tree(tmp_path / "some", "train/a.jpg", "bus/b.jpg"))) == {
        "bus/b.jpg": (None, "bus"),
        "train/a.jpg": (None, "train"),
    }


def test_pictures_may_be_below_a_folder(tmp_path: Path) -> None:
    place = tree(tmp_path, "images/cat/a.jpg", "images/dog/b.jpg", "other/c.jpg", "images.jpg")
    assert listed(place).class_names == ("images", "other")
    listing = listed(place, image_folder="images/")
    assert [entry.path for entry in listing.entries] == ["images/cat/a.jpg", "images/dog/b.jpg"]
    assert listing.class_names == ("cat", "dog")
    with pytest.raises(DataError, match=r"plain folder: 0 pictures .* below nowhere/"):
        listed(place, image_folder="nowhere")


@pytest.mark.parametrize(
    ("margin", "box"),
    [(0.05, Box(2, 1, 36, 18)), (0.25, Box(10, 5, 20, 10)), (0.0, Box(0, 0, 40, 20))],
)
def test_the_box_is_the_picture_less_a_margin(tmp_path: Path, margin: float, box: Box) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 20)).save(buffer, "PNG")
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    place = Place(tmp_path)
    plan = Plan(place=place, listing=listed(place, margin=margin), files=place.files())
    (record,) = read_entry(plan, 0)
    assert isinstance(record, Record)
    assert record.box == pytest.approx(box)
    assert record.label is None


def test_a_folder_without_pictures_is_none(tmp_path: Path) -> None:
    place = tree(tmp_path, "a.txt", "b.csv")
    assert folder.recognise(place, dict(place.files())) is None
    with pytest.raises(DataError, match="0 pictures in no folders"):
        listed(place)
