import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mixnmatch.data.layouts import csv as table
from mixnmatch.data.layouts.known import read_source
from mixnmatch.data.layouts.listing import Entry, LayoutOptions, Listing
from mixnmatch.data.places import Place
from mixnmatch.data.records import Box
from mixnmatch.errors import DataError

HEADER = "image,x,y,width,height,class,split\n"


def folder(root: Path, pictures: Sequence[str] = ("a.jpg", "b.jpg"), **tables: str | bytes) -> Path:
    """Empty pictures, and tables by their names with __ for a dot."""
    contents: dict[str, str | bytes] = dict.fromkeys(pictures, b"")
    contents |= {name.replace("__", "."): content for name, content in tables.items()}
    for path, content in contents.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def listed(root: Path, layout: str = "csv", **options: Any) -> Listing:
    return read_source(Place(root), layout, LayoutOptions(**options))


def entries(root: Path, **options: Any) -> dict[str, Entry]:
    return {entry.path: entry for entry in listed(root, **options).entries}


def parquet(**columns: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def test_our_own_names_need_no_declaration(tmp_path: Path) -> None:
    rows = "b.jpg,1,2,3.5,4,tern 10,train\na.jpg,5,6,7,8,tern 9,val\nb.jpg,2,2,2,2,tern 9,train\n"
    listing = listed(folder(tmp_path, t__csv=HEADER + rows), "auto")
    b, a = listing.entries
    assert (listing.kind, listing.class_names) == ("csv", ("tern 9", "tern 10"))
    assert (a.path, a.split, b.path, b.split) == ("a.jpg", "test", "b.jpg", "train")
    assert [(item.box, item.class_name) for item in b.objects] == [
        (Box(1, 2, 3.5, 4), "tern 10"),
        (Box(2, 2, 2, 2), "tern 9"),
    ]
    assert listing.saw == (
        "table t.csv: 3 rows of 2 pictures; boxes are x, y, width, height (xywh, in pixels)"
    )


def test_columns_can_be_declared(tmp_path: Path) -> None:
    text = "filename;width;height;label;xmin;ymin;xmax;ymax\na.jpg;640;480;cat;10;20;110;220\n"
    columns = {"image": "filename", "x": "xmin", "y": "ymin", "x2": "xmax", "y2": "ymax"}
    root = folder(tmp_path, t__csv=text)
    (entry,) = listed(
        root, "auto", boxes="xyxy", columns=(*columns.items(), ("class", "label"))
    ).entries
    assert entry.objects[0].box == Box(10, 20, 100, 200)
    assert entry.objects[0].class_name == "cat"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_as_programs_write_it(tmp_path: Path, delimiter: str, mark: str, end: str) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator=end)
    writer.writerow(["image", "x", "y", "width", "height", "class"])
    writer.writerow([])
    writer.writerow(["a.jpg", 1, 2, 3, 4, 'a "grey", tern; one\nof two'])
    root = folder(tmp_path, t__tsv=mark + end + buffer.getvalue())
    (entry,) = listed(root, "auto").entries
    assert entry.objects[0].box == Box(1, 2, 3, 4)
    assert entry.objects[0].class_name == 'a "grey", tern; one\nof two'


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(boxes=st.lists(st.tuples(*[st.floats(-50, 900)] * 2, *[st.floats(2, 900)] * 2), min_size=1))
def test_every_convention_gives_the_same_boxes(
    tmp_path: Path, boxes: list[tuple[float, float, float, float]]
) -> None:
    x, y, width, height = (list(values) for values in zip(*boxes, strict=True))
    right = [a + b for a, b in zip(x, width, strict=True)]
    bottom = [a + b for a, b in zip(y, height, strict=True)]
    middle_x = [a + b / 2 for a, b in zip(x, width, strict=True)]
    middle_y = [a + b / 2 for a, b in zip(y, height, strict=True)]
    image = ["a.jpg"] * len(boxes)
    conventions: dict[str, dict[str, Any]] = {
        "xywh": {"x": x, "y": y, "width": width, "height": height},
        "xyxy": {"x": x, "y": y, "x2": right, "y2": bottom},
        "cxcywh": {"x": middle_x, "y": middle_y, "width": width, "height": height},
    }
    for convention, columns in conventions.items():
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(["image", *columns])
        writer.writerows(zip(image, *columns.values(), strict=True))
        folder(tmp_path, t__csv=text.getvalue(), u__parquet=parquet(image=image, **columns))
        for name in ("t.csv", "u.parquet"):
            (entry,) = listed(tmp_path, table=name, boxes=convention).entries
            found = [item.box for item in entry.objects]
            for box, expected in zip(found, boxes, strict=True):
                assert box == pytest.approx(expected, abs=1e-9)


