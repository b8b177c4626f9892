import os
import re
import tempfile
from collections import Counter
from io import BytesIO
from pathlib import Path

import pytest
from annotated import (
    PICTURE,
    annotation,
    boxes_of,
    cub_boxes,
    listing_of,
    pixels_from_one,
    rows,
    whole_boxes,
    write,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from made_data import encoded, plan_of
from PIL import Image

from mixnmatch.data.ingest import ingest
from mixnmatch.data.places import Place
from mixnmatch.data.records import Box, Record, Reject
from mixnmatch.data.store import open_dataset
from mixnmatch.errors import DataError

RACCOONS = (
    Path(os.environ.get("MIXNMATCH_TEST_DATA", Path(__file__).parents[5] / "shared" / "data"))
    / "raccoon_voc"
).resolve()
needs_raccoons = pytest.mark.skipif(
    not RACCOONS.is_dir(), reason=f"no real photographs at {RACCOONS} (set MIXNMATCH_TEST_DATA)"
)
ONE = annotation(("cat", (11, 6, 30, 25)))
WHOLE = Box(10, 5, 20, 20)


def paired(root: Path, **options: str) -> dict[str, str | None]:
    """Pictures by the class of their object, which tests make the name of the XML."""
    entries = listing_of(root, **options).entries
    return {
        (entry.objects[0].class_name or "") if entry.objects else entry.path: entry.problem
        or entry.path
        for entry in entries
    }


def test_a_box_is_told_by_its_first_and_last_pixel(tmp_path: Path) -> None:
    write(tmp_path, **{"Annotations/a.xml": ONE, "JPEGImages/a.jpg": PICTURE})
    (row,) = rows(tmp_path)
    assert isinstance(row, Record)
    assert (row.box, row.class_name, row.label, row.split) == (WHOLE, "cat", 0, "train")
    assert row.source == "JPEGImages/a.jpg"
    assert row.remarks == ()
    (row,) = rows(tmp_path, first_pixel=0)
    assert isinstance(row, Record)
    assert row.box == Box(11, 6, 20, 20)


@pytest.mark.parametrize(
    ("corners", "box"),
    [
        ((1, 1, 40, 30), Box(0, 0, 40, 30)),
        ((0, 0, 40, 30), Box(0, 0, 40, 30)),
        ((0, 3, 5, 4), Box(0, 2, 5, 2)),
        ((" 3.5 ", "2e0", 10, 20), Box(2.5, 1, 7.5, 19)),
        ((7, 8, 7, 8), Box(6, 7, 1, 1)),
    ],
)
def test_boxes_at_the_edge_and_between_pixels(
    tmp_path: Path, corners: tuple[object, object, object, object], box: Box
) -> None:
    write(tmp_path, **{"a.xml": annotation(("cat", corners)), "a.jpg": PICTURE})
    (row,) = rows(tmp_path)
    assert isinstance(row, Record)
    assert row.box == box
    assert row.remarks == (), "no box is called cut that begins at 0"


def test_boxes_that_begin_at_0_are_told(tmp_path: Path) -> None:
    odd = annotation(("cat", (0, 3, 5, 4)))
    write(tmp_path, **{"a.xml": ONE, "a.jpg": PICTURE, "b.xml": odd, "b.jpg": PICTURE})
    (note,) = (note for note in listing_of(tmp_path).notes if "pixel 0" in note)
    assert "in 1 of 2 XML files, such as b.xml" in note
    assert not any("pixel 0" in note for note in listing_of(tmp_path, first_pixel=0).notes)


@settings(max_examples=30, deadline=None)
@given(st.lists(whole_boxes, min_size=1, max_size=4))
def test_boxes_equal_those_of_cub(boxes: list[Box]) -> None:
    names = [f"{number}.jpg" for number in range(len(boxes))]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, box in zip(names, boxes, strict=True):
            text = annotation(("cat", pixels_from_one(box)), filename=name)
            write(root / "voc", **{f"Annotations/{name[:-4]}.xml": text, f"images/{name}": PICTURE})
        assert boxes_of(root / "voc") == cub_boxes(root / "cub", boxes, names)


def test_objects_keep_their_order_and_parts_are_none(tmp_path: Path) -> None:
    text = annotation(("dog", (1, 1, 5, 5)), ("cat 10", (2, 2, 9, 9)), ("cat 9", (3, 3, 4, 4)))
    write(tmp_path, **{"a.xml": text, "a.jpg": PICTURE})
    found = rows(tmp_path)
    assert [row.class_name for row in found if isinstance(row, Record)] == [
        "dog",
        "cat 10",
        "cat 9",
    ]
    assert listing_of(tmp_path).class_names == ("cat 9", "cat 10", "dog")


@pytest.mark.parametrize(
    ("xml", "filename", "picture"),
    [
        ("Annotations/x.xml", "x.jpg", "JPEGImages/x.jpg"),
        ("annotations/x.xml", "C:\\pictures\\x.jpg", "images/x.jpg"),
        ("annotations/x.xml", "/home/me/x.jpg", "images/deep/x.jpg"),
        ("x.xml", "x", "x.png"),
        ("x.xml", "x.jpg", "x.png"),
        ("x.xml", "X.JPG", "x.jpg"),
        ("x.xml", "renamed.jpg", "x.jpg"),
        ("x.xml", "", "x.jpeg"),
        ("x.xml", "a.b", "a.b.jpg"),
        ("000017.xml", "holiday.jpg", "photos/holiday.jpg"),
    ],
)
def test_a_picture_is_found(tmp_path: Path, xml: str, filename: str, picture: str) -> None:
    text = annotation(("x", (1, 1, 5, 5)), filename=filename)
    write(tmp_path, **{xml: text, picture: PICTURE, "SegmentationClass/x.png": PICTURE})
    assert paired(tmp_path) == {"x": picture}


def test_pictures_of_the_same_name_belong_to_their_own_folder(tmp_path: Path) -> None:
    for split in ("test", "train", "val"):
        text = annotation((split, (1, 1, 5, 5)), filename="1.jpg")
        write(tmp_path, **{f"{split}/Annotations/1.xml": text})
    write(tmp_path, **{"train/JPEGImages/1.jpg": PICTURE, "val/JPEGImages/1.jpg": PICTURE})
    assert paired(tmp_path) == {
        "train": "train/JPEGImages/1.jpg",
        "val": "val/JPEGImages/1.jpg",
        "test/Annotations/1.xml": "its picture may be train/JPEGImages/1.jpg or "
        "val/JPEGImages/1.jpg: rename one of them",
    }


def test_a_picture_is_given_to_one_annotation_only(tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path, **{f"{name}.xml": annotation((name, (1, 1, 5, 5)), filename="b.jpg")})
    write(tmp_path, **{"a.jpg": PICTURE, "b.jpg": PICTURE})
    assert paired(tmp_path) == {
        "a": "a.jpg",
        "b": "b.jpg",
        "c.xml": "b.jpg, its picture, is annotated by b.xml, too",
    }
    (note,) = listing_of(tmp_path).notes
    assert "1, such as a.xml, which says 'b.jpg' and was taken for a.jpg" in note


def test_pictures_can_be_asked_for_in_one_folder(tmp_path: Path) -> None:
    write(tmp_path, **{"a.xml": ONE, "a.jpg": PICTURE, "small/a.jpg": PICTURE})
    assert paired(tmp_path) == {"cat": "a.jpg"}
    assert paired(tmp_path, image_folder="small/") == {"cat": "small/a.jpg"}


def test_what_has_no_partner_is_told(tmp_path: Path) -> None:
    write(tmp_path, **{"xml/a.xml": ONE, "b.jpg": PICTURE, "c.jpg": PICTURE, "readme.txt": "?"})
    (row,) = rows(tmp_path)
    assert row == Reject("xml/a.xml", f"{tmp_path}/xml/a.xml: its picture 'a.jpg' is not there")
    assert listing_of(tmp_path).notes == ["pictures without XML, left out: 2, such as b.jpg"]


def test_splits_are_those_of_the_lists(tmp_path: Path) -> None:
    lists = {"trainval": "a\nb\n", "val": "b\n", "test": " c d  -1\n\n", "cat_train": "e\n"}
    write(
        tmp_path,
        **{f"VOC/ImageSets/Main/{name}.txt": text for name, text in lists.items()},
        **{"VOC/ImageSets/Layout/train.txt": "e"},
        **{f"VOC/Annotations/{name}.xml": ONE for name in ("a", "b", "c d", "e")},
        **{f"VOC/JPEGImages/{name}.jpg": PICTURE for name in ("a", "b", "c d", "e")},
    )
    listing = listing_of(tmp_path)
    splits = {Path(entry.path).stem: entry.split for entry in listing.entries}
    assert splits == {"a": "train", "b": "test", "c d": "test", "e": None}
    assert any(
        "taken for training: 1, such as VOC/JPEGImages/e.jpg" in note for note in listing.notes
    )
    write(tmp_path, **{"VOC/ImageSets/Main/val.txt": b"\xff\xfe\xff"})
    with pytest.raises(DataError, match=r"Main/val\.txt: not UTF-8"):
        listing_of(tmp_path)


def test_each_of_several_roots_has_its_own_lists(tmp_path: Path) -> None:
    for root, split in (("VOC2007", "test"), ("VOC2012", "train")):
        write(
            tmp_path,
            **{f"{root}/ImageSets/Main/{split}.txt": "a 1\n"},
            **{f"{root}/Annotations/a 1.xml": ONE, f"{root}/JPEGImages/a 1.jpg": PICTURE},
        )
    splits = {entry.path: entry.split for entry in listing_of(tmp_path).entries}
    assert splits == {"VOC2007/JPEGImages/a 1.jpg": "test", "VOC2012/JPEGImages/a 1.jpg": "train"}


def test_splits_are_those_of_folders(tmp_path: Path) -> None:
    write(
        tmp_path,
        **{"train/a.xml": ONE, "train/a.jpg": PICTURE},
        **{"labels/b.xml": ONE.replace("a.jpg", "b.jpg"), "images/val/b.jpg": PICTURE},
    )
    splits = {entry.path: entry.split for entry in listing_of(tmp_path).entries}
    assert splits == {"train/a.jpg": "train", "images/val/b.jpg": "test"}


def test_a_picture_of_another_size_is_refused_and_0_is_not_known(tmp_path: Path) -> None:
    for name, size in {"a": (0, 0), "b": (30, 40), "c": ("40.0", 30)}.items():
        text = annotation(("cat", (11, 6, 30, 25)), filename=f"{name}.jpg", size=size)
        write(tmp_path, **{f"{name}.xml": text, f"{name}.jpg": PICTURE})
    first, second, third = rows(tmp_path)
    assert isinstance(first, Record)
    assert isinstance(third, Record)
    assert second == Reject(
        "b.jpg", f"{tmp_path}/b.jpg: is of 40x30 pixels, its annotation of 30x40"
    )


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("<xmin>11<", "<xmin>left<", "object 1: box ('left', '6', '30', '25') is not four numbers"),
        ("<xmin>11<", "<xmin>nan<", "object 1: box ('nan',"),
        ("<xmin>11<", "<xmin><", "object 1: box ('',"),
        ("<ymax>25</ymax>", "", "object 1: box ('11', '6', '30', 'None')"),
        ("bndbox>", "polygon>", "object 1 has no <bndbox>"),
        ("<width>40<", "<width>wide<", "<size> 'wide' x '30' is not two whole numbers"),
        ("<width>40<", "<width>1e999<", "<size> '1e999' x '30' is not two"),
        ("<width>40<", "<width>-40<", "<size> '-40' x '30'"),
        ("<xmax>30<", "<xmax>3<", "has no area"),
        ("<xmin>11<", "<xmin>31<", "has no area"),
        ("<xmax>30<", f"<xmax>{'9' * 5000}<", "is not four numbers"),
    ],
)
def test_broken_objects_leave_out_their_picture_alone(
    tmp_path: Path, old: str, new: str, problem: str
) -> None:
    broken = annotation(("cat", (11, 6, 30, 25)), filename="b.jpg").replace(old, new)
    write(tmp_path, **{"a.xml": ONE, "a.jpg": PICTURE, "b.xml": broken, "b.jpg": PICTURE})
    first, second = rows(tmp_path)
    assert isinstance(first, Record)
    assert isinstance(second, Reject)
    assert second.source == "b.jpg"
    assert problem in second.reason
    assert len(second.reason) < 400 + len(str(tmp_path))


