"""What becomes of one picture, and how pictures are cut into shards."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_data import encoded
from PIL import ExifTags, Image

from mixnmatch.data import plan as plans
from mixnmatch.data.layouts.known import read_source
from mixnmatch.data.layouts.listing import Annotation, Entry, LayoutOptions, Listing
from mixnmatch.data.orientation import turned_back
from mixnmatch.data.pictures import encode_png
from mixnmatch.data.places import FileMark, Place
from mixnmatch.data.plan import Plan, read_entry
from mixnmatch.data.records import Box, Part, Record, Reject
from mixnmatch.data.views import read_views
from mixnmatch.errors import DataError, RunError

QUARTER_TURNS = [
    Image.Transpose.ROTATE_90,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSPOSE,
    Image.Transpose.TRANSVERSE,
]
ORIENTATIONS = {6: "ROTATE_270", 8: "ROTATE_90", 5: "TRANSPOSE", 7: "TRANSVERSE"}


def thing(*box: float, **changes: Any) -> Annotation:
    return Annotation(Box(*(box or (5, 5, 10, 10))), **changes)


def plan_of_one(
    folder: Path, data: bytes | None, *objects: Annotation, how: Any = None, **entry: Any
) -> Plan:
    place = Place(folder)
    if data is not None:
        place.write("a.jpg", data)
    names = sorted({item.class_name for item in objects if item.class_name})
    entries = [Entry(path="a.jpg", objects=objects or (thing(),), **entry)]
    listing = Listing(kind="voc", entries=entries, class_names=names)
    return Plan(place=place, listing=listing, files=place.files(), **(how or {}))


def rows(plan: Plan) -> list[Record | Reject]:
    return list(read_entry(plan, 0))


def only(plan: Plan) -> Record:
    (row,) = rows(plan)
    assert isinstance(row, Record), row
    return row


def reason(plan: Plan) -> str:
    (row,) = rows(plan)
    assert isinstance(row, Reject), row
    assert row.source == "a.jpg"
    assert "\n" not in row.reason
    return row.reason


def oriented(form: str = "JPEG", orientation: int = 6) -> bytes:
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.new("RGB", (40, 30)).save(buffer, form, exif=exif)
    return buffer.getvalue()


def png_claiming(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


# One object


def test_a_plain_picture(tmp_path: Path) -> None:
    parts = (Part(0, 7, 8.5),)
    plan = plan_of_one(tmp_path, encoded(), thing(5, 6, 7, 8, class_name="cat", parts=parts))
    assert only(plan) == Record(
        id=0,
        source="a.jpg",
        image=encoded(),
        width=40,
        height=30,
        box=Box(5, 6, 7, 8),
        label=0,
        class_name="cat",
        split="train",
        parts=parts,
    )
    shares = plan_of_one(tmp_path, encoded(), thing(0.25, 0.1, 0.5, 0.2, unit="shares"))
    assert only(shares).box == pytest.approx((10, 3, 20, 6))
    known = plan_of_one(tmp_path, encoded(), id=77, split="test", size=(40, 30))
    assert (only(known).id, only(known).split) == (77, "test")


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"problem": "line 3 is broken"}, "a.jpg: line 3 is broken"),
        ({"objects": ()}, "a.jpg: no object is annotated"),
        ({"size": (41, 30)}, "a.jpg: is of 40x30 pixels, its annotation of 41x30"),
        ({"size": (30, 40)}, "a.jpg: is of 40x30 pixels, its annotation of 30x40"),
        ({"id": 2**63}, "a.jpg: its id 9223372036854775808 does not fit 64 bits"),
        ({"path": "../a.jpg"}, "../a.jpg: a file's path must stay inside"),
        ({"path": "/a.jpg"}, "/a.jpg: a file's path must stay inside"),
        ({"path": "b.jpg"}, "b.jpg: no such file"),
        ({"path": "x" * 300}, "cannot be read"),
        ({"path": "\ud800.jpg"}, "is no text of Unicode"),
        ({"objects": (thing(class_name="\udfff"),)}, "is no text of Unicode"),
    ],
)
def test_entries_that_cannot_be_used_say_why(
    tmp_path: Path, entry: dict[str, Any], expected: str
) -> None:
    Place(tmp_path).write("a.jpg", encoded())
    entry = {"path": "a.jpg", "objects": (thing(),)} | entry
    listing = Listing(kind="voc", entries=[Entry(**entry)], class_names=["\udfff"])
    place = Place(tmp_path)
    plan = Plan(place=place, listing=listing, files=place.files())
    (row,) = rows(plan)
    assert isinstance(row, Reject)
    assert row.source == entry["path"]
    assert expected in row.reason
    strict = Plan(place=place, listing=listing, files=place.files(), strict=True)
    with pytest.raises(DataError) as caught:
        rows(strict)
    assert str(caught.value) == row.reason


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((5, 5, 0, 10), "box (5, 5, 0, 10) has no area"),
        ((5, 5, 10, -1), "has no area"),
        ((float("nan"), 5, 10, 10), "has no area"),
        ((5, 5, float("inf"), 10), "has no area"),
        ((41, 5, 10, 10), "box (41, 5, 10, 10) lies outside its 40x30 picture"),
        ((-10, -10, 10, 10), "lies outside"),
        ((1e308, 1e308, 1e308, 1e308), "lies outside"),
        ((5, 5, 1e-6, 10), "only 1e-06x10 pixels are inside"),
        ((5, 29.99999, 10, 10), "pixels are inside the picture"),
    ],
)
def test_boxes_that_hold_nothing_are_left_out(
    tmp_path: Path, box: tuple[float, ...], expected: str
) -> None:
    assert expected in reason(plan_of_one(tmp_path, encoded(), thing(*box)))


def test_cut_boxes_say_what_they_were(tmp_path: Path) -> None:
    row = only(plan_of_one(tmp_path, encoded(), thing(-3.5, 20, 50, 15)))
    assert row.box == Box(0, 20, 40, 10)
    assert row.remarks == ("box cut at the picture's edge: was (-3.5, 20, 50, 15)",)
    assert only(plan_of_one(tmp_path, encoded(), thing(0, 0, 40.004, 30))).remarks == ()


def test_keypoints_outside_are_left_out(tmp_path: Path) -> None:
    parts = tuple(
        Part(index, x, y)
        for index, (x, y) in enumerate(
            [(0, 0), (40, 30), (40.1, 3), (float("nan"), 3), (3, -1e300), (3, float("inf"))]
        )
    )
    row = only(plan_of_one(tmp_path, encoded(), thing(parts=parts)))
    assert row.parts == parts[:2]
    assert row.remarks == ("keypoints outside the picture left out: 4",)


@pytest.mark.parametrize(
    ("mode", "form", "remark"),
    [
        ("RGB", "JPEG", None),
        ("P", "PNG", None),
        ("L", "JPEG", "greyscale (mode L)"),
        ("1", "PNG", "greyscale (mode 1)"),
        ("LA", "PNG", "greyscale (mode LA)"),
        ("I;16", "PNG", "greyscale (mode I;16)"),
        ("CMYK", "JPEG", "converted from mode CMYK"),
        ("RGBA", "PNG", "converted from mode RGBA"),
    ],
)
def test_modes_are_remarked(tmp_path: Path, mode: str, form: str, remark: str | None) -> None:
    row = only(plan_of_one(tmp_path, encoded(mode=mode, form=form)))
    assert row.remarks == (() if remark is None else (remark,))


# Several objects


def test_the_largest_object_is_the_one_with_most_inside(tmp_path: Path) -> None:
    objects = (thing(0, 0, 5, 5), thing(2, 2, 20, 20), thing(35, 0, 900, 30), thing(2, 2, 20, 20))
    row = only(plan_of_one(tmp_path, encoded(), *objects))
    assert row.box == Box(2, 2, 20, 20)
    assert row.remarks == ("the largest of 4 objects",)
    # One that cannot be used is never the largest.
    infinite = thing(0, 0, float("inf"), 30)
    assert only(plan_of_one(tmp_path, encoded(), infinite, thing())).box == Box(5, 5, 10, 10)
    assert "has no area" in reason(plan_of_one(tmp_path, encoded(), infinite, infinite))


def test_each_object_is_a_row_with_an_id_of_its_own(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.write("a.jpg", encoded())
    pairs = (thing(), thing(90, 0, 1, 1), thing(0, 0, 3, 3))
    entries = [
        Entry(path="a.jpg", objects=pairs, id=50),
        Entry(path="a.jpg", objects=(), id=50),
        Entry(path="a.jpg", objects=(thing(),), id=50),
    ]
    listing = Listing(kind="voc", entries=entries)
    plan = Plan(place=place, listing=listing, files=place.files(), objects="each")
    found = [row for number in range(3) for row in read_entry(plan, number)]
    assert [type(row) for row in found] == [Record, Reject, Record, Reject, Record]
    assert [row.id for row in found if isinstance(row, Record)] == [0, 2, 4]
    assert [row.remarks for row in found if isinstance(row, Record)] == [
        ("number 1 of 3 objects",),
        ("number 3 of 3 objects",),
        (),
    ]
    assert plan.shard_ids(0) == set(range(5))


def test_pictures_of_several_objects_can_be_refused(tmp_path: Path) -> None:
    how = {"objects": "refuse"}
    assert only(plan_of_one(tmp_path, encoded(), thing(), how=how)).remarks == ()
    two = plan_of_one(tmp_path, encoded(), thing(), thing(), how=how)
    assert reason(two).endswith("a.jpg: 2 objects are annotated, not one")


# EXIF


@given(
    st.sampled_from(QUARTER_TURNS),
    st.tuples(st.integers(3, 9), st.integers(3, 9)),
    st.data(),
)
def test_boxes_are_turned_back_as_pillow_turns(
    turn: Image.Transpose, size: tuple[int, int], data: st.DataObject
) -> None:
    stored = Image.new("L", size)
    left, top = (data.draw(st.integers(0, side - 1)) for side in size)
    right, bottom = (
        data.draw(st.integers(low + 1, side)) for low, side in zip((left, top), size, strict=True)
    )
    stored.paste(255, (left, top, right, bottom))
    upright = stored.transpose(turn)
    seen = upright.getbbox()
    assert seen is not None
    box = turned_back(Box.from_corners(*seen), *upright.size, turn)
    assert box.corners == (left, top, right, bottom)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", list(ORIENTATIONS))
def test_annotations_of_the_upright_picture_are_turned(
    tmp_path: Path, form: str, orientation: int
) -> None:
    turn = Image.Transpose[ORIENTATIONS[orientation]]
    data = oriented(form, orientation)
    item = thing(2, 3, 10, 20, parts=(Part(4, 2, 3),))
    row = only(plan_of_one(tmp_path, data, item, size=(30, 40)))
    assert row.box == turned_back(Box(2, 3, 10, 20), 30, 40, turn)
    assert (row.width, row.height) == (40, 30)
    (part,) = row.parts
    assert part.part == 4
    assert part[1:] in [(x, y) for x in row.box.corners[::2] for y in row.box.corners[1::2]]
    (remark,) = row.remarks
    assert "EXIF orientation is not applied" in remark
    shares = thing(2 / 30, 3 / 40, 10 / 30, 20 / 40, unit="shares")
    assert only(plan_of_one(tmp_path, data, shares, size=(30, 40))).box == pytest.approx(row.box)
    # Of the stored picture, or of a size that is neither.
    assert only(plan_of_one(tmp_path, data, thing(), size=(40, 30))).box == Box(5, 5, 10, 10)
    assert only(plan_of_one(tmp_path, data, thing())).box == Box(5, 5, 10, 10)
    assert "annotation of 20x40" in reason(plan_of_one(tmp_path, data, thing(), size=(20, 40)))


def test_a_half_turn_is_no_quarter_turn(tmp_path: Path) -> None:
    data = oriented(orientation=3)
    assert "annotation of 30x40" in reason(plan_of_one(tmp_path, data, thing(), size=(30, 40)))


def test_pillow_turns_a_tiff_itself(tmp_path: Path) -> None:
    row = only(plan_of_one(tmp_path, oriented("TIFF"), thing(), size=(30, 40)))
    assert (row.width, row.height, row.box, row.remarks) == (30, 40, Box(5, 5, 10, 10), ())


# Pictures of odd sizes


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (100, 2)])
def test_the_smallest_pictures_can_be_seen_in_training(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    row = only(plan_of_one(tmp_path, encode_png(Image.new("RGB", size)), thing(0, 0, *size)))
    views = read_views(row, 32)
    assert min(views.object_pixels.shape[:2]) >= 32
    assert min(views.background_pixels.shape[:2]) >= 30


@pytest.mark.parametrize("size", [(51, 1), (2, 101)])
def test_what_training_cannot_resize_is_left_out(tmp_path: Path, size: tuple[int, int]) -> None:
    plan = plan_of_one(tmp_path, encode_png(Image.new("RGB", size)), thing(0, 0, *size))
    expected = f"{size[0]}x{size[1]} pixels: its sides may differ by a factor of 50 at most"
    assert reason(plan).endswith(f"a.jpg: {expected}")


def bombs() -> dict[str, bytes]:
    gif = bytearray(encoded(form="GIF"))
    gif[6:10] = struct.pack("<HH", 60000, 60000)
    tiff = encoded(form="TIFF").replace(
        struct.pack("<HHII", 256, 4, 1, 40), struct.pack("<HHII", 256, 4, 1, 60000)
    )
    tiff = tiff.replace(struct.pack("<HHII", 257, 4, 1, 30), struct.pack("<HHII", 257, 4, 1, 60000))
    webp = bytearray(encoded(form="WEBP"))
    webp[26:30] = struct.pack("<HH", 16383, 16383)
    jpeg = bytearray(encoded())
    start = jpeg.index(b"\xff\xc0") + 5
    jpeg[start : start + 4] = struct.pack(">HH", 60000, 60000)
    return {
        "PNG": png_claiming(60000, 60000),
        "PNG above the limit": png_claiming(10000, 10000),
        "GIF": bytes(gif),
        "TIFF": tiff,
        "WEBP": bytes(webp),
        "JPEG": bytes(jpeg),
        "PPM": b"P6 60000 60000 255\n" + bytes(99),
    }


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", list(bombs()))
def test_bombs_are_refused_before_they_are_decoded(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import ImageFile

    def load(_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    text = reason(plan_of_one(tmp_path, bombs()[kind]))
    assert "pixels: at most 89478485 are accepted" in text or "more than" in text


def test_files_of_no_reasonable_size_are_not_read(tmp_path: Path) -> None:
    place = Place(tmp_path)
    listing = Listing(kind="voc", entries=[Entry(path="a.jpg", objects=(thing(),))])
    plan = Plan(place=place, listing=listing, files={"a.jpg": FileMark(2**28 + 1, 0)})
    assert "a.jpg: of 268435457 bytes: at most 268435456 are accepted" in reason(plan)


# Other content


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "not a picture that can be read (0 bytes)"),
        (b"<html>not found</html>", "not a picture that can be read (22 bytes)"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 30\n%%EndComments\n", "not a picture"),
        (encoded()[:-1], "corrupt or truncated"),
        (encoded()[:400], "corrupt or truncated"),
    ],
)
def test_what_is_no_whole_picture_is_left_out(tmp_path: Path, data: bytes, expected: str) -> None:
    assert expected in reason(plan_of_one(tmp_path, data))


def test_what_follows_a_picture_is_kept_but_not_looked_at(tmp_path: Path) -> None:
    polyglot = encoded() + b"PK\x03\x04 an archive <script>alert(1)</script>"
    row = only(plan_of_one(tmp_path, polyglot))
    assert (row.image, row.width) == (polyglot, 40)


def test_a_failing_disk_ends_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of_one(tmp_path, encoded())

    def failing(error: Exception) -> None:
        def read(_: Place, path: str) -> bytes:
            raise error

        monkeypatch.setattr(Place, "read", read)

    for error in (OSError(5, "Input/output error"), RunError("s3://b/a.jpg: the storage failed")):
        failing(error)
        with pytest.raises(type(error)):
            rows(plan)
    failing(PermissionError(13, "Permission denied"))
    assert reason(plan).endswith("a.jpg: cannot be read ([Errno 13] Permission denied)")


# Shards


def test_names_and_ids_are_unique(tmp_path: Path) -> None:
    place = Place(tmp_path)
    entries = [Entry(path="a", id=1), Entry(path="b")]
    with pytest.raises(DataError, match="id 1 is there twice"):
        Plan(place=place, listing=Listing(kind="voc", entries=entries), files={})
    Plan(place=place, listing=Listing(kind="voc", entries=entries), files={}, objects="each")
    names = Listing(kind="voc", entries=[], class_names=("cat", "dog", "cat"))
    with pytest.raises(DataError, match="class name 'cat' is there twice"):
        Plan(place=place, listing=names, files={})


@given(st.lists(st.integers(0, 40), min_size=1, max_size=30))
def test_shards_hold_all_entries_and_no_more_than_they_may(sizes: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plans, "SHARD_ENTRIES", 5)
        patch.setattr(plans, "SHARD_BYTES", 60)
        entries = [Entry(path=str(number)) for number in range(len(sizes))]
        files = {str(number): FileMark(size, 0) for number, size in enumerate(sizes)}
        listing = Listing(kind="voc", entries=entries)
        plan = Plan(place=Place("x"), listing=listing, files=files)
        shards = [plan.shard_entries(shard) for shard in range(plan.shards)]
    assert [number for shard in shards for number in shard] == list(range(len(sizes)))
    for shard in shards:
        assert 1 <= len(shard) <= 5
        assert sum(sizes[number] for number in shard[:-1]) < 60


def test_the_digest_follows_what_rows_depend_on(tmp_path: Path) -> None:
    def digest(how: Any = None, marks: Any = None, **entry: Any) -> str:
        entry = {"path": "a.jpg", "objects": (thing(),)} | entry
        listing = Listing(kind="voc", entries=[Entry(**entry)], class_names=["cat"])
        files = {"a.jpg": FileMark(9, 1), "b.txt": FileMark(1, 1)} | (marks or {})
        return Plan(place=Place(tmp_path), listing=listing, files=files, **(how or {})).digest

    first = digest()
    assert digest(how={"strict": True}, marks={"b.txt": FileMark(2, 2)}) == first
    others = [
        digest(how={"objects": "each"}),
        digest(marks={"a.jpg": FileMark(8, 1)}),
        digest(marks={"a.jpg": FileMark(9, 2)}),
        digest(objects=(thing(5, 5, 10, 11),)),
        digest(objects=(thing(5, 5, 10, 10, unit="shares"),)),
        digest(objects=(thing(5, 5, 10, 10, class_name="cat"),)),
        digest(objects=(thing(5, 5, 10, 10, parts=(Part(0, 1, 1),)),)),
        digest(id=1),
        digest(split="test"),
        digest(size=(40, 30)),
        digest(problem="x"),
    ]
    assert len({first, *others}) == 1 + len(others)


def test_sixteen_bit_greys_are_seen(tmp_path: Path) -> None:
    greys = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    row = only(plan_of_one(tmp_path, encode_png(Image.fromarray(greys)), thing(0, 0, 9, 9)))
    assert row.remarks == ("greyscale (mode I;16)",)


def test_a_source_that_goes_away_makes_no_picture_bad(tmp_path: Path) -> None:
    cub = tmp_path / "cub"
    (cub / "images").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(cub / "images" / "a.png")
    (cub / "images.txt").write_text("1 a.png\n")
    (cub / "bounding_boxes.txt").write_text("1 1 1 4 4\n")
    place = Place(cub)
    listing = read_source(place, "cub", LayoutOptions())
    plan = Plan(place=place, listing=listing, files=place.files())
    cub.rename(tmp_path / "unmounted")
    with pytest.raises(RunError, match="it was there when the work began"):
        list(read_entry(plan, 0))
