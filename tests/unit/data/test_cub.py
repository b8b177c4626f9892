import os
import warnings
from itertools import islice
from pathlib import Path

import pytest
from conftest import MakeCub, encoded

from mixnmatch.data.batches import TrainingSet
from mixnmatch.data.cub import read_cub, read_index
from mixnmatch.data.records import Box, Reject
from mixnmatch.data.store import open_dataset, write_dataset
from mixnmatch.errors import DataError

REAL = Path(
    os.environ.get("MIXNMATCH_TEST_DATA", Path(__file__).parents[4] / "shared" / "data")
).resolve()
needs_real = pytest.mark.skipif(
    not REAL.is_dir(), reason=f"no real photographs at {REAL} (set MIXNMATCH_TEST_DATA)"
)


def test_files_are_joined_by_id(make_cub: MakeCub) -> None:
    root = make_cub()
    first, second, third = read_cub(root)
    assert [first.id, second.id, third.id] == [3, 7, 20]
    assert first.image == (root / "images/one/a.jpg").read_bytes()
    assert first.box == Box(1.5, 2, 30, 20)
    assert (first.label, first.class_name, first.split) == (0, "009.One", "train")
    assert second.box == Box(20, 10, 20, 10), "past the edge: clipped"
    assert second.split == "test"
    assert (third.label, third.class_name) == (1, "014.Two")
    assert (third.width, third.height) == (60, 30)


def test_labels_classes_and_split_are_optional(make_cub: MakeCub) -> None:
    root = make_cub()
    for name in ("image_class_labels", "classes", "train_test_split"):
        (root / f"{name}.txt").unlink()
    assert {(r.label, r.class_name, r.split) for r in read_cub(root)} == {(None, None, "train")}


@pytest.mark.parametrize("name", ["images.txt", "bounding_boxes.txt", "images/one/b.jpg"])
def test_missing_files_are_named(make_cub: MakeCub, name: str) -> None:
    root = make_cub()
    (root / name).unlink()
    with pytest.raises(DataError, match=name):
        list(read_cub(root))


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such folder"):
        read_cub(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("images.txt", "3 one/a.jpg\n3 one/b.jpg\n", r"images\.txt:2: id 3 is there twice"),
        ("images.txt", "three one/a.jpg\n", r"images\.txt:1: .* not an id and a value"),
        ("images.txt", b"3 \xff\xfe.jpg\n", r"images\.txt: not UTF-8"),
        ("images.txt", "3 ../../etc/passwd\n", r"must stay inside"),
        ("images.txt", "4 one/a.jpg\n", r"no box for its id 4"),
        ("images.txt", "3 one\n", r"picture 3 is missing"),
        ("bounding_boxes.txt", "3 1 2 3\n7 1 2 3 4\n20 1 2 3 4\n", r"not four numbers"),
        ("bounding_boxes.txt", "3 1 2 0 4\n7 1 2 3 4\n20 1 2 3 4\n", r"a\.jpg: box \(1, 2, 0, 4\)"),
        ("bounding_boxes.txt", "3 90 2 5 4\n7 1 2 3 4\n20 1 2 3 4\n", r"outside its 40x30"),
        ("image_class_labels.txt", "3 bird\n", r"image_class_labels\.txt: .*whole numbers"),
        ("images/one/a.jpg", encoded()[:300], r"a\.jpg: corrupt or truncated"),
        ("images/one/a.jpg", b"", r"a\.jpg: not a picture"),
    ],
)
def test_bad_content_is_named(
    make_cub: MakeCub, file: str, content: str | bytes, message: str
) -> None:
    root = make_cub()
    (root / file).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError, match=message) as caught:
        list(read_cub(root))
    assert "\n" not in str(caught.value)


def test_bad_pictures_can_be_left_out_and_collected(make_cub: MakeCub, tmp_path: Path) -> None:
    root = make_cub()
    (root / "images/one/a.jpg").write_bytes(b"no picture")
    (root / "images/two/c.jpg").unlink()
    rejects: list[Reject] = []
    info = write_dataset(
        read_cub(root, rejects.append), tmp_path / "out", kind="cub", rejects=rejects
    )
    assert info.count == 1
    assert [reject.source for reject in info.rejects] == ["one/a.jpg", "two/c.jpg"]
    assert open_dataset(tmp_path / "out").info == info


@needs_real
def test_original_photographs(tmp_path: Path) -> None:
    """Ids have gaps, two pictures are greyscale, three boxes go past the edge."""
    out = tmp_path / "birds"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        info = write_dataset(islice(read_cub(REAL / "cub10_original"), 100), out, kind="cub")
    assert (info.count, info.labels) == (100, 10)
    dataset = open_dataset(out)
    raw = read_index(REAL / "cub10_original").boxes
    clipped = {r.id for r in dataset if tuple(r.box) != tuple(map(float, raw[r.id].split()))}
    assert {960, 999, 1218} <= clipped
    batches = TrainingSet(dataset, 32, "train").batches(4, seed=0)
    assert next(batches).image.shape == (4, 3, 32, 32)
    batches.close()


@needs_real
def test_small_photographs_have_their_classes() -> None:
    index = read_index(REAL / "cub40_200px")
    assert (len(index.paths), len(index.class_names)) == (2290, 40)
    records = list(islice(read_cub(index), 50))
    assert {record.label for record in records} == {0}
    assert {record.split for record in records} == {"train", "test"}
