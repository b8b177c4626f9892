import gzip
import os
import warnings
from pathlib import Path

import pytest
from made_data import MakeCub, encoded, plan_of, read_cub

from mixnmatch.data.batches import TrainingSet
from mixnmatch.data.ingest import ingest
from mixnmatch.data.places import Place
from mixnmatch.data.records import Box, Part
from mixnmatch.data.store import open_dataset
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
    assert first.source == "images/one/a.jpg"
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
    records = read_cub(root)
    assert {(r.label, r.class_name, r.split, r.parts) for r in records} == {
        (None, None, "train", ())
    }


@pytest.mark.parametrize("name", ["images.txt", "bounding_boxes.txt", "images/one/b.jpg"])
def test_missing_files_are_named(make_cub: MakeCub, name: str) -> None:
    root = make_cub()
    (root / name).unlink()
    with pytest.raises(DataError, match=name):
        read_cub(root)


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
        ("images.txt", "3 one\n", r"images/one: no such file"),
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
        read_cub(root)
    assert "\n" not in str(caught.value)


def test_parts_that_can_be_seen(make_cub: MakeCub) -> None:
    root = make_cub()
    (root / "parts").mkdir()
    (root / "parts/parts.txt").write_text("2 back\n5 left wing\n")
    locations = "3 2 1.5 2.0 1\n3 5 0.0 0.0 0\n7 5 3 4 1.0\n"
    (root / "parts/part_locs.txt").write_text(locations)
    first, second, third = read_cub(root)
    assert (first.parts, second.parts, third.parts) == ((Part(0, 1.5, 2),), (Part(1, 3, 4),), ())
    assert plan_of(root).listing.part_names == ("back", "left wing")
    for wrong in ("3 9 1 2 1", "3 2 1 2", "x 2 1 2 1", "3 2 1 two 1"):
        (root / "parts/part_locs.txt").write_text(f"{locations}{wrong}\n")
        with pytest.raises(DataError, match=rf"part_locs\.txt:4: '{wrong}' is not a picture"):
            read_cub(root)


def test_zipped_tables_are_the_same(make_cub: MakeCub) -> None:
    root = make_cub()
    plain = read_cub(root)
    for name in ("images.txt", "bounding_boxes.txt", "classes.txt"):
        (root / f"{name}.gz").write_bytes(gzip.compress((root / name).read_bytes()))
        (root / name).unlink()
    assert read_cub(root) == plain
    for damaged in (gzip.compress(b"3 one/a.jpg\n")[:-9], b"3 one/a.jpg\n", b"\x1f\x8b"):
        (root / "images.txt.gz").write_bytes(damaged)
        with pytest.raises(DataError, match=r"images\.txt\.gz: damaged gzip file"):
            read_cub(root)


def test_bad_pictures_are_left_out_and_named(make_cub: MakeCub, tmp_path: Path) -> None:
    root = make_cub()
    (root / "images/one/a.jpg").write_bytes(b"no picture")
    (root / "images/two/c.jpg").unlink()
    info = ingest(plan_of(root), Place(tmp_path / "out"))
    assert (info.kind, info.count) == ("cub", 1)
    assert [reject.source for reject in info.rejects] == ["images/one/a.jpg", "images/two/c.jpg"]
    assert "not a picture that can be read (10 bytes)" in info.rejects[0].reason
    assert open_dataset(tmp_path / "out").info == info


@needs_real
def test_original_photographs(tmp_path: Path) -> None:
    """Ids have gaps, two pictures are greyscale, three boxes go past the edge."""
    out = tmp_path / "birds"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        info = ingest(plan_of(REAL / "cub10_original"), Place(out))
    assert (info.count, info.labels, len(info.parts), info.rejects) == (100, 10, 15, ())
    dataset = open_dataset(out)
    remarks = {row.id: " ".join(row.remarks) for row in dataset if row.remarks}
    cut = {key for key, text in remarks.items() if "box cut" in text}
    grey = {key for key, text in remarks.items() if "greyscale (mode L)" in text}
    assert ({960, 999, 1218} <= cut, len(grey)) == (True, 2)
    batches = TrainingSet(dataset, 32, "train").batches(4, seed=0)
    assert next(batches).image.shape == (4, 3, 32, 32)
    batches.close()


@needs_real
def test_small_photographs_have_their_classes() -> None:
    plan = plan_of(REAL / "cub40_200px")
    assert (len(plan.listing.entries), len(plan.listing.class_names)) == (2290, 40)
    assert {entry.split for entry in plan.listing.entries} == {"train", "test"}


@needs_real
def test_the_metadata_of_all_photographs() -> None:
    """11,788 pictures, 176,820 lines of parts; the pictures themselves are not there."""
    plan = plan_of(REAL / "cub_meta_full")
    assert (len(plan.listing.entries), len(plan.listing.class_names)) == (11_788, 200)
    assert len(plan.listing.part_names) == 15
    splits = [entry.split for entry in plan.listing.entries]
    assert (splits.count("train"), splits.count("test")) == (5994, 5794)
    assert not any(entry.problem for entry in plan.listing.entries)
    with gzip.open(REAL / "cub_meta_full/parts/part_locs.txt.gz", "rt") as file:
        visible = sum(line.split()[4] == "1" for line in file)
    assert sum(len(entry.objects[0].parts) for entry in plan.listing.entries) == visible
