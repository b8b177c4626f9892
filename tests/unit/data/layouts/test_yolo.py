import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotated import listing_of, rows, write
from hypothesis import given
from hypothesis import strategies as st
from made_data import encoded, rows_of

from mixnmatch.data.layouts import yolo
from mixnmatch.data.layouts.known import read_source
from mixnmatch.data.layouts.listing import Entry, LayoutOptions
from mixnmatch.data.layouts.yolo_fields import Names, object_of
from mixnmatch.data.places import FileMark, Place
from mixnmatch.data.plan import Plan
from mixnmatch.data.records import Box, Part, Record, Reject
from mixnmatch.errors import DataError

PICTURE = encoded(40, 30)
LINE = "1 0.5 0.5 0.25 0.2\n"
BOX = Box(15, 12, 10, 6)


def recognised(root: Path) -> str | None:
    place = Place(root)
    return yolo.recognise(place, dict(place.files()))


def only(root: Path, **options: Any) -> Entry:
    (entry,) = listing_of(root, "yolo", **options).entries
    return entry


@pytest.mark.parametrize(
    ("label", "picture", "split"),
    [
        ("train/labels/a.txt", "train/images/a.jpg", "train"),
        ("valid/labels/a.txt", "valid/images/a.JPG", "test"),
        ("labels/train2017/a.txt", "images/train2017/a.png", "train"),
        ("labels/a.txt", "images/a.jpg", None),
        ("data/obj_train_data/a.txt", "data/obj_train_data/a.jpg", "train"),
        ("a.txt", "a.jpg", None),
    ],
)
def test_labels_are_beside_pictures_or_in_labels(
    tmp_path: Path, label: str, picture: str, split: str | None
) -> None:
    write(tmp_path, **{label: LINE, picture: PICTURE})
    assert recognised(tmp_path) == f"YOLO: 1 label files, such as {label}"
    entry = listing_of(tmp_path).entries[0]
    assert (entry.path, entry.split, entry.problem) == (picture, split, None)
    (row,) = rows(tmp_path)
    assert isinstance(row, Record)
    assert row.box == pytest.approx(BOX)
    assert (row.class_name, row.label) == ("1", 0)


def test_pictures_may_be_elsewhere(tmp_path: Path) -> None:
    write(tmp_path, **{"labels/a.txt": LINE, "other/a.jpg": PICTURE, "pics/a.jpg": PICTURE})
    assert only(tmp_path, image_folder="pics").path == "pics/a.jpg"


def test_pictures_and_labels_without_each_other(tmp_path: Path) -> None:
    write(
        tmp_path,
        **{
            "images/a.jpg": PICTURE,
            "images/empty.jpg": PICTURE,
            "images/none.jpg": PICTURE,
            "plots/loss.png": PICTURE,
            "labels/a.txt": f"\n{LINE}\r\n0 0.25 0.5 0.5 1\n",
            "labels/classes.txt": "cat\ndog\n",
            "labels/empty.txt": "",
            "labels/lost.txt": LINE,
            "README.txt": "read me",
        },
    )
    listing = listing_of(tmp_path)
    assert listing.class_names == ("cat", "dog")
    assert listing.saw == "YOLO: 3 label files of 4 pictures"
    names, left = listing.notes
    assert names == "names of classes: labels/classes.txt"
    assert "label file, nor others in their folder" in left
    assert left.endswith("such as plots/loss.png")
    dog, cat, empty, none, lost = rows(tmp_path)
    assert isinstance(dog, Record)
    assert isinstance(cat, Record)
    assert [(row.class_name, row.label) for row in (dog, cat)] == [("dog", 1), ("cat", 0)]
    assert cat.box == Box(0, 0, 20, 30)
    assert isinstance(empty, Reject)
    assert empty.reason.endswith("images/empty.jpg: no object is annotated")
    assert isinstance(none, Reject)
    assert none.reason.endswith("images/none.jpg: no object is annotated")
    assert isinstance(lost, Reject)
    assert lost.reason.endswith("labels/lost.txt: its picture 'lost' is not there")


