import json
import re
from pathlib import Path
from typing import Any

import pytest
from annotated import listing_of, rows, write
from hypothesis import given
from hypothesis import strategies as st
from made_data import encoded, plan_of

from mixnmatch.data.layouts import coco
from mixnmatch.data.layouts.listing import Entry, LayoutOptions
from mixnmatch.data.places import FileMark, Place
from mixnmatch.data.records import Box, Part, Record, Reject
from mixnmatch.errors import DataError

PICTURE = encoded(40, 30)
ONE = "instances_train2017.json"
CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]


def image(key: object = 1, file_name: object = "a.jpg", **more: object) -> dict[str, object]:
    return {"id": key, "file_name": file_name, "width": 40, "height": 30} | more


def annotation(image_id: object = 1, **more: object) -> dict[str, object]:
    """A cat."""
    return {"id": 5, "image_id": image_id, "category_id": 3, "bbox": [1.5, 2, 30, 20]} | more


def table(
    images: object = None, annotations: object = None, categories: object = None
) -> dict[str, Any]:
    return {
        "info": {"images": 1},
        "images": [image()] if images is None else images,
        "annotations": [annotation()] if annotations is None else annotations,
        "categories": CATEGORIES if categories is None else categories,
    }


def coco_at(root: Path, name: str = "a.json", *, picture: str = "a.jpg", **lists: object) -> Path:
    return write(root, **{name: json.dumps(table(**lists)), picture: PICTURE})


def only(root: Path, **options: Any) -> Entry:
    (entry,) = listing_of(root, "coco", **options).entries
    return entry


def test_lists_are_joined_by_id(tmp_path: Path) -> None:
    images = [image(30, "b.jpg"), image(4, "a.jpg"), image(9, "c.jpg")]
    annotations = [
        annotation(4, bbox=[20, 10, 30, 10.5]),
        annotation(30, category_id=7, segmentation=[[1, 2, 3, 4, 5, 6]]),
        annotation(4, iscrowd=0),
        annotation(4, iscrowd=1, segmentation={"counts": [3], "size": [1, 3]}),
    ]
    coco_at(tmp_path, images=images, annotations=annotations)
    write(tmp_path, **{"b.jpg": PICTURE, "c.jpg": PICTURE})
    listing = listing_of(tmp_path)
    assert (listing.kind, listing.class_names) == ("coco", ("cat", "dog"))
    assert listing.saw == "COCO: 3 pictures in a.json"
    assert [entry.path for entry in listing.entries] == ["b.jpg", "a.jpg", "c.jpg"]
    assert [entry.id for entry in listing.entries] == [30, 4, 9]
    assert {entry.size for entry in listing.entries} == {(40, 30)}
    assert listing.notes == (
        "1 crowds (iscrowd) are left out",
        "1 masks (segmentation, RLE) are not read",
        "1 outlines (segmentation) are not read",
    )
    b, first, second, c = rows(tmp_path)
    assert isinstance(b, Record)
    assert (b.class_name, b.label, b.box) == ("dog", 1, Box(1.5, 2, 30, 20))
    assert isinstance(first, Record)
    assert first.box == Box(20, 10, 20, 10.5), "cut at the edge"
    assert isinstance(second, Record)
    assert second.remarks == ("number 2 of 2 objects",)
    assert isinstance(c, Reject)
    assert c.reason.endswith("c.jpg: no object is annotated")


