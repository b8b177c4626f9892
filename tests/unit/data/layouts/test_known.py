"""Every layout as its makers publish it, recognised and read without being named."""

import importlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from mixnmatch.data.info import Kind
from mixnmatch.data.layouts.known import LAYOUTS, list_files, read_source
from mixnmatch.data.layouts.listing import LayoutOptions
from mixnmatch.data.places import Place
from mixnmatch.data.plan import Plan, read_entry
from mixnmatch.data.records import Box, Record
from mixnmatch.errors import DataError

REAL = Path(
    os.environ.get("MIXNMATCH_TEST_DATA", Path(__file__).parents[5] / "shared" / "data")
).resolve()
needs_real = pytest.mark.skipif(
    not REAL.is_dir(), reason=f"no real photographs at {REAL} (set MIXNMATCH_TEST_DATA)"
)
BOX = Box(20, 10, 60, 50)
"""Of the object of each tree below, in a picture of 100x80 pixels."""


def put(root: Path, path: str, content: str | bytes) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)


def picture(root: Path, path: str) -> None:
    buffer = io.BytesIO()
    form = {".png": "PNG", ".jpg": "JPEG"}[Path(path).suffix]
    Image.linear_gradient("L").resize((100, 80)).convert("RGB").save(buffer, form)
    put(root, path, buffer.getvalue())


def voc_xml(folder: str, name: str, size: str, kind: str) -> str:
    """The first pixel is number 1, and the last is inside."""
    return (
        f"<annotation><folder>{folder}</folder><filename>{name}</filename>"
        f"<size>{size}<depth>3</depth></size><segmented>0</segmented><object><name>{kind}</name>"
        "<pose>Left</pose><truncated>0</truncated><difficult>0</difficult><bndbox>"
        "<xmin>21</xmin><ymin>11</ymin><xmax>80</xmax><ymax>60</ymax></bndbox></object>"
        "</annotation>"
    )


def cub(root: Path) -> None:
    picture(root, "images/001.Tern/Tern_0001.jpg")
    put(root, "images.txt", "1 001.Tern/Tern_0001.jpg\n")
    put(root, "bounding_boxes.txt", "1 20.0 10.0 60.0 50.0\n")
    put(root, "image_class_labels.txt", "1 1\n")
    put(root, "classes.txt", "1 001.Tern\n")
    put(root, "train_test_split.txt", "1 1\n")
    put(root, "parts/parts.txt", "1 back\n2 beak\n")
    put(root, "parts/part_locs.txt", "1 1 30.0 20.0 1\n1 2 0.0 0.0 0\n")
    put(root, "README", "")


def dogs(root: Path) -> None:
    picture(root, "Images/n02085620-Chihuahua/n02085620_7.jpg")
    size = "<width>100</width><height>80</height>"
    xml = voc_xml("02085620", "n02085620_7", size, "Chihuahua")
    put(root, "Annotation/n02085620-Chihuahua/n02085620_7", xml)


def cars(root: Path) -> None:
    picture(root, "cars_train/00001.jpg")
    fields = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")
    rows = np.zeros((1, 1), dtype=[(name, object) for name in fields])
    rows[0, 0] = (21, 11, 80, 60, 1, "00001.jpg")
    names = np.empty((1, 1), dtype=object)
    names[0, 0] = "AM General Hummer SUV 2000"
    (root / "devkit").mkdir()
    savemat(root / "devkit" / "cars_train_annos.mat", {"annotations": rows})
    savemat(root / "devkit" / "cars_meta.mat", {"class_names": names})


def voc(root: Path) -> None:
    picture(root, "VOC2007/JPEGImages/000005.jpg")
    size = "<width>100</width><height>80</height>"
    put(root, "VOC2007/Annotations/000005.xml", voc_xml("VOC2007", "000005.jpg", size, "chair"))
    put(root, "VOC2007/ImageSets/Main/trainval.txt", "000005\n")


