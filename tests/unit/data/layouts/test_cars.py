import tempfile
from pathlib import Path

import numpy as np
import pytest
from annotated import (
    PICTURE,
    boxes_of,
    cub_boxes,
    listing_of,
    mat_cells,
    mat_structs,
    pixels_from_one,
    read_mat_here,
    rows,
    save,
    whole_boxes,
    write,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixnmatch.data.layouts import mat
from mixnmatch.data.records import Box, Record, Reject
from mixnmatch.errors import DataError


@pytest.fixture(autouse=True)
def quick_reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads in this process; one of its own takes half a second."""
    if "own_process" not in request.fixturenames:
        monkeypatch.setattr(mat, "_read_in_child", read_mat_here)


@pytest.fixture
def own_process() -> None:
    """For tests of the reader as it is."""


NAMES = ["Audi A", "BMW B", "Tesla C"]
WHOLE = (11, 6, 30, 25)
_FIELDS = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")


def car(name: str, corners: tuple[object, ...] = WHOLE, **fields: object) -> dict[str, object]:
    """A row as the real files have it: numbers of the smallest unsigned type."""
    small = {
        key: np.uint8(value) if isinstance(value, int) else value for key, value in fields.items()
    }
    numbers = [np.uint16(value) if isinstance(value, int) else value for value in corners]
    return dict(zip(_FIELDS, numbers, strict=True)) | small | {"fname": name}


def joint(row: dict[str, object], test: int) -> dict[str, object]:
    """The row in the form of ``cars_annos.mat``."""
    others = {key: value for key, value in row.items() if key != "fname"}
    return {"relative_im_path": f"car_ims/{row['fname']}"} | others | {"test": np.uint8(test)}


def split_form(root: Path, train: list[dict[str, object]], test: list[dict[str, object]]) -> Path:
    """Both MATLAB files of the form in two folders, and their pictures."""
    save(root / "devkit/cars_meta.mat", class_names=mat_cells(NAMES))
    for split, told, file in (
        ("train", train, "devkit/cars_train_annos.mat"),
        ("test", test, "cars_test_annos_withlabels.mat"),
    ):
        if told:
            save(root / file, annotations=mat_structs(told))
        write(root, **{f"cars_{split}/{row['fname']}": PICTURE for row in told})
    return root


def test_the_form_of_two_folders(tmp_path: Path) -> None:
    split_form(
        tmp_path,
        [car("00001.jpg", **{"class": 3}), car("00002.jpg", **{"class": 1})],
        [car("00001.jpg", (1, 1, 40, 30), **{"class": 2})],
    )
    listing = listing_of(tmp_path)
    assert (listing.kind, list(listing.class_names)) == ("cars", NAMES)
    assert "cars_train_annos.mat and cars_test_annos_withlabels.mat" in listing.saw
    assert listing.notes == []
    found = [row for row in rows(tmp_path) if isinstance(row, Record)]
    assert [(row.source, row.class_name, row.label, row.split) for row in found] == [
        ("cars_train/00001.jpg", "Tesla C", 2, "train"),
        ("cars_train/00002.jpg", "Audi A", 0, "train"),
        ("cars_test/00001.jpg", "BMW B", 1, "test"),
    ]
    assert [row.box for row in found] == [Box(10, 5, 20, 20)] * 2 + [Box(0, 0, 40, 30)]


@pytest.mark.parametrize("do_compression", [True, False])
def test_the_form_of_one_folder(tmp_path: Path, own_process: None, do_compression: bool) -> None:
    told = [joint(car(f"00000{n}.jpg", **{"class": n + 1}), test=n) for n in range(2)]
    save(
        tmp_path / "cars_annos.mat",
        annotations=mat_structs(told),
        class_names=mat_cells(NAMES),
        do_compression=do_compression,
    )
    write(tmp_path, **{f"car_ims/00000{n}.jpg": PICTURE for n in range(3)})
    found = [row for row in rows(tmp_path) if isinstance(row, Record)]
    assert [(row.source, row.class_name, row.split) for row in found] == [
        ("car_ims/000000.jpg", "Audi A", "train"),
        ("car_ims/000001.jpg", "BMW B", "test"),
    ]
    listing = listing_of(tmp_path)
    assert list(listing.class_names) == NAMES
    assert listing.notes == ["pictures without annotation, left out: 1, such as car_ims/000002.jpg"]


def test_of_both_forms_the_one_with_pictures_is_read(tmp_path: Path) -> None:
    split_form(tmp_path, [car("00001.jpg", **{"class": 1})], [])
    row = joint(car("000001.jpg", **{"class": 1}), test=0)
    save(tmp_path / "cars_annos.mat", annotations=mat_structs([row]), class_names=mat_cells(NAMES))
    assert [entry.path for entry in listing_of(tmp_path).entries] == ["cars_train/00001.jpg"]
    write(tmp_path, **{"car_ims/000001.jpg": PICTURE})
    assert [entry.path for entry in listing_of(tmp_path).entries] == ["car_ims/000001.jpg"]


def test_pictures_are_found_in_deeper_folders(tmp_path: Path) -> None:
    split_form(tmp_path, [car("00001.jpg", **{"class": 1})], [])
    (tmp_path / "cars_train").rename(tmp_path / "moved")
    (tmp_path / "cars_train").mkdir()
    (tmp_path / "moved").rename(tmp_path / "cars_train/cars_train")
    (entry,) = listing_of(tmp_path).entries
    assert entry.path == "cars_train/cars_train/00001.jpg"
    write(tmp_path, **{"copy/cars_train/00001.jpg": PICTURE})
    (row,) = rows(tmp_path)
    assert isinstance(row, Reject)
    assert "its picture may be cars_train/cars_train/00001.jpg or copy/cars_train" in row.reason
    (entry,) = listing_of(tmp_path, image_folder="copy").entries
    assert entry.path == "copy/cars_train/00001.jpg"


def test_files_without_names_or_classes_are_told(tmp_path: Path) -> None:
    split_form(tmp_path, [car("1.jpg", **{"class": 10}), car("2.jpg", **{"class": 9})], [])
    (tmp_path / "devkit/cars_meta.mat").unlink()
    save(tmp_path / "cars_test_annos.mat", annotations=mat_structs([car("3.jpg")]))
    write(tmp_path, **{"cars_test/3.jpg": PICTURE})
    listing = listing_of(tmp_path)
    assert listing.class_names == ("9", "10")
    assert listing.notes == [
        "no cars_meta.mat: classes are called by their numbers",
        "cars_test_annos.mat: has no classes; cars_test_annos_withlabels.mat would",
    ]
    last = rows(tmp_path)[-1]
    assert isinstance(last, Record)
    assert (last.label, last.split) == (None, "test")


def test_bad_rows_leave_out_their_picture_alone(tmp_path: Path) -> None:
    bad = [
        (car("a.jpg", **{"class": 4}), "class 4 is above 3, the number of classes"),
        (car("b.jpg", **{"class": 0}), "class 0 is not a whole number from 1"),
        (car("c.jpg", **{"class": 1.5}), "class 1.5 is not a whole number"),
        (car("d.jpg", **{"class": "x"}), "class 'x' is not a whole number"),
        (car("e.jpg", ("left", 1, 2, 3), **{"class": 1}), "box ('left', '1', '2', '3') is not"),
        (car("f.jpg", (np.nan, 1, 2, 3), **{"class": 1}), "box ('nan',"),
        (car("g.jpg", (30, 1, 2, 3), **{"class": 1}), "has no area"),
        (car("h.jpg", (np.zeros(2), 1, 2, 3), **{"class": 1}), "is not four numbers"),
    ]
    split_form(tmp_path, [car("1.jpg", **{"class": 1}), *(row for row, _ in bad)], [])
    (tmp_path / "cars_train/1.jpg").unlink()
    missing, *others = rows(tmp_path)
    assert missing == Reject("cars_train/1.jpg", f"{tmp_path}/cars_train/1.jpg: no such file")
    for reject, (row, reason) in zip(others, bad, strict=True):
        assert isinstance(reject, Reject)
        assert reject.source == f"cars_train/{row['fname']}"
        assert reason in reject.reason


def test_a_picture_is_listed_once(tmp_path: Path) -> None:
    told = [car(f"{name}.jpg", **{"class": 1}) for name in "aba"]
    told.append(car("a.jpg", **{"class": 9}))
    split_form(tmp_path, told, [car("a.jpg", **{"class": 2})])
    first, other, again, more, test = listing_of(tmp_path).entries
    assert (first.problem, other.problem, test.problem) == (None, None, None)
    assert "annotation 4: the picture is listed before" in (more.problem or "")
    assert again.problem == (
        "devkit/cars_train_annos.mat: annotation 3: the picture is listed before, by annotation 1 "
        "of devkit/cars_train_annos.mat"
    )
    assert sum(isinstance(row, Record) for row in rows(tmp_path)) == 3


def test_a_picture_outside_is_refused(tmp_path: Path) -> None:
    write(tmp_path, **{"secret.jpg": PICTURE})
    split_form(tmp_path / "cars", [car("x.jpg", **{"class": 1})], [])
    told = mat_structs([car("../../secret.jpg", **{"class": 1})])
    save(tmp_path / "cars/devkit/cars_train_annos.mat", annotations=told)
    (row,) = rows(tmp_path / "cars")
    assert isinstance(row, Reject)
    assert "must stay inside" in row.reason


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ([{"fname": "1.jpg"}], "annotation 1 has no bbox_x1 and no bbox_y1"),
        ([car("")], "fname of annotation 1 is not a file name"),
        ([{"other": 1}], "annotation 1 has no fname"),
    ],
)
def test_an_index_of_something_else_is_named(
    tmp_path: Path, told: list[dict[str, object]], reason: str
) -> None:
    save(tmp_path / "cars_train_annos.mat", annotations=mat_structs(told))
    with pytest.raises(DataError, match=rf"cars_train_annos\.mat: {reason}"):
        listing_of(tmp_path)


def crashing(content: bytes) -> bytes:
    """The file with a number of a type that there is none of: scipy 1.17 ends the process there."""
    small = b"\x04\x00\x02\x00\x0b\x00"  # two bytes of type 4, uint16: 11
    assert small in content
    return content.replace(small, b"\xff\x00\x02\x00\x0b\x00")


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "7.3", "crashing"])
def test_a_damaged_index_is_named_in_one_line(
    tmp_path: Path, own_process: None, damage: str
) -> None:
    index = tmp_path / "cars_train_annos.mat"
    save(index, annotations=mat_structs([car("1.jpg", **{"class": 1})]), do_compression=False)
    content = index.read_bytes()
    index.write_bytes(
        {
            "empty": b"",
            "cut": content[: len(content) // 2],
            "text": b"not a MATLAB file\n" * 20,
            "7.3": b"MATLAB 7.3 MAT-file, Platform: GLNXA64" + content[38:],
            "crashing": crashing(content),
        }[damage]
    )
    with pytest.raises(DataError, match=r"/cars_train_annos\.mat: ") as caught:
        listing_of(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_reader_that_hangs_is_ended(
    tmp_path: Path, own_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    split_form(tmp_path, [car("1.jpg", **{"class": 1})], [])
    monkeypatch.setattr(mat, "_MOST_SECONDS", 0.001)
    with pytest.raises(
        DataError, match=r"cars_train_annos\.mat: .*its reader was ended after 0\.001 s"
    ):
        listing_of(tmp_path)


def test_a_folder_without_an_index_is_refused(tmp_path: Path) -> None:
    write(tmp_path, **{"a.jpg": PICTURE})
    with pytest.raises(DataError, match=r"cars_annos\.mat: missing; so is cars_train_annos\.mat"):
        listing_of(tmp_path, "cars")


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(whole_boxes, min_size=1, max_size=4))
def test_boxes_equal_those_of_cub(boxes: list[Box]) -> None:
    names = [f"{number:05}.jpg" for number in range(len(boxes))]
    told = [
        car(name, pixels_from_one(box), **{"class": 1})
        for name, box in zip(names, boxes, strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        split_form(root / "cars", told, [])
        assert boxes_of(root / "cars") == cub_boxes(root / "cub", boxes, names)