def test_shares(tmp_path: Path) -> None:
    root = folder(tmp_path, t__csv=HEADER + "a.jpg,.5,.5,.2,1,,\nb.jpg,100,50,20,30,,\n")
    found = entries(root, unit="shares", boxes="cxcywh")
    (item,) = found["a.jpg"].objects
    assert (item.unit, item.box) == ("shares", pytest.approx(Box(0.4, 0, 0.2, 1)))
    assert found["b.jpg"].problem == (
        "t.csv, line 3: 100 is no share of a picture, from 0 to 1: --unit pixels?"
    )
    root = folder(tmp_path / "2", t__csv=HEADER + "a.jpg,.5,.5,.2,1,,\nb.jpg,0,0,1,1,,\n")
    with pytest.raises(DataError, match=r"all boxes lie between 0 and 1.*--unit shares"):
        listed(root)


def test_a_row_without_a_box_is_no_object(tmp_path: Path) -> None:
    root = folder(tmp_path, t__csv=HEADER + "a.jpg,,,,,cat,\nb.jpg,1,2,3,4,,\n")
    found = entries(root)
    assert (found["a.jpg"].objects, found["a.jpg"].problem) == ((), None)
    assert found["b.jpg"].objects[0].class_name is None
    nan = float("nan")
    data = parquet(
        image=["a.jpg", "b.jpg"], x=[nan, 1], y=[nan, 2], width=[nan, 3], height=[None, 4],
        **{"class": [3.0, nan]},
    )  # fmt: skip
    found = entries(folder(tmp_path / "2", t__parquet=data))
    assert found["a.jpg"].objects == ()
    assert found["b.jpg"].objects[0].box == Box(1, 2, 3, 4)
    assert found["b.jpg"].objects[0].class_name is None


def test_classes_that_are_numbers(tmp_path: Path) -> None:
    for number, values in enumerate(([10, 9], [10.0, 9.0], ["10", "9"])):
        box = {name: [1, 2] for name in ("x", "y", "width", "height")}
        data = parquet(image=["a.jpg", "b.jpg"], **box, **{"class": values})
        listing = listed(folder(tmp_path / str(number), t__parquet=data))
        assert listing.class_names == ("9", "10")


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("a.jpg,one,2,3,4,,", "t.csv, line 3: column 'x' is 'one', not a number"),
        ("a.jpg,inf,2,3,4,,", "t.csv, line 3: column 'x' is inf, not a finite number"),
        ("a.jpg,1,,3,4,,", "t.csv, line 3: column 'y' is empty"),
        ("a.jpg,1,nan,3,4,,", "t.csv, line 3: column 'y' is empty"),
        ("a.jpg,1,2,3,4,cat,later", "t.csv, line 3: split is 'later': it must be train, test or"),
        ("a.jpg,1,2", "t.csv, line 3: 3 columns where the header has 7"),
        ("a.jpg,1,2,3,4,,,9", "t.csv, line 3: 8 columns where the header has 7"),
        ("c.jpg,1,2,3,4,,", "t.csv, line 3: no such file below the source"),
        ("../a.jpg/x.jpg,1,2,3,4,,", "t.csv, line 3: no such file below the source"),
        ("a.jpg,1,2,3,4,,val\na.jpg,1,2,3,4,,train", "t.csv, line 4: the picture is in both"),
        (",1,2,3,4,,", "line 3: column 'image' names no picture"),
    ],
)
def test_a_bad_row_is_the_problem_of_its_picture(tmp_path: Path, row: str, problem: str) -> None:
    root = folder(tmp_path, t__csv=f"{HEADER}b.jpg,9,9,9,9,,\n{row}\n")
    good, bad = listed(root).entries
    assert (good.path, good.problem) == ("b.jpg", None)
    assert bad.problem is not None
    assert bad.problem.startswith(problem)