@pytest.mark.parametrize(
    ("index", "picture", "file_name"),
    [
        ("annotations/instances_train2017.json", "train2017/a.jpg", "a.jpg"),
        ("annotations/instances_train2017.json", "images/train2017/a.jpg", "a.jpg"),
        ("annotations/instances_train.json", "images/a.jpg", "a.jpg"),
        ("annotations/train.json", "train/images/a.jpg", "a.jpg"),
        ("train/_annotations.coco.json", "train/a.jpg", "a.jpg"),
        ("train.json", "pictures/deep/a.jpg", "a.jpg"),
        ("train.json", "pictures/deep/a.jpg", "deep/a.jpg"),
        ("train.json", "pictures/a.jpg", "/home/someone/set/pictures/a.jpg"),
        ("train.json", "pictures/a.jpg", "C:\\set\\pictures\\a.jpg"),
        ("train.json", "pictures/a.jpg", "../pictures/./a.jpg"),
        ("result.json", "train/a.jpg", "train\\a.jpg"),
    ],
)
def test_pictures_are_found_and_their_splits(
    tmp_path: Path, index: str, picture: str, file_name: str
) -> None:
    coco_at(tmp_path, index, picture=picture, images=[image(file_name=file_name)])
    entry = only(tmp_path)
    assert (entry.path, entry.split, entry.problem) == (picture, "train", None)


def test_the_folder_of_the_split_goes_before_others(tmp_path: Path) -> None:
    for split in ("train", "val"):
        coco_at(tmp_path, f"annotations/instances_{split}2017.json", picture=f"{split}2017/a.jpg")
    listing = listing_of(tmp_path)
    assert [(entry.path, entry.split) for entry in listing.entries] == [
        ("train2017/a.jpg", "train"),
        ("val2017/a.jpg", "test"),
    ]
    assert {entry.id for entry in listing.entries} == {None}, "both files have an id 1"
    assert listing.saw.endswith(
        "in annotations/instances_train2017.json, annotations/instances_val2017.json"
    )
    assert [row.id for row in rows(tmp_path) if isinstance(row, Record)] == [0, 1]


@pytest.mark.parametrize(("folder", "problem"), [("there", None), ("here", "in here")])
def test_pictures_may_be_elsewhere(tmp_path: Path, folder: str, problem: str | None) -> None:
    coco_at(tmp_path, picture="there/a.jpg")
    entry = only(tmp_path, image_folder=folder)
    assert (problem or "") in (entry.problem or "")
    assert bool(entry.problem) == bool(problem)


def test_ambiguous_and_missing_pictures_are_named(tmp_path: Path) -> None:
    coco_at(tmp_path, picture="one/x.jpg", images=[image(1, "x.jpg"), image(2, "one/y.jpg")])
    write(tmp_path, **{"two/x.jpg": PICTURE, "two/y.jpg": PICTURE})
    first, second = listing_of(tmp_path).entries
    assert first.problem == "a.json: images[0]: may be any of one/x.jpg, two/x.jpg"
    assert second.problem == "a.json: images[1]: no such file below the source"
    assert second.path == "one/y.jpg", "a name with folders is not that of another folder"


def test_a_picture_is_listed_once(tmp_path: Path) -> None:
    coco_at(tmp_path, images=[image(1), image(2, "./a.jpg")])
    coco_at(tmp_path, "b.json")
    entries = listing_of(tmp_path).entries
    assert [entry.problem for entry in entries] == [
        None,
        "a.json: images[1]: the picture is listed before, by a.json: images[0]",
        "b.json: images[0]: the picture is listed before, by a.json: images[0]",
    ]


def test_of_cocos_own_folder_the_objects_are_read(tmp_path: Path) -> None:
    write(
        tmp_path,
        **{
            "annotations/captions_train2017.json": json.dumps(
                table(annotations=[{"image_id": 1, "caption": "a bbox"}])
            ),
            "annotations/image_info_test2017.json": json.dumps(
                {"images": [image()], "categories": CATEGORIES}
            ),
            "annotations/panoptic_train2017.json": json.dumps(
                table(annotations=[{"image_id": 1, "segments_info": [{"bbox": [1, 2, 3, 4]}]}])
            ),
            "annotations/person_keypoints_train2017.json": json.dumps(table()),
        },
    )
    coco_at(tmp_path, f"annotations/{ONE}", picture="train2017/a.jpg")
    listing = listing_of(tmp_path)
    assert [entry.problem for entry in listing.entries] == [None]
    assert listing.notes == (
        "annotations/person_keypoints_train2017.json: not read, because "
        f"annotations/{ONE} has the same pictures",
    )