@pytest.mark.parametrize(
    ("name", "text", "classes"),
    [
        ("data.yaml", "nc: 2\nnames: [no, 1]\ntrain: ../train/images\n", ("no", "1")),
        ("data.yaml", "names:\n  0: cat\n  1: big dog\n", ("cat", "big dog")),
        ("coco8.yml", "names:\n  7: zebra\n  1: dog # and\n  5: cat\n", ("dog", "cat", "zebra")),
        ("set/data.yaml", "names:\n- cat\n- 'null'\n", ("cat", "null")),
        ("data.yaml", "names: [cat, cat]\n", ("cat",)),
        ("classes.txt", "cat\r\n dog \r\n\r\n", ("cat", "dog")),
        ("data/obj.names", "\ufeffcat\ndog", ("cat", "dog")),
    ],
)
def test_names_of_classes(tmp_path: Path, name: str, text: str, classes: tuple[str, ...]) -> None:
    write(tmp_path, **{name: text, "labels/a.txt": LINE, "images/a.jpg": PICTURE})
    listing = listing_of(tmp_path)
    assert listing.class_names == classes
    assert listing.notes == (f"names of classes: {name}",)
    (row,) = rows(tmp_path)
    assert isinstance(row, Record)
    assert row.class_name in classes


def test_without_names_classes_are_numbers(tmp_path: Path) -> None:
    for name, key in (("a", 10), ("b", 9)):
        write(tmp_path, **{f"{name}.jpg": PICTURE, f"{name}.txt": f"{key} 0.5 0.5 1 1"})
    listing = listing_of(tmp_path)
    assert listing.class_names == ("9", "10")
    assert listing.notes == ("names of classes: none, they are called by their numbers",)


def test_yaml_goes_before_text_and_other_yaml_is_not_read(tmp_path: Path) -> None:
    write(
        tmp_path,
        **{
            "classes.txt": "other\nnames",
            "data.yaml": "names: [cat, dog]",
            "again/data.yaml": "names: {1: dog, 0: cat}",
            "mkdocs.yml": "theme: [",
            "hyper.yaml": "rate: 0.1 # names: none\n",
            "a.txt": LINE,
            "a.jpg": PICTURE,
        },
    )
    assert listing_of(tmp_path).class_names == ("cat", "dog")


NUMBERED: dict[str, Any] = {f"images/{n}.jpg": PICTURE for n in range(5)}
NUMBERED |= {f"labels/{n}.txt": LINE for n in range(5)}
LISTS = {
    "set/train.txt": "./images/0.jpg\n/home/me/set/images/1.jpg\r\n\nC:\\set\\images\\2.jpg",
    "set/val.txt": "images/2.jpg\rimages/3.jpg\rimages/9.jpg\r",
}


@pytest.mark.parametrize(
    "lines",
    [
        "train: train.txt\nval: val.txt\n",
        "path: ../datasets/set\nval: [./val.txt]\ntrain:\n- set/train.txt\n- images/more\n",
        "train: /home/me/set/train.txt\nval: images/val\ntest: /home/me/set/val.txt\n",
    ],
)
def test_lists_of_pictures_give_the_splits(tmp_path: Path, lines: str) -> None:
    write(tmp_path, **NUMBERED, **LISTS, **{"set/data.yaml": f"names: [cat, dog]\n{lines}"})
    listing = listing_of(tmp_path)
    splits = [entry.split for entry in listing.entries]
    assert splits == ["train", "train", "test", "test", None], "of both lists: never trained on"
    _, stray, free = listing.notes
    assert stray == "lines of lists that name no picture: 1, such as images/9.jpg"
    assert free == (
        "pictures in no list that a YAML file names, taken for training: 1, such as images/4.jpg"
    )