def test_a_picture_without_objects_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, **{"a.xml": annotation(), "a.jpg": PICTURE})
    assert rows(tmp_path) == [Reject("a.jpg", f"{tmp_path}/a.jpg: no object is annotated")]


def test_a_folder_without_xml_is_refused(tmp_path: Path) -> None:
    write(tmp_path, **{"a.jpg": PICTURE})
    with pytest.raises(DataError, match="no XML file"):
        listing_of(tmp_path, "voc")


def test_other_xml_is_not_taken_for_it(tmp_path: Path) -> None:
    write(tmp_path, **{"a.jpg": PICTURE, "pom.xml": "<project/>"})
    with pytest.raises(DataError, match=r"pom\.xml"):
        listing_of(tmp_path)


def test_a_sideways_photograph_is_annotated_as_it_is_seen(tmp_path: Path) -> None:
    buffer = BytesIO()
    picture = Image.open(BytesIO(encoded(30, 40)))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise: seen as 40x30
    picture.save(buffer, "JPEG", exif=exif)
    write(tmp_path, **{"a.xml": ONE, "a.jpg": buffer.getvalue()})
    (row,) = rows(tmp_path)
    assert isinstance(row, Record)
    assert row.box == Box(5, 10, 20, 20), "seen (10, 5, 20, 20): stored x = y, stored y = 40 - 30"