def test_keypoints_that_can_be_seen_are_parts(tmp_path: Path) -> None:
    categories = [
        {"id": 3, "name": "cat", "keypoints": ["nose", "tail", "ear"], "skeleton": [[1, 2]]},
        {"id": 7, "name": "dog", "keypoints": ["ear", "paw"]},
    ]
    annotations = [
        annotation(keypoints=[1, 2, 2, 5, 6, 1, 0, 0, 0]),
        annotation(category_id=7, keypoints=[3.5, 4, 2, 29.5, 8.25, 2.0]),
    ]
    coco_at(tmp_path, annotations=annotations, categories=categories)
    listing = listing_of(tmp_path)
    assert listing.part_names == ("nose", "tail", "ear", "paw")
    assert [item.parts for item in listing.entries[0].objects] == [
        (Part(0, 1, 2),),
        (Part(2, 3.5, 4), Part(3, 29.5, 8.25)),
    ]
    assert listing.notes == ("keypoints that are labelled but hidden (v = 1) are left out",)
    coco_at(tmp_path, annotations=annotations)
    assert listing_of(tmp_path).notes == (
        "2 objects have keypoints that no category names: not read",
    )


@pytest.mark.parametrize(
    "lists",
    [
        {"images": [image("front/0001")], "annotations": [annotation("front/0001")]},
        {"images": [image(2**63)], "annotations": [annotation(2**63)]},
        {"images": [image(-1)], "annotations": [annotation(-1)]},
    ],
)
def test_ids_that_cannot_be_stored_still_join(tmp_path: Path, lists: dict[str, Any]) -> None:
    coco_at(tmp_path, **lists)
    entry = only(tmp_path)
    assert (entry.id, entry.problem, len(entry.objects)) == (None, None, 1)


def test_classes_and_sizes_are_optional(tmp_path: Path) -> None:
    lists = table([{"id": 1, "file_name": "a.jpg"}], [{"image_id": 1, "bbox": [1, 2, 3, 4]}])
    del lists["categories"]
    write(tmp_path, **{"a.json": "\ufeff" + json.dumps(lists), "a.jpg": PICTURE})
    (row,) = rows(tmp_path)
    assert isinstance(row, Record)
    assert (row.class_name, row.label, row.box) == (None, None, Box(1, 2, 3, 4))