def coco(root: Path) -> None:
    picture(root, "train2017/000000000009.jpg")
    index = {
        "info": {"year": 2017},
        "images": [{"id": 9, "file_name": "000000000009.jpg", "width": 100, "height": 80}],
        "annotations": [
            {"id": 1, "image_id": 9, "category_id": 3, "bbox": [20, 10, 60, 50], "iscrowd": 0}
        ],
        "categories": [{"id": 3, "name": "car", "supercategory": "vehicle"}],
    }
    put(root, "annotations/instances_train2017.json", json.dumps(index))


def yolo(root: Path) -> None:
    picture(root, "images/train/a.jpg")
    put(root, "labels/train/a.txt", "0 0.5 0.4375 0.6 0.625\n")
    put(root, "data.yaml", "path: .\ntrain: images/train\nval: images/val\nnames:\n  0: cat\n")


def table(root: Path) -> None:
    picture(root, "pictures/a.png")
    put(root, "boxes.csv", "image,x,y,width,height,class\npictures/a.png,20,10,60,50,cat\n")


def folder(root: Path) -> None:
    picture(root, "cats/a.png")
    put(root, "README.txt", "cats")


TREES: dict[Kind, Callable[[Path], None]] = {
    "cub": cub,
    "dogs": dogs,
    "cars": cars,
    "voc": voc,
    "coco": coco,
    "yolo": yolo,
    "csv": table,
    "folder": folder,
}


def auto(root: Path) -> Plan:
    place = Place(root)
    files = list_files(place)
    listing = read_source(place, "auto", LayoutOptions(), files)
    return Plan(place=place, listing=listing, files=files)


def test_every_layout_has_a_tree() -> None:
    assert list(TREES) == list(LAYOUTS)


@pytest.mark.parametrize("kind", TREES)
def test_each_layout_is_recognised_and_gives_the_same_box(kind: Kind, tmp_path: Path) -> None:
    TREES[kind](tmp_path)
    plan = auto(tmp_path)
    assert plan.listing.kind == kind
    assert plan.listing.saw
    (entry,) = plan.listing.entries
    (record,) = read_entry(plan, 0)
    assert isinstance(record, Record), record
    expected = Box(5, 4, 90, 72) if kind == "folder" else BOX
    assert record.box == pytest.approx(expected, abs=1e-9)
    assert (record.class_name, record.label) == (entry.objects[0].class_name, 0)
    assert record.split == "train"


@pytest.mark.parametrize("kind", TREES)
def test_no_layout_takes_the_tree_of_another(kind: Kind, tmp_path: Path) -> None:
    TREES[kind](tmp_path)
    place = Place(tmp_path)
    seen = {
        name
        for name in LAYOUTS
        if importlib.import_module(f"mixnmatch.data.layouts.{name}").recognise(
            place, list_files(place)
        )
    }
    assert seen - {"folder"} == {kind} - {"folder"}


def test_two_layouts_in_one_folder_are_named(tmp_path: Path) -> None:
    voc(tmp_path)
    coco(tmp_path)
    with pytest.raises(DataError, match=r"VOC.*COCO.*--format.*\(voc, coco\)$"):
        auto(tmp_path)
    named = read_source(Place(tmp_path), "coco", LayoutOptions())
    assert named.kind == "coco"


def test_stanford_dogs_go_before_voc(tmp_path: Path) -> None:
    dogs(tmp_path)
    put(tmp_path, "n02085620_7.xml", voc_xml("x", "n02085620_7.jpg", "", "Chihuahua"))
    assert auto(tmp_path).listing.kind == "dogs"


@pytest.mark.parametrize("stranger", ["boxes.csv", "deep/index.JSON", "a.xml", "x.mat"])
def test_pictures_beside_what_may_hold_boxes_are_not_taken_to_have_none(
    tmp_path: Path, stranger: str
) -> None:
    folder(tmp_path)
    put(tmp_path, stranger, "file,left\n")
    message = rf"plain folder: 1 pictures, and files .*boxes: {re.escape(stranger)}; --format"
    with pytest.raises(DataError, match=message):
        auto(tmp_path)
    assert read_source(Place(tmp_path), "folder", LayoutOptions()).kind == "folder"