def test_lists_go_before_folders(tmp_path: Path) -> None:
    yaml = {"data.yaml": "names: [cat, dog]\nval: val.txt\ntrain: images/train\n"}
    both = {f"images/train/{n}.jpg": PICTURE for n in range(2)}
    write(tmp_path, **yaml, **both, **{"val.txt": "images/train/0.jpg", "labels/train/1.txt": LINE})
    listing = listing_of(tmp_path)
    assert [entry.split for entry in listing.entries] == ["test", "train"]
    assert len(listing.notes) == 1


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({}, r"/data\.yaml: 'my/val\.txt', its list of pictures to test, no such file below the"),
        (
            {"a/my/val.txt": "", "b/my/val.txt": ""},
            r"pictures to test, may be any of a/my/val\.txt",
        ),
        ({"my/val.txt": b"\xff"}, r"/my/val\.txt: not UTF-8 text"),
    ],
)
def test_a_list_that_cannot_be_read_is_named(
    tmp_path: Path, lists: dict[str, Any], message: str
) -> None:
    yaml = {"data.yaml": "names: [cat, dog]\nval: my/val.txt\n"}
    write(tmp_path, **NUMBERED, **lists, **yaml)
    with pytest.raises(DataError, match=message) as caught:
        listing_of(tmp_path, "yolo")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "names", "box", "parts"),
    [
        ("0 0.5 0.5 1 1", Names({}), Box(0, 0, 1, 1), ()),
        ("0.0 0.25 0.75 5e-1 .5", Names({}), Box(0, 0.5, 0.5, 0.5), ()),
        ("0 0.999 0.5 0.25 1.000001", Names({}), Box(0.874, -5e-7, 0.25, 1.000001), ()),
        ("0 0.5 0.25 0.75 0.5 0.25 0.75", Names({}), Box(0.25, 0.25, 0.5, 0.5), ()),
        ("0 0.1 0.1 0.3 0.1 0.3 0.4 0.1 0.4", Names({}), Box(0.1, 0.1, 0.2, 0.3), ()),
        (
            "0 0.5 0.5 1 1 0.25 0.5 2 0.75 0.5 1 0 0 0",
            Names({}, (3, 3)),
            Box(0, 0, 1, 1),
            (Part(0, 0.25, 0.5),),
        ),
        (
            "0 0.5 0.5 1 1 -1 -1 0.75 0.25",
            Names({}, (2, 2)),
            Box(0, 0, 1, 1),
            (Part(1, 0.75, 0.25),),
        ),
        ("0 0.5 0.5 1 1", Names({}, (3, 3)), Box(0, 0, 1, 1), ()),
    ],
)
def test_forms_of_a_line(line: str, names: Names, box: Box, parts: tuple[Part, ...]) -> None:
    found = object_of(line, names)
    assert found.box == pytest.approx(box)
    assert (found.unit, found.class_name, found.parts) == ("shares", "0", parts)


def test_keypoints_become_pixels(tmp_path: Path) -> None:
    write(
        tmp_path,
        **{
            "data.yaml": "kpt_shape: [2, 3]\nnames: [cat]",
            "a.txt": "0 0.5 0.5 1 1 0.25 0.5 2 0.5 0.5 1",
            "a.jpg": PICTURE,
        },
    )
    assert listing_of(tmp_path).part_names == ("0", "1")
    (row,) = rows(tmp_path)
    assert isinstance(row, Record)
    assert row.parts == (Part(0, 10, 15),)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("0 20 15 10 6", "1: 20 is not a share: YOLO's numbers are shares of the picture's width"),
        (f"{LINE}\n0 0.5 0.5 0.1 -7", "3: -7 is not a share"),
        ("0 0.5 0.5 0 0.2", "1: width 0 and height 0.2 must be above 0"),
        (f"{LINE}0 0.5 0.5 0.1 -0.2", "2: width 0.1 and height -0.2 must be above 0"),
        ("0 0.5 0.5 0.5 0.1 0.5 0.9", "1: width 0 and height 0.8 must be above 0"),
        ("0 0.5 nan 0.1 0.2", "1: nan is not a finite number"),
        ("0 0.5 0.5 inf 0.2", "1: inf is not a finite number"),
        ("0 0.5 0.5 1e999 0.2", "1: inf is not a finite number"),
        ("0 0.5 0.5 0.1", "1: 4 numbers; there must be 5 (class, x and y of the middle"),
        ("0 0.5 0.5 0.1 0.2 0.9", "1: 6 numbers; there must be 5"),
        ("0", "1: 1 numbers; there must be 5"),
        ("0 0.5 0.5 0.1 0.2 0.5 0.5 2 0.1 0.1 1", "1: 2 is not a share"),  # no kpt_shape
        ("cat 0.5 0.5 0.1 0.2", "1: 'cat 0.5 0.5 0.1 0.2' is not numbers: class"),
        ("0,0.5,0.5,0.1,0.2", "1: '0,0.5,0.5,0.1,0.2' is not numbers"),
        ("0.5 0.5 0.5 0.1 0.2", "1: class 0.5 is not a whole number from 0"),
        ("-1 0.5 0.5 0.1 0.2", "1: class -1 is not a whole number"),
        ("nan 0.5 0.5 0.1 0.2", "1: class nan is not a whole number"),
        ("7 0.5 0.5 0.1 0.2", "1: class 7 is not among the 2 that have names"),
        (b"0 0.5 0.5 0.1 0.2\n\xff", " not UTF-8 text ("),
    ],
)
def test_damage_in_a_label_file_is_its_pictures_own(
    tmp_path: Path, text: str | bytes, problem: str
) -> None:
    write(
        tmp_path,
        **{
            "data.yaml": "names: [cat, dog]",
            "labels/a.txt": text,
            "images/a.jpg": PICTURE,
            "labels/b.txt": LINE,
            "images/b.jpg": PICTURE,
        },
    )
    bad, good = rows(tmp_path, "yolo")
    assert isinstance(good, Record)
    assert isinstance(bad, Reject)
    assert f"images/a.jpg: labels/a.txt:{problem}" in bad.reason
    assert "\n" not in bad.reason


