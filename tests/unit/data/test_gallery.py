import base64
import dataclasses
import hashlib
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_data import encoded
from PIL import Image

from mixnmatch.data.contact import captions, contact_sheet
from mixnmatch.data.gallery import DAMAGED, write_gallery_folder, write_gallery_page
from mixnmatch.data.html import embedded_json, page, picture_uri
from mixnmatch.data.info import DatasetInfo
from mixnmatch.data.looks import NO_CLASS, choose_rows, look, read_looks
from mixnmatch.data.reasons import kind_of
from mixnmatch.data.records import Box, Part, Record, Reject
from mixnmatch.data.store import Dataset, open_dataset, write_dataset
from mixnmatch.errors import DataError, InputError

HOSTILE = "</script><script>alert(1)</script>\"'&amp;"
CUT = "box cut at the picture's edge: was (1, 2, 50, 20)"
REJECTS = (
    Reject("d/x.jpg", "/srv/d/x.jpg: box (1, 2, 0, 4) has no area: width must be above 0"),
    Reject("d/y.jpg", "/srv/d/y.jpg: box (0, 2.5, -1, 4) has no area: width must be above 0"),
    Reject(f"{HOSTILE}.jpg", f"/srv/{HOSTILE}.jpg: no object is annotated"),
)


def record(id: int = 0, **changes: Any) -> Record:
    plain: dict[str, Any] = {
        "source": f"{id}.jpg",
        "image": encoded(40, 30),
        "width": 40,
        "height": 30,
        "box": Box(10.5, 5, 20, 15),
        "split": "train",
    }
    return Record(id=id, **plain | changes)


@pytest.fixture
def odd(tmp_path: Path) -> Dataset:
    """A hostile name, a cut box, a damaged picture and one without anything else."""
    records = [
        record(7, class_name=HOSTILE, label=0, source=f"{HOSTILE}.jpg", parts=(Part(1, 12, 8),)),
        record(8, class_name="two", label=1, split="test", remarks=(CUT, "greyscale (mode L)")),
        record(9, class_name="two", label=1, image=encoded()[:100]),
        record(10),
    ]
    out = tmp_path / "set"
    info = write_dataset(records, out, kind="cub", parts=("head", "tail"))
    told = dataclasses.replace(info, rejects=REJECTS)
    (out / "dataset.json").write_text(told.to_json())
    return open_dataset(out)