def test_one_bad_row_of_several_leaves_the_picture_out(tmp_path: Path) -> None:
    rows = "a.jpg,1,2,3,4,,\na.jpg,x,2,3,4,,\na.jpg,y,2,3,4,,\n"
    (entry,) = listed(folder(tmp_path, t__csv=HEADER + rows)).entries
    assert entry.problem == "t.csv, line 3: column 'x' is 'x', not a number"


def test_rows_of_parquet_are_counted_from_one(tmp_path: Path) -> None:
    data = parquet(
        image=["b.jpg", None, "a.jpg"], x=["1", None, "?"], y=[1, None, 1],
        width=[2, None, 2], height=[2, None, 2],
    )  # fmt: skip
    good, bad = listed(folder(tmp_path, t__parquet=data)).entries
    assert good.objects[0].box == Box(1, 1, 2, 2)
    assert bad.problem == "t.parquet, row 3: column 'x' is '?', not a number"


@pytest.mark.parametrize(
    "written",
    ["sub/a.jpg", "./sub//a.jpg", "sub\\a.jpg", "{root}/sub/a.jpg", "/other/machine/sub/a.jpg"],
)
def test_how_a_picture_can_be_written(tmp_path: Path, written: str) -> None:
    cell = written.format(root=tmp_path)
    folder(tmp_path, ("sub/a.jpg", "b.jpg"), t__csv=f"{HEADER}{cell},1,2,3,4,,\n")
    (entry,) = listed(tmp_path).entries
    assert (entry.path, entry.problem) == ("sub/a.jpg", None)


def test_pictures_beside_the_table_or_in_a_folder(tmp_path: Path) -> None:
    row = f"{HEADER}a.jpg,1,2,3,4,,\n"
    beside = folder(tmp_path / "1", ("train/a.jpg", "test/a.jpg"))
    (beside / "train" / "t.csv").write_text(row)
    assert list(entries(beside)) == ["train/a.jpg"]
    named = folder(tmp_path / "2", ("one/a.jpg", "two/a.jpg"), t__csv=row)
    assert list(entries(named, image_folder="two")) == ["two/a.jpg"]
    with pytest.raises(DataError, match=r"none of its 1 pictures is there, such as a\.jpg"):
        listed(named)


def test_missing_columns_are_named_with_what_is_there(tmp_path: Path) -> None:
    root = folder(tmp_path, t__csv="file,x,y,x2,y2\na.jpg,1,2,3,4\n")
    with pytest.raises(DataError) as caught:
        listed(root)
    assert str(caught.value) == (
        f"{root}/t.csv: no column 'image', 'width', 'height'; its columns are file, x, y, x2, y2: "
        "say which are meant with --columns image=...,width=...,height=... or --boxes xyxy"
    )
    with pytest.raises(DataError, match="no column 'kind'"):
        listed(root, boxes="xyxy", columns=(("image", "file"), ("class", "kind")))
    with pytest.raises(DataError, match=r"column 'x2' has no meaning for boxes xywh.*--boxes"):
        listed(root, columns=(("image", "file"), ("x2", "x2")))
    with pytest.raises(DataError, match="column 'colour' has no meaning"):
        listed(root, columns=(("colour", "file"),))
    double = folder(tmp_path / "2", t__csv="image,x,y,width,height,x\na.jpg,1,2,3,4,5\n")
    with pytest.raises(DataError, match="two columns 'x'"):
        listed(double)