def test_keypoints_of_the_wrong_form() -> None:
    for line, problem in (
        ("0 0.5 0.5 1 1 0.25 0.5 3", "keypoint 0: v 3 is none of 0, 1 and 2"),
        ("0 0.5 0.5 1 1 0.25 15 2", "15 is not a share"),
        ("0 0.5 0.5 1 1 nan 0.5 2", "nan is not a finite number"),
        ("0 0.5 0.5 1 1 0.25", "6 numbers; there must be 5"),
    ):
        with pytest.raises(ValueError, match=problem):
            object_of(line, Names({}, (1, 3)))


def test_too_large_a_label_file_is_not_read(tmp_path: Path) -> None:
    write(tmp_path, **{"a.txt": LINE, "a.jpg": PICTURE})
    files = dict(Place(tmp_path).files()) | {"a.txt": FileMark(yolo.MOST_BYTES + 1, 0)}
    (entry,) = yolo.read_listing(Place(tmp_path), files, LayoutOptions()).entries
    assert entry.problem == "a.txt: 16777217 bytes: at most 16777216 are accepted"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("data.yaml", "names: [cat", r"data\.yaml: not YAML \(while parsing"),
        ("data.yaml", "names: " + "[" * 3000, r"data\.yaml: not YAML \(maximum recursion"),
        ("data.yaml", b"names: \xff", r"data\.yaml: not UTF-8"),
        ("data.yaml", "names: \0", r"data\.yaml: not YAML"),
        ("data.yaml", "names: cat", r"data\.yaml: names 'cat' must be a list, or a mapping"),
        ("data.yaml", "names: []", r"data\.yaml: names \{\} must be a list"),
        ("data.yaml", "names: [cat, [dog]]", r"names: 1 is called \['dog'\], which is not a word"),
        ("data.yaml", 'names: ["\\ud800"]', r"names: 0 is called '\\ud800', which"),
        ("data.yaml", "names: {cat: 0}", r"names: 'cat' is not the number of a class"),
        ("data.yaml", "names: [cat]\nkpt_shape: 17", r"kpt_shape '17' is not a number of key"),
        ("data.yaml", "names: [cat]\nkpt_shape: [17, 4]", r"kpt_shape .* 2 or 3"),
        ("classes.txt", "cat\n\ndog", r"classes\.txt: line 2 is empty, not a class's name"),
        ("classes.txt", "", r"classes\.txt: line 1 is empty"),
        ("b/data.yaml", "names: [x]\n", r"b/data\.yaml: other names of classes than in .*a\.yaml"),
    ],
)
def test_names_that_cannot_be_understood_are_an_error(
    tmp_path: Path, name: str, text: str | bytes, message: str
) -> None:
    write(tmp_path, **{"a.txt": LINE, "a.jpg": PICTURE, name: text})
    if name.startswith("b/"):
        write(tmp_path, **{"a.yaml": "names: [cat, dog]"})
    with pytest.raises(DataError, match=message) as caught:
        listing_of(tmp_path, "yolo")
    assert "\n" not in str(caught.value)


def test_no_labels_are_an_error(tmp_path: Path) -> None:
    write(tmp_path, **{"a.jpg": PICTURE, "README.txt": LINE})
    with pytest.raises(DataError, match="no label files; YOLO has labels/NAME"):
        listing_of(tmp_path, "yolo")


@pytest.mark.parametrize(
    "contents",
    [
        {"README.txt": "read me", "readme.jpg": PICTURE},
        {"a.txt": "a photograph of a cat", "a.jpg": PICTURE},  # captions
        {"a.txt": "0 20 15 10 6", "a.jpg": PICTURE},
        {"a.txt": "", "a.jpg": PICTURE},
        {"a.txt": "Car 0.00 0 1.85 0.5 0.5 0.5 0.5", "a.jpg": PICTURE},  # KITTI
        {"a.txt": "nan nan nan nan nan", "a.jpg": PICTURE},
        {"images.txt": "1 a.jpg", "bounding_boxes.txt": "1 0.5 1 1 1", "images/a.jpg": PICTURE},
        {"list.txt": LINE, "images/a.jpg": PICTURE},
        {"data.yaml": "names: [cat]", "images/a.jpg": PICTURE},
        {"a.txt": b"\xff\xfe", "a.jpg": PICTURE},
    ],
)
def test_other_text_is_not_recognised(tmp_path: Path, contents: dict[str, Any]) -> None:
    assert recognised(write(tmp_path, **contents)) is None