@needs_raccoons
def test_raccoons_are_counted_as_their_xml_counts_them(tmp_path: Path) -> None:
    texts = {path.stem: path.read_text() for path in (RACCOONS / "annotations").glob("*.xml")}
    counts = {name: text.count("<object>") for name, text in texts.items()}
    several = {f"images/{name}.jpg" for name, count in counts.items() if count > 1}
    assert several, "some hold several"

    each = ingest(plan_of(RACCOONS, objects="each"), Place(tmp_path / "each"))
    assert (each.kind, each.count, each.labels) == ("voc", sum(counts.values()), 1)
    dataset = open_dataset(tmp_path / "each")
    assert Counter(dataset.column("source")) == {
        f"images/{name}.jpg": count for name, count in counts.items()
    }
    for row in dataset:
        text = texts[Path(row.source).stem]
        if counts[Path(row.source).stem] == 1:
            x1, y1, x2, y2 = (int(number) for number in re.findall(r"<[xy]m..>(\d+)<", text))
            assert row.box.corners == (x1 - 1, y1 - 1, x2, y2)

    largest = ingest(plan_of(RACCOONS, objects="largest"), Place(tmp_path / "largest"))
    assert (largest.count, largest.rejects) == (len(texts), ())

    refuse = ingest(plan_of(RACCOONS, objects="refuse"), Place(tmp_path / "refuse"))
    assert refuse.count == len(texts) - len(several)
    assert {reject.source for reject in refuse.rejects} == several