def test_categories_of_one_name_are_one_class(tmp_path: Path) -> None:
    categories = [{"id": 0, "name": "cat", "supercategory": "none"}, {"id": 3, "name": "cat"}]
    coco_at(tmp_path, categories=categories)
    listing = listing_of(tmp_path)
    assert listing.class_names == ("cat",)
    assert listing.notes == ("a.json: categories of the same name are one class",)
    assert plan_of(tmp_path).labels == {"cat": 0}


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("lists", "problem"),
    [
        ({"annotations": [annotation(bbox=["1", "2", "3", "4"])]}, "bbox .*'1'.* not four numbers"),
        ({"annotations": [annotation(bbox="1 2 3 4")]}, "bbox '1 2 3 4' is not four numbers"),
        ({"annotations": [annotation(bbox=[1, 2, 3])]}, "not four numbers: x, y, width, height"),
        ({"annotations": [annotation(bbox=[])]}, r"bbox \[\] is not four"),
        ({"annotations": [annotation(bbox=[1, 2, 3, True])]}, "not four numbers"),
        ({"annotations": [annotation(bbox=[1, 2, 3, NAN])]}, r"bbox \[1, 2, 3, nan\] is not four"),
        ({"annotations": [annotation(bbox=[1, 2, 3, INF])]}, "inf.* is not four"),
        ({"annotations": [annotation(bbox=[1, 2, 3, 10**400])]}, "not four numbers"),
        ({"annotations": [{"image_id": 1, "category_id": 3}]}, "bbox None is not four"),
        ({"annotations": [annotation(category_id=99)]}, "category_id 99 is not among"),
        ({"annotations": [annotation(category_id="3")]}, "category_id '3' is not among"),
        ({"annotations": [annotation(category_id=[])]}, r"category_id \[\] is not among"),
        ({"annotations": [annotation(iscrowd="no")]}, "iscrowd 'no' is neither 0 nor 1"),
        ({"images": [image(width="40")]}, r"images\[0\]: width '40' and height 30 are not whole"),
        ({"images": [image(height=0)]}, "height 0 are not whole numbers above 0"),
        ({"images": [image(height=None)]}, "height None are not whole"),
        ({"images": [image(width=NAN)]}, "width nan"),
        ({"images": [image(file_name=3)]}, r"images\[0\]: file_name 3 is not the name of a file"),
        ({"images": [image(file_name="")]}, "file_name '' is not the name of a file"),
        ({"images": [image(file_name="\ud800")]}, r"file_name '\\ud800' is not the name"),
        ({"images": [image(file_name="../a/..")]}, "no such file below the source"),
        ({"images": [image(file_name="/")]}, "no such file below the source"),
        ({"images": [image(None)], "annotations": []}, r"images\[0\]: id None is no whole number"),
        ({"images": [image(1.5)], "annotations": []}, "id 1.5 is no whole number and no word"),
        ({"images": ["a.jpg"], "annotations": []}, r"images\[0\]: 'a.jpg' is no whole"),
    ],
)
def test_damage_in_a_picture_is_its_own(
    tmp_path: Path, lists: dict[str, Any], problem: str
) -> None:
    coco_at(tmp_path, **lists)
    (row,) = rows(tmp_path, "coco")
    assert isinstance(row, Reject)
    assert re.search(problem, row.reason), row.reason
    assert row.reason.count("a.json: ") == 1, "the file is named once"
    assert "\n" not in row.reason


@pytest.mark.parametrize("stray", [annotation(99), annotation(None), annotation([1]), 3, None])
def test_annotations_of_no_picture_are_counted(tmp_path: Path, stray: object) -> None:
    coco_at(tmp_path, annotations=[annotation(), stray, stray])
    reject, row = rows(tmp_path)
    assert isinstance(row, Record)
    assert isinstance(reject, Reject)
    assert "a.json: annotations[1]: " in reject.reason
    assert reject.reason.endswith(" is no picture of images, and 1 more such")