def test_one_damaged_file_hides_no_set(tmp_path: Path) -> None:
    for index in range(60):
        text = "damaged" if index == 0 else LINE
        write(tmp_path, **{f"{index:02}.txt": text, f"{index:02}.jpg": PICTURE})
    assert recognised(tmp_path) == "YOLO: 60 label files, such as 00.txt"


def at_once(root: Path, layout: str) -> list[Record]:
    """The rows of a layout, of several that are in one folder."""
    place = Place(root)
    listing = read_source(place, layout, LayoutOptions())
    found = rows_of(Plan(place=place, listing=listing, files=place.files()))
    assert all(isinstance(row, Record) for row in found), found
    return [row for row in found if isinstance(row, Record)]


@st.composite
def drawn_pictures(draw: st.DrawFn) -> list[tuple[int, int, Box]]:
    """Sizes, and a box inside each: in 64ths of a pixel, which a float32 holds, from 1 on."""

    def span(side: int) -> tuple[float, float]:
        edges = st.integers(64, 64 * side)
        low, high = sorted(draw(st.lists(edges, min_size=2, max_size=2, unique=True)))
        return low / 64, high / 64

    found = []
    for _ in range(draw(st.integers(1, 3))):
        width, height = draw(st.integers(8, 200)), draw(st.integers(8, 200))
        (left, right), (top, bottom) = span(width), span(height)
        found.append((width, height, Box.from_corners(left, top, right, bottom)))
    return found


def write_all(root: Path, pictures: list[tuple[int, int, Box]], form: str) -> None:
    """The same pictures and boxes in CUB's, COCO's and YOLO's way, all in one folder."""
    cub, images, annotations = [], [], []
    for key, (width, height, box) in enumerate(pictures, start=1):
        shares = (
            (box.x + box.width / 2) / width,
            (box.y + box.height / 2) / height,
            box.width / width,
            box.height / height,
        )
        line = " ".join(["0", *(form.format(share) for share in shares)])
        picture = encoded(width, height, form="PNG")
        write(root, **{f"images/{key}.png": picture, f"labels/{key}.txt": line})
        cub.append(" ".join(map(repr, (key, *box))))
        images.append({"id": key, "file_name": f"{key}.png", "width": width, "height": height})
        annotations.append({"image_id": key, "category_id": 1, "bbox": list(box)})
    lists = {"images": images, "annotations": annotations}
    write(
        root,
        **{
            "images.txt": "".join(f"{key + 1} {key + 1}.png\n" for key in range(len(pictures))),
            "bounding_boxes.txt": "\n".join(cub),
            "train.json": json.dumps(lists | {"categories": [{"id": 1, "name": "bird"}]}),
            "classes.txt": "1 bird",
            "image_class_labels.txt": "",
        },
    )


@given(pictures=drawn_pictures())
def test_cub_coco_and_yolo_agree_to_the_last_digit(
    tmp_path_factory: pytest.TempPathFactory, pictures: list[tuple[int, int, Box]]
) -> None:
    root = tmp_path_factory.mktemp("same")
    write_all(root, pictures, "{!r}")
    cub, coco, yolo = (at_once(root, layout) for layout in ("cub", "coco", "yolo"))
    assert len(cub) == len(coco) == len(yolo) == len(pictures)
    for ours, theirs, shares, (_, _, box) in zip(cub, coco, yolo, pictures, strict=True):
        assert ours.source == theirs.source == shares.source
        assert ours.box == theirs.box == box
        assert np.float32(shares.box).tolist() == np.float32(box).tolist()


@given(pictures=drawn_pictures())
def test_yolo_of_six_decimals_is_cub_within_a_thousandth_of_a_pixel(
    tmp_path_factory: pytest.TempPathFactory, pictures: list[tuple[int, int, Box]]
) -> None:
    root = tmp_path_factory.mktemp("same")
    write_all(root, pictures, "{:.6f}")
    for ours, shares in zip(at_once(root, "cub"), at_once(root, "yolo"), strict=True):
        assert shares.box == pytest.approx(ours.box, abs=1e-3)


def test_boxes_at_the_edges_agree(tmp_path: Path) -> None:
    pictures = [(side, 3 * side, Box(0, 0, side, 3 * side)) for side in (8, 13, 97, 200)]
    write_all(tmp_path, pictures, "{!r}")
    for row, (_, _, box) in zip(at_once(tmp_path, "yolo"), pictures, strict=True):
        assert row.box == pytest.approx(box, abs=1e-12)
        assert not row.remarks, "not said to be cut"