def test_declared_columns_mean_a_table(tmp_path: Path) -> None:
    voc(tmp_path)
    put(tmp_path, "a.csv", "file,x,y,width,height\n000005.jpg,1,2,3,4\n")
    options = LayoutOptions(columns=(("image", "file"),))
    assert read_source(Place(tmp_path), "auto", options).kind == "csv"


def test_nothing_to_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such folder"):
        auto(tmp_path / "nowhere")
    with pytest.raises(DataError, match="an empty folder"):
        auto(tmp_path)
    put(tmp_path, "notes.txt", "hello")
    with pytest.raises(DataError, match=r"no layout .* among 1 files, such as notes\.txt"):
        auto(tmp_path)


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_say_which_options_they_use(name: str) -> None:
    """Options that are read in a module, or passed on as a whole, are those of ``LAYOUTS``."""
    module = importlib.import_module(f"mixnmatch.data.layouts.{name}")
    assert module.__file__ is not None
    text = Path(module.__file__).read_text()
    read = set(re.findall(r"options\.(\w+)", text))
    assert read <= set(LAYOUTS[name])
    if "options)" not in text.replace("options: LayoutOptions)", ""):
        assert read == set(LAYOUTS[name])
    assert set(LAYOUTS[name]) <= set(LayoutOptions.__dataclass_fields__)


def test_names_are_known_without_pyarrow() -> None:
    script = (
        "import sys; import mixnmatch.data.layouts.known; "
        "print({'torch', 'pyarrow', 'numpy', 'PIL', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


@needs_real
@pytest.mark.parametrize(
    ("name", "kind", "pictures", "objects", "classes", "parts"),
    [
        ("cub10_original", "cub", 100, 100, 10, 15),
        ("cub40_200px", "cub", 2290, 2290, 40, 15),
        ("cub_meta_full", "cub", 11788, 11788, 200, 15),
        ("raccoon_voc", "voc", 60, 64, 1, 0),
    ],
)
def test_real_sets(
    name: str, kind: str, pictures: int, objects: int, classes: int, parts: int
) -> None:
    listing = auto(REAL / name).listing
    assert listing.kind == kind
    assert len(listing.entries) == pictures
    assert sum(len(entry.objects) for entry in listing.entries) == objects
    assert (len(listing.class_names), len(listing.part_names)) == (classes, parts)


def test_a_layout_one_folder_down_is_not_taken_for_pictures_without_boxes(tmp_path: Path) -> None:
    cub = tmp_path / "CUB_200_2011"
    (cub / "images").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(cub / "images" / "a.png")
    (cub / "images.txt").write_text("1 a.png\n")
    (cub / "bounding_boxes.txt").write_text("1 1 1 4 4\n")
    with pytest.raises(DataError, match=r"may hold boxes: CUB_200_2011/bounding_boxes\.txt"):
        read_source(Place(tmp_path), "auto", LayoutOptions())
    assert read_source(Place(cub), "auto", LayoutOptions()).kind == "cub"


@pytest.mark.parametrize("written", [".", "./", "/"])
@pytest.mark.parametrize("kind", sorted(TREES.keys() - {"cub"}))
def test_pictures_may_be_anywhere_in_the_source(kind: Kind, written: str, tmp_path: Path) -> None:
    TREES[kind](tmp_path)
    place = Place(tmp_path)
    listing = read_source(place, kind, LayoutOptions(image_folder=written))
    assert listing == read_source(place, kind, LayoutOptions())
    assert all(entry.path in place.files() for entry in listing.entries)


def test_of_cub_they_may_be_beside_its_lists(tmp_path: Path) -> None:
    cub(tmp_path)
    (tmp_path / "images/001.Tern").rename(tmp_path / "001.Tern")
    listing = read_source(Place(tmp_path), "cub", LayoutOptions(image_folder="./"))
    assert [entry.path for entry in listing.entries] == ["001.Tern/Tern_0001.jpg"]