def test_one_table_must_be_meant(tmp_path: Path) -> None:
    root = folder(tmp_path, t__csv=HEADER + "a.jpg,1,2,3,4,,\n", u__csv=HEADER)
    with pytest.raises(DataError, match=r"several tables, t\.csv, u\.csv: .*--table FILE"):
        listed(root)
    assert list(entries(root, table="t.csv")) == ["a.jpg"]
    with pytest.raises(DataError, match=r"v\.csv: no such table; there are t\.csv, u\.csv"):
        listed(root, table="v.csv")
    with pytest.raises(DataError, match=r"no table .* is there"):
        listed(folder(tmp_path / "2"))
    with pytest.raises(DataError, match=re.escape("table u.csv: 0 rows of 0 pictures")):
        listed(root, table="u.csv")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t__csv", b"image,x,y,width,height\n\xff\xfe,1,2,3,4\n", "not CSV in UTF-8, or damaged"),
        ("t__csv", HEADER + '"a.jpg,1,2,3,4,,\nb.jpg,1,2,3,4,,\n', r"damaged \(line 3: "),
        ("t__csv", HEADER.encode("utf-16"), "not CSV in UTF-8"),
        ("t__csv", b"", "no column 'image'"),
        ("t__parquet", b"", "not Parquet, or damaged"),
        ("t__parquet", b"PAR1 no more PAR1", "not Parquet, or damaged"),
        ("t__parquet", parquet(image=["a.jpg"])[:-9], "not Parquet, or damaged"),
    ],
)
def test_damaged_tables_are_named(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    root = folder(tmp_path, **{name: content})
    with pytest.raises(DataError, match=message) as caught:
        listed(root)
    assert str(caught.value).startswith(f"{root}/{name.replace('__', '.')}: ")
    assert "\n" not in str(caught.value)


PLAIN = {
    "t.csv": f"{HEADER}a.jpg,1,2,3,4,cat,train\nb.jpg,5,6,7,8,dog,val\n".encode(),
    "t.parquet": parquet(
        image=["a.jpg", "b.jpg"], x=[1, 2], y=[3.5, 4], width=[5, 6], height=[7, 8]
    ),
}


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=100,
    derandomize=True,
    deadline=None,
)
@given(
    name=st.sampled_from(sorted(PLAIN)),
    where=st.floats(0, 1, exclude_max=True),
    cut=st.integers(0, 20),
    put=st.binary(max_size=8),
)
def test_mutated_tables_end_in_one_line(
    tmp_path: Path, name: str, where: float, cut: int, put: bytes
) -> None:
    content = PLAIN[name]
    start = int(where * len(content))
    root = folder(tmp_path / name.replace(".", ""))
    (root / name).write_bytes(content[:start] + put + content[start + cut :])
    try:
        for entry in listed(root).entries:
            assert "\n" not in (entry.problem or "")
    except DataError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017
    table.recognise(Place(root), dict(Place(root).files()))


def test_lines_may_end_as_on_old_macs(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "boxes.csv").write_bytes(b"image,x,y,width,height\ra.png,1,2,3,4\r")
    assert listed(tmp_path, "auto").entries[0].objects[0].box == (1, 2, 3, 4)


def test_of_many_tables_a_hundred_are_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder(tmp_path, **{f"{n}/t.csv": HEADER for n in range(150)}, **{"top.csv": HEADER})
    read: list[str] = []
    header = table.read_header
    monkeypatch.setattr(table, "read_header", lambda p, path: read.append(path) or header(p, path))
    place = Place(root)
    saw = table.recognise(place, dict(place.files()))
    assert saw == ("table: columns image, x, y and so on in top.csv, 0/t.csv, 1/t.csv and 97 more")
    assert len(read) == 100