class Parsed(HTMLParser):
    """What a browser would make of a page before its script runs."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self.open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.open = f"{tag}#{dict(attrs).get('id')}"

    def handle_endtag(self, tag: str) -> None:
        self.open = ""

    def handle_data(self, data: str) -> None:
        self.texts[self.open] = self.texts.get(self.open, "") + data

    @property
    def data(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.texts["script#data"])
        return value


def gallery(dataset: Dataset, out: Path, image_size: int = 16) -> Parsed:
    looks = read_looks(dataset, range(len(dataset)), image_size)
    write_gallery_page(out, HOSTILE, dataset.info, looks)
    return Parsed(out.read_text(encoding="utf-8"))


def picture(uri: str) -> Image.Image:
    head, _, data = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data, validate=True)))


def test_a_page_has_an_item_for_each_picture(odd: Dataset, tmp_path: Path) -> None:
    data = gallery(odd, tmp_path / "g.html").data
    assert [item["id"] for item in data["items"]] == [7, 8, 9, 10]
    assert [item["class"] for item in data["items"]] == [HOSTILE, "two", "two", NO_CLASS]
    assert [item["split"] for item in data["items"]] == ["train", "test", "train", "train"]
    first, cut, damaged, last = data["items"]
    assert (first["box"], first["size"], first["source"]) == (
        [10.5, 5, 20, 15],
        [40, 30],
        f"{HOSTILE}.jpg",
    )
    assert first["share"] == 0.25
    assert (data["parts"], first["panels"][0]["parts"]) == (["head", "tail"], [[1, 12, 8]])
    assert cut["remarks"] == [CUT, "greyscale (mode L)"]
    assert cut["kinds"] == ["box cut at the picture's edge", "greyscale"]
    assert (damaged["panels"], damaged["kinds"]) == ([], [DAMAGED])
    assert damaged["problem"].startswith("9.jpg: corrupt or truncated picture")
    assert (last["kinds"], last["problem"]) == ([], None)


def test_the_boxes_are_those_that_training_sees(odd: Dataset, tmp_path: Path) -> None:
    whole, of_object, of_background = gallery(odd, tmp_path / "g.html").data["items"][0]["panels"]
    assert (whole["size"], whole["corners"]) == ([40, 30], [10.5, 5, 30.5, 20])
    assert (of_object["size"], of_background["size"]) == ([16, 16], [14, 14])
    # A square of half-side 15 about (20, 12), cut at the upper edge to 30x27 pixels, then resized
    # to 21x19 and cut to the middle 16 of them.
    left, top, right, bottom = of_object["corners"]
    assert (left, right) == pytest.approx(
        ((10.5 - 5) * 21 / 30 - 2, (30.5 - 5) * 21 / 30 - 2), 0.01
    )
    assert (top, bottom) == pytest.approx((5 * 19 / 27 - 1, 20 * 19 / 27 - 1), abs=0.01)
    for panel in (whole, of_object, of_background):
        assert list(picture(panel["src"]).size) == panel["size"]


def test_large_pictures_are_made_small_and_their_boxes_are_not(tmp_path: Path) -> None:
    large = record(image=encoded(800, 400), width=800, height=400, box=Box(100, 100, 400, 200))
    write_dataset([large], tmp_path / "set", kind="cub")
    (item,) = gallery(open_dataset(tmp_path / "set"), tmp_path / "g.html", 300).data["items"]
    whole, of_object, _ = item["panels"]
    assert (whole["size"], whole["corners"]) == ([800, 400], [100, 100, 500, 300])
    assert picture(whole["src"]).size == (256, 128)
    assert of_object["size"] == [300, 300]
    assert picture(of_object["src"]).size == (256, 256)


def test_rejects_are_grouped_by_kind(odd: Dataset, tmp_path: Path) -> None:
    rejects = gallery(odd, tmp_path / "g.html").data["rejects"]
    assert [(reject["source"], reject["reason"]) for reject in rejects] == list(REJECTS)
    no_area = "box (…) has no area"
    assert [reject["kind"] for reject in rejects] == [no_area, no_area, "no object is annotated"]


def test_nothing_from_data_becomes_html(odd: Dataset, tmp_path: Path) -> None:
    parsed = gallery(odd, tmp_path / "g.html")
    assert [attributes for tag, attributes in parsed.elements if tag == "script"] == [
        {"type": "application/json", "id": "data"},
        {},
    ]
    assert parsed.texts["title#None"] == parsed.texts["h1#None"] == HOSTILE
    for tag, attributes in parsed.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag


def test_a_page_asks_for_nothing(odd: Dataset, tmp_path: Path) -> None:
    parsed = gallery(odd, tmp_path / "g.html")
    text = (tmp_path / "g.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|//\w+\.|@import|url\(", text)
    assert not {"link", "iframe", "object", "base"} & {tag for tag, _ in parsed.elements}
    (policy,) = (
        attributes["content"]
        for tag, attributes in parsed.elements
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    sources = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert (sources["default-src"], sources["img-src"]) == ("'none'", "data:")
    for name in ("script", "style"):
        digest = hashlib.sha256(parsed.texts[f"{name}#None"].encode()).digest()
        assert sources[f"{name}-src"] == f"'sha256-{base64.b64encode(digest).decode()}'"


def test_controls_have_labels(odd: Dataset, tmp_path: Path) -> None:
    gallery(odd, tmp_path / "g.html")
    body = (
        (tmp_path / "g.html")
        .read_text(encoding="utf-8")
        .partition("</head>")[2]
        .partition("<script")[0]
    )
    controls = re.findall(r"<(?:select|input)[^>]*name=\"(\w+)\"", body)
    labelled = re.findall(r"<label[^>]*>[^<]*<(?:select|input)[^>]*name=\"(\w+)\"", body)
    assert sorted(controls) == sorted(labelled)
    assert {"class", "split", "remark", "text", "sort", "reject"} < set(controls)


def test_a_folder_keeps_pictures_as_files(odd: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "new" / "g"
    looks = read_looks(odd, range(4), 16)
    write_gallery_folder(out, "set", odd.info, looks)
    data = Parsed((out / "index.html").read_text(encoding="utf-8")).data
    addresses = [panel["src"] for item in data["items"] for panel in item["panels"]]
    assert len(set(addresses)) == len(addresses) == 9
    assert addresses[0] == "pictures/0000/000000-picture.jpg"
    for address in addresses:
        with Image.open(out / address) as image:
            assert image.format == "JPEG"
    assert len(list(out.rglob("*.jpg"))) == 9
    with pytest.raises(DataError, match="exists already and is not an empty folder"):
        write_gallery_folder(out, "set", odd.info, iter(()))


@pytest.mark.parametrize("write", [write_gallery_page, write_gallery_folder])
def test_an_error_leaves_nothing_behind(
    write: Callable[..., None], odd: Dataset, tmp_path: Path
) -> None:
    def looks() -> Any:
        yield look(odd[0], 16)
        raise DataError("a shard is damaged")

    with pytest.raises(DataError, match="shard"):
        write(tmp_path / "g", "set", odd.info, looks())
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_page_that_cannot_be_written(odd: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_gallery_page(tmp_path / "file" / "g.html", "set", odd.info, iter(()))


def test_chosen_rows(odd: Dataset, drawn: Dataset) -> None:
    assert choose_rows(odd).tolist() == [0, 1, 2, 3]
    assert choose_rows(odd, 2).tolist() == [0, 3]
    assert choose_rows(odd, odd=True).tolist() == [1]
    assert choose_rows(odd, class_name="two", split="train").tolist() == [2]
    assert choose_rows(odd, class_name=NO_CLASS).tolist() == [3]
    some = choose_rows(drawn, 10, seed=3).tolist()
    assert some == sorted(set(some))
    assert len(some) == 10
    assert (
        some == choose_rows(drawn, 10, seed=3).tolist() != choose_rows(drawn, 10, seed=4).tolist()
    )
    assert set(choose_rows(drawn, 99, split="judge").tolist()) == set(
        drawn.indices("judge").tolist()
    )
    with pytest.raises(DataError, match=r"no class 'three'; there are .*'two'"):
        choose_rows(odd, class_name="three")
    with pytest.raises(DataError, match="no picture of split 'train' and with remarks"):
        choose_rows(odd, split="train", odd=True)


@pytest.mark.parametrize(
    ("text", "source", "kind"),
    [
        ("/a/b.jpg: is of 3x4 pixels, not 30x40", "b.jpg", "is of …x… pixels, not …x…"),
        ("/a/b.jpg: corrupt or truncated picture (at 12 (3))", "b.jpg", None),
        ("/a/b.jpg: no such file", "b.jpg", "no such file"),
        ("the largest of 3 objects", "", "the largest of … objects"),
        ("greyscale (mode L)", "", "greyscale"),
        ("class 'x: y' is not listed", "", "class … is not listed"),
        ("b.jpg", "b.jpg", "b.jpg"),
        ("", "", ""),
    ],
)  # fmt: skip
def test_kinds(text: str, source: str, kind: str | None) -> None:
    if kind is not None:
        assert kind_of(text, source) == kind
    else:
        assert kind_of(text, source).startswith("corrupt or truncated picture")


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_embedded_data_come_back(value: Any) -> None:
    parsed = Parsed(page(HOSTILE, embedded_json("data", value)))
    assert json.loads(parsed.texts["script#data"]) == value
    assert parsed.texts["title#None"] == HOSTILE


def test_a_picture_as_uri() -> None:
    colours = Image.new("RGB", (5, 3), (200, 30, 30))
    decoded = picture(picture_uri(colours))
    assert (decoded.size, picture_uri(colours)) == ((5, 3), picture_uri(colours.copy()))
    assert decoded.getpixel((2, 1)) == pytest.approx((200, 30, 30), abs=4)


def test_a_sheet_shows_box_parts_and_captions() -> None:
    white = io.BytesIO()
    Image.new("RGB", (128, 128), "white").save(white, "PNG")
    shown = record(
        image=white.getvalue(), width=128, height=128, box=Box(20.0, 30.0, 60.0, 50.0),
        parts=(Part(0, 100, 100),), class_name="x" * 500, remarks=(CUT,),
    )  # fmt: skip
    sheet = contact_sheet([look(shown, 64)] * 5)
    bare = contact_sheet(
        [look(dataclasses.replace(shown, parts=(), box=Box(0.0, 0.0, 1.0, 1.0)), 64)]
    )
    assert sheet.width == 4 * bare.width
    assert sheet.height == 2 * bare.height

    def at(x: int, y: int) -> Any:
        return sheet.getpixel((4 + x, 4 + y))  # the first picture begins after a gap

    assert at(20, 30) == at(79, 79) == at(50, 30) == (255, 40, 120)
    assert at(50, 50) == at(80, 80) == (255, 255, 255)
    assert at(100, 100) == (60, 220, 255)
    first, second, third = captions(look(shown, 64))
    assert first.startswith("0 · xxx")
    assert (second, third) == ("train, 128x128 px, object 18 %", CUT)


def test_a_sheet_names_a_damaged_picture(odd: Dataset) -> None:
    damaged = look(odd[2], 16)
    assert captions(damaged)[2].startswith("cannot be shown: 9.jpg: corrupt or truncated")
    assert contact_sheet([damaged, look(odd[3], 16)]).width > 2 * 3 * 128


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("box", "shown"),
    [
        (Box(NAN, 5, 20, 15), [None, 5, 20, 15]),
        (Box(10, 5, INF, 15), [10, 5, None, 15]),
        (Box(90, 5, 20, 15), [90, 5, 20, 15]),
        (Box(10, 5, -20, 15), [10, 5, -20, 15]),
    ],
)
def test_a_box_that_is_none_is_told(box: Box, shown: list[float | None], tmp_path: Path) -> None:
    write_dataset([record(box=box), record(1)], tmp_path / "set", kind="cub")
    dataset = open_dataset(tmp_path / "set")
    bad, good = gallery(dataset, tmp_path / "g.html").data["items"]
    assert (bad["box"], bad["share"], bad["panels"], bad["kinds"]) == (shown, None, [], [DAMAGED])
    assert bad["problem"].startswith("0.jpg: box (")
    assert (good["share"], good["problem"], len(good["panels"])) == (0.25, None, 3)
    size, problem = captions(look(dataset[0], 16))[1:]
    assert size == "train, 40x30 px, object unknown"
    assert problem == f"cannot be shown: {bad['problem']}"
    assert contact_sheet([look(dataset[0], 16)]).width > 3 * 128


def test_a_row_that_knows_no_size(tmp_path: Path) -> None:
    write_dataset([record(width=0)], tmp_path / "set", kind="cub")
    (item,) = gallery(open_dataset(tmp_path / "set"), tmp_path / "g.html").data["items"]
    assert (item["share"], len(item["panels"])) == (None, 3)


def test_keypoints_without_a_place_are_not_drawn(tmp_path: Path) -> None:
    parts = (Part(0, NAN, 3), Part(1, 12, 8), Part(0, 3, INF))
    write_dataset([record(parts=parts)], tmp_path / "set", kind="cub", parts=("head", "tail"))
    dataset = open_dataset(tmp_path / "set")
    (item,) = gallery(dataset, tmp_path / "g.html").data["items"]
    assert item["panels"][0]["parts"] == [[1, 12, 8]]
    assert contact_sheet([look(dataset[0], 16)]).width > 3 * 128


def test_a_picture_too_narrow_is_named(tmp_path: Path) -> None:
    narrow = record(image=encoded(400, 2, form="PNG"), width=400, height=2, box=Box(0, 0, 9, 2))
    assert str(look(narrow, 16).problem).startswith("0.jpg: picture of ")


def test_half_a_character_can_be_written() -> None:
    text = page("a\ud800b", "<p>\udc80</p>")
    assert "<title>a?b</title>" in text
    assert "<p>?</p>" in text.encode("utf-8").decode("utf-8")


def test_a_data_set_without_anything_odd(drawn: Dataset, tmp_path: Path) -> None:
    info: DatasetInfo = drawn.info
    data = gallery(drawn, tmp_path / "g.html").data
    assert (len(data["items"]), data["rejects"]) == (info.count, [])
    assert "48 of 48 pictures" in data["about"]
    assert info.fingerprint[:12] in data["about"]