def test_keypoints_of_the_wrong_form_are_damage(tmp_path: Path) -> None:
    categories = [{"id": 3, "name": "cat", "keypoints": ["nose"]}]
    for keypoints, problem in (
        ([1, 2], "are not 3 numbers: x, y and v of each of the 1 of 'cat'"),
        ("nose", "keypoints 'nose' are not 3 numbers"),
        ([1, NAN, 2], "are not 3 numbers"),
        ([1, 2, 3], "keypoint 'nose': v 3 is none of 0, 1 and 2"),
    ):
        coco_at(tmp_path, annotations=[annotation(keypoints=keypoints)], categories=categories)
        assert problem in (only(tmp_path).problem or "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"a\.json: not JSON \(Expecting value"),
        (json.dumps(table())[:-9], r"a\.json: not JSON \(.*line 1 column"),
        ("[" * 100_000, r"a\.json: nested too deeply"),
        ('{"images": ' * 100_000, r"a\.json: nested too deeply"),
        ('{"images": [' + 5000 * "1" + "]}", r"a\.json: not JSON \(Exceeds the limit"),
        (b'{"images": "\xff"}', r"a\.json: not JSON \('utf-8' codec"),
        ("[]", r"a\.json: \[\] is not an object with images and annotations"),
        ("3", r"a\.json: 3 is not an object"),
        ("{}", r"a\.json: images None must be a list"),
        (json.dumps(table(images={})), r"a\.json: images \{\} must be a list"),
        (json.dumps({"images": []}), r"a\.json: annotations None must be a list"),
        (json.dumps(table(categories="cat")), r"a\.json: categories 'cat' must be a list"),
        (json.dumps(table([image(), image()])), r"a\.json: images\[1\]: id 1 is there twice"),
        (json.dumps(table(categories=["cat"])), r"categories\[0\]: 'cat' is not an object"),
        (json.dumps(table(categories=[{"id": "3"}])), r"categories\[0\]: id '3' is not a whole"),
        (json.dumps(table(categories=2 * [CATEGORIES[0]])), r"categories\[1\]: id 7 is .* twice"),
        (json.dumps(table(categories=[{"id": 3}])), r"categories\[0\]: name None is not a word"),
        (json.dumps(table(categories=[{"id": 3, "name": "\ud800"}])), r"name '\\ud800' is not a"),
        (
            json.dumps(table(categories=[{"id": 3, "name": "cat", "keypoints": 3}])),
            r"keypoints 3 are not a list of names",
        ),
        (
            json.dumps(table(categories=[{"id": 3, "name": "cat", "keypoints": ["a", "a"]}])),
            r"keypoints \['a', 'a'\] have a name twice",
        ),
        (json.dumps(table([], [])), r"COCO: 0 pictures in a\.json"),
    ],
)
def test_damage_of_the_index_is_an_error(tmp_path: Path, text: str | bytes, message: str) -> None:
    write(tmp_path, **{"a.json": text, "a.jpg": PICTURE})
    with pytest.raises(DataError, match=message) as caught:
        listing_of(tmp_path, "coco")
    assert "\n" not in str(caught.value)


def test_too_large_a_file_is_refused_unread(tmp_path: Path) -> None:
    coco_at(tmp_path)
    files = dict(Place(tmp_path).files()) | {"a.json": FileMark(coco.MOST_BYTES + 1, 0)}
    with pytest.raises(DataError, match=r"a\.json: 2147483649 bytes: at most 2147483648"):
        coco.read_listing(Place(tmp_path), files, LayoutOptions())


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "",
        json.dumps({"shapes": [], "imagePath": "a.jpg", "annotations": [{"bbox": 1}]}),
        json.dumps([table()]),
        json.dumps({"images": ["a.jpg"], "bbox": []}),
    ],
)
def test_other_json_is_not_recognised(tmp_path: Path, content: str) -> None:
    place = Place(write(tmp_path, **{"a.json": content, "a.jpg": PICTURE}))
    assert coco.recognise(place, dict(place.files())) is None


def test_lists_are_recognised_at_both_ends_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coco, "_SAMPLE_BYTES", 300)
    coco_at(tmp_path, images=[image(key) for key in range(1000)])
    place = Place(tmp_path)
    assert coco.recognise(place, dict(place.files())) == "COCO: a.json"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["id", "name", "bbox", "image_id"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(data=st.data())
def test_values_of_any_type_are_told(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    lists = table([image()], [annotation(keypoints=[1, 2, 2])])
    lists["categories"] = [{"id": 3, "name": "cat", "keypoints": ["nose"]}]
    item = data.draw(st.sampled_from([lists, *(lists[key][0] for key in list(lists)[1:])]))
    item[data.draw(st.sampled_from(sorted(item)))] = data.draw(JSON)
    root = tmp_path_factory.mktemp("coco")
    write(root, **{"a.json": json.dumps(lists), "a.jpg": PICTURE})
    try:
        lines = [row.reason for row in rows(root, "coco") if isinstance(row, Reject)]
    except DataError as error:
        lines = [str(error)]
    assert not any("\n" in line for line in lines)
