"""``mixnmatch data check``: what it finds, its report and its command."""

import dataclasses
import io
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_data import MakeCub, plan_of
from PIL import Image

from mixnmatch import cli
from mixnmatch.config import ModelConfig
from mixnmatch.data.advice import advise
from mixnmatch.data.check import KINDS, Findings, check_dataset, reject_kind
from mixnmatch.data.crops import carry_boxes
from mixnmatch.data.free_patches import free_patches
from mixnmatch.data.ingest import ingest
from mixnmatch.data.places import Place
from mixnmatch.data.records import Box, Record, Reject
from mixnmatch.data.report import report_page
from mixnmatch.data.store import open_dataset, write_dataset
from mixnmatch.data.views import prepare_views
from mixnmatch.losses import background_patches

REAL = Path(
    os.environ.get("MIXNMATCH_TEST_DATA", Path(__file__).parents[4] / "shared" / "data")
).resolve()
needs_real = pytest.mark.skipif(
    not REAL.is_dir(), reason=f"no real photographs at {REAL} (set MIXNMATCH_TEST_DATA)"
)
MIDDLE = Box(20, 20, 24, 24)


def picture(number: int, side: int = 64, form: str = "JPEG") -> bytes:
    """Patches of colour, others for each number."""
    pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST).save(buffer, form)
    return buffer.getvalue()


def record(number: int, **fields: Any) -> Record:
    known: dict[str, Any] = {
        "source": f"{number}.jpg",
        "image": picture(number),
        "width": 64,
        "height": 64,
        "box": MIDDLE,
        "split": "train",
    }
    return Record(id=number, **known | fields)


def write(out: Path, records: Iterator[Record] | Sequence[Record]) -> Path:
    write_dataset(records, out, kind="folder")
    return out


def check(out: Path, image_size: int = 32) -> Findings:
    return check_dataset(open_dataset(out), image_size)


def names(found: Findings, kind: str) -> list[str]:
    return [odd.source for odd in found.odd[kind]]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough pictures of 40 classes, with background around their objects."""
    labelled = (record(n, label=n % 40, class_name=f"kind {n % 40}") for n in range(2000))
    return write(tmp_path_factory.mktemp("check") / "good", labelled)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def run(*arguments: object) -> tuple[int, str]:
        status = cli.main(["data", "check", *map(str, arguments)])
        return status, capsys.readouterr().out

    return run


def test_a_good_set(good: Path, run: Callable[..., tuple[int, str]]) -> None:
    status, text = run(good, "--image-size", 32, "--strict", "--json")
    told = json.loads(text)
    assert (status, told["verdict"], told["training"]) == (0, "good", 2000)
    assert told["advice"]["options"].startswith(
        "--set model.super_categories=4 --set model.fine_categories=40 --set model.image_size=32"
    )
    assert not any(told["odd"].values())
    assert {item["grade"] for item in told["judged"].values()} == {"good"}
    assert told["judged"]["evenness"]["value"] == pytest.approx(1)


def test_thirty_pictures(tmp_path: Path, run: Callable[..., tuple[int, str]]) -> None:
    out = write(tmp_path / "set", map(record, range(30)))
    status, text = run(out, "--image-size", 32, "--json")
    told = json.loads(text)
    assert (status, told["verdict"]) == (0, "will not work")
    failed = [name for name, item in told["judged"].items() if item["grade"] == "will not work"]
    assert failed == ["training"]
    assert told["advice"]["pictures_wanted"] == 600
    assert run(out, "--image-size", 32, "--strict")[0] == 1


def test_boxes_that_fill_their_pictures(tmp_path: Path) -> None:
    out = write(tmp_path / "set", (record(n, box=Box(2, 2, 60, 60)) for n in range(600)))
    found = check(out)
    advice = advise(found)
    assert advice.verdict == "will not work"
    grades = {name: item.grade for name, item in advice.judged.items()}
    assert {name for name, grade in grades.items() if grade == "will not work"} == {"free"}
    assert grades["training"] == "usable with care"
    assert len(found.odd["no_background"]) == 600
    assert found.values("free_share").max() == 0
    assert found.values("barren").min() == 1


def test_few_pictures_can_be_used_with_care(good: Path) -> None:
    found = Findings(name="set", info=open_dataset(good).info, image_size=32, count=2000)
    found.training = 700
    found.classes = {f"class {n}": Counter(train=17) for n in range(40)}
    advice = advise(found)
    assert advice.verdict == "usable with care"
    assert (advice.super_categories, advice.fine_categories) == (2, 10), "60 pictures each"
    assert advice.pictures_wanted == 2400, "60 for each of the 40 classes"


def findings(good: Path, training: int, *classes: int) -> Findings:
    found = Findings(name="set", info=open_dataset(good).info, image_size=32, count=training)
    found.training = training
    found.classes = {f"class {n}": Counter(train=each) for n, each in enumerate(classes)}
    return found


@pytest.mark.parametrize(
    ("training", "classes", "fines", "told"),
    [
        (52, (), 4, ["at least 600 pictures to train on: fewer will not work"]),
        (
            700,
            (17,) * 40,
            10,
            ["2400 pictures to train on would be 60 of each of 40 classes, as many as CUB has"],
        ),
        (2400, (60,) * 40, 40, []),
        (2000, (), 33, []),
    ],
)
def test_the_words_agree_with_the_numbers(
    training: int, classes: tuple[int, ...], fines: int, told: list[str], good: Path
) -> None:
    advice = advise(findings(good, training, *classes))
    assert advice.fine_categories == fines
    assert [reason for reason in advice.reasons if "pictures to train on" in reason] == told
    assert advice.reasons[0].startswith(f"{fines} fine categories: ")


def test_a_number_that_had_to_be_lowered_is_explained(good: Path) -> None:
    advice = advise(findings(good, 700, *(100,) * 7))
    assert (advice.super_categories, advice.fine_categories) == (2, 6)
    assert advice.reasons[0].endswith("; 6 is the multiple of 2 below 7")


@given(
    width=st.integers(40, 90),
    height=st.integers(40, 90),
    corners=st.tuples(*[st.floats(0, 1)] * 4),
    image_size=st.sampled_from((32, 64)),
)
def test_free_patches_are_those_of_all_crops(
    width: int, height: int, corners: tuple[float, ...], image_size: int
) -> None:
    (left, right), (top, bottom) = sorted(corners[:2]), sorted(corners[2:])
    box = Box.from_corners(left * width, top * height, right * width, bottom * height)
    box = box._replace(width=max(1, box.width), height=max(1, box.height)).clip(width, height)
    if box.area < 1e-6:
        return
    views = prepare_views(Image.new("RGB", (width, height)), box, image_size)
    rows, columns = (size - image_size + 3 for size in views.background_pixels.shape[:2])
    offsets = torch.cartesian_prod(torch.arange(columns), torch.arange(rows))
    boxes = torch.from_numpy(views.background_box).expand(len(offsets), 4)
    for flip in (torch.zeros(len(offsets), dtype=torch.bool), torch.ones(len(offsets)) > 0):
        seen = background_patches(carry_boxes(boxes, offsets, image_size - 2, flip), image_size)
        found = free_patches(views, image_size)
        assert found.share == pytest.approx(seen.double().mean().item(), abs=1e-9)
        assert found.barren == pytest.approx(
            (~seen.flatten(1).any(dim=1)).double().mean().item(), abs=1e-9
        )


@given(training=st.integers(0, 50_000), classes=st.integers(0, 300))
def test_settings_can_be_used(good: Path, training: int, classes: int) -> None:
    info = open_dataset(good).info
    found = Findings(name="set", info=info, image_size=32, count=max(1, training))
    found.training = training
    each = training // max(1, classes)
    found.classes = {f"class {n}": Counter(train=each) for n in range(classes)}
    advice = advise(found)
    ModelConfig(super_categories=advice.super_categories, fine_categories=advice.fine_categories)
    assert advice.fine_categories >= 4
    if classes >= 4 and training >= 40 * classes and training % classes == 0:
        assert classes - advice.fine_categories < advice.super_categories
    else:
        assert advice.fine_categories <= max(200, classes)


def test_oddities_are_named(tmp_path: Path) -> None:
    def grey(form: str, mode: str) -> bytes:
        buffer = io.BytesIO()
        Image.linear_gradient("L").resize((64, 64)).convert(mode).save(buffer, form)
        return buffer.getvalue()

    records = [
        record(0),
        record(1, image=picture(1)[:300]),
        record(2, width=70),
        record(3, box=Box(20, 20, 0, 10)),
        record(4, box=Box(70, 70, 10, 10)),
        record(5, box=Box(40, 40, 30, 30)),
        record(6, box=Box(30, 30, 20, 4)),
        record(7, box=Box(30, 30, 9, 9)),
        record(8, image=grey("JPEG", "L")),
        record(9, image=grey("PNG", "RGB")),
        record(10, box=Box(1, 1, 62, 62)),
        record(11, remarks=("the largest of 3 objects", "EXIF orientation is not applied")),
        record(12, remarks=("box cut at the picture's edge: was (1, 2, 3, 4)",)),
        record(13, image=picture(0), split="test"),
        record(14, mask=b"no mask"),
    ]
    found = check(write(tmp_path / "set", records))
    expected = {
        "unusable": [1, 2, 14],
        "bad_box": [3, 4],
        "cut_box": [5, 12],
        "small_box": [6],
        "enlarged": [7],
        "grey": [8, 9],
        "no_background": [10],
        "several": [11],
        "remark": [11],
        "twice": [0, 13],
    }
    assert {kind: [odd.id for odd in found.odd[kind]] for kind in KINDS} == expected
    assert found.odd["unusable"][1].detail == "picture of 64x64 pixels, its row says 70x64"
    assert found.odd["unusable"][2].detail.startswith("mask: not a picture")
    assert found.odd["twice"][0].detail == "split train; the same as 13.jpg (split test)"
    assert found.odd["grey"][0].detail == "stored as grey (mode L)"
    assert (found.spoilt, found.repeated, found.shared, found.training) == (5, 1, 1, 9)
    assert advise(found).judged["unusable"].grade == "will not work"


def test_thousands_of_one_picture_are_not_all_named_for_each(tmp_path: Path) -> None:
    out = write(tmp_path / "set", (record(n, image=picture(0)) for n in range(9)))
    found = check(out)
    details = [odd.detail for odd in found.odd["twice"]]
    assert (len(details), found.repeated) == (9, 8)
    assert details[0].startswith("split train; the same as 1.jpg (split train), 2.jpg")
    assert all(detail.count(".jpg") == 5 for detail in details)
    assert {detail.rpartition(" (split train) ")[2] for detail in details} == {"and 3 more"}


def test_objects_of_one_picture_are_no_duplicates(tmp_path: Path) -> None:
    shared = {"source": "one.jpg", "image": picture(1)}
    records = [record(0, **shared), record(1, **shared, box=Box(1, 1, 20, 20))]
    found = check(write(tmp_path / "set", records))
    assert (found.odd["twice"], found.repeated, found.training) == ([], 0, 2)


def test_only_the_training_split_is_counted(tmp_path: Path) -> None:
    out = write(
        tmp_path / "set", [record(n, split=("train", "test", None)[n % 3]) for n in range(9)]
    )
    found = check(out)
    assert found.training == 3
    assert found.splits == {"train": 3, "test": 3, "none": 3}
    assert advise(found).reasons[-1].startswith("training takes split train alone: 6 of 9")


def test_a_smaller_model_is_advised_for_small_pictures(tmp_path: Path) -> None:
    out = write(tmp_path / "set", map(record, range(4)))
    advice = advise(check(out, 128))
    assert (advice.judged["enlarged"].grade, advice.image_size) == ("usable with care", 32)
    assert "model.image_size=32" in advice.settings
    tiny = write(tmp_path / "tiny", (record(n, box=Box(20, 20, 9, 9)) for n in range(4)))
    assert advise(check(tiny)).judged["too_small"].grade == "will not work"


def test_drawn_pictures_have_the_categories_they_were_drawn_of(tmp_path: Path) -> None:
    out = tmp_path / "set"
    factors = {"background": 2, "shape": 3, "texture": 9, "pose": 4}
    write_dataset(map(record, range(3)), out, kind="factors", factors=factors)
    advice = advise(check(out))
    assert (advice.super_categories, advice.fine_categories) == (3, 9)


def test_what_ingestion_remarks_is_understood(make_cub: MakeCub, tmp_path: Path) -> None:
    root = make_cub(images__txt="3 one/a.jpg\n7 one/b.jpg\n20 two/c.jpg\n21 two/d.jpg\n")
    ingest(plan_of(root), Place(tmp_path / "set"))
    found = check(tmp_path / "set")
    assert names(found, "cut_box") == ["images/one/b.jpg"]
    # The pictures are a grey gradient, but only one of them is stored so.
    details = {odd.source: odd.detail for odd in found.odd["grey"]}
    assert details["images/one/b.jpg"] == "stored as grey (mode L)"
    assert found.odd["remark"] == []
    assert list(found.rejects) == ["bounding_boxes.txt has no box for its id …"]


def test_reasons_of_rejects_are_counted_without_names_and_numbers() -> None:
    reasons = {
        reject_kind(f"a/{n}.jpg", f"src/a/{n}.jpg: box ({n}, 2.5, -1, 1e+03) has no area")
        for n in range(3)
    }
    assert reasons == {"box (…, …, …, …) has no area"}


def test_a_damaged_shard(tmp_path: Path, run: Callable[..., tuple[int, str]]) -> None:
    out = write(tmp_path / "set", map(record, range(80)))
    shard = out / "part-00000.parquet"
    data = bytearray(shard.read_bytes())
    at = data.index(picture(70))
    data[at + 100] ^= 0xFF
    shard.write_bytes(data)
    report = tmp_path / "report.html"
    status, text = run(out, "--image-size", 32, "--json", "--out", report)
    told = json.loads(text)
    assert (status, told["verdict"]) == (0, "will not work")
    # A row group is the smallest unit that has a checksum.
    assert [odd["id"] for odd in told["odd"]["unusable"]] == list(range(64, 80))
    assert "damaged or truncated" in told["odd"]["unusable"][0]["detail"]
    assert "cannot be shown" in report.read_text()


class Page(HTMLParser):
    """Elements, links to elsewhere, and what an accessible page must have."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        table = dict(attrs)
        assert "style" not in table, "the page's own policy forbids it"
        self.addresses += [str(table[name]) for name in ("src", "href", "data") if name in table]
        if tag in ("img", "svg"):
            self.images.append(table)


def test_the_report_stands_alone_and_escapes_what_is_in_the_data(tmp_path: Path) -> None:
    hostile = '<script>alert("1")</script>&'
    records = [
        record(n, source=f"{n}{hostile}", class_name=f"{hostile}{n % 2}", label=n % 2, box=box)
        for n, box in enumerate([Box(1, 1, 62, 62), Box(30, 30, 9, 9), MIDDLE] * 7)
    ]
    records.append(record(50, source=f"50{hostile}", image=b"nothing", remarks=(hostile,)))
    out = tmp_path / "set"
    write_dataset(records, out, kind="folder", source=hostile, licence=hostile)
    dataset = open_dataset(out)
    found = check_dataset(dataset, 32)
    text = report_page(dataset, found, advise(found))
    page = Page(text)
    assert "script" not in page.tags
    assert text.count("&lt;script&gt;") > 20
    assert "alert(&quot;1&quot;)" in text
    assert page.tags.count("img") == 14, "seven of two kinds"
    assert page.tags.count("svg") == 5
    assert all(address.startswith("data:image/jpeg;base64,") for address in page.addresses)
    assert all(image.get("alt") or image.get("aria-label") for image in page.images)
    assert not re.search(r"url\(|@import|https?:", text)
    assert "default-src &#x27;none&#x27;" in text
    assert text == report_page(dataset, found, advise(found))


def test_the_text_names_the_first_few_and_no_control_characters(
    tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    records = [record(n, source=f"\x1b[31m{n}.jpg", box=Box(1, 1, 62, 62)) for n in range(8)]
    status, text = run(write(tmp_path / "set", records), "--image-size", 32)
    assert status == 0
    assert "will not work (32 px)" in text
    assert "crops show less than one free patch of background: 8" in text
    assert "[31m4.jpg: box of 94% of the picture\n" in text
    assert "[31m5.jpg" not in text
    assert "and 3 more, see --json or --out" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["nowhere"], "nowhere: no such data set folder"),
        (["set", "--image-size", "100"], "--image-size is 100: it must be a power of two"),
        (["set", "--image-size", "16"], "--image-size is 16: it must be from 32 to 2048"),
        (["set", "--out", "report.png"], "--out is report.png: a report is a page"),
    ],
)
def test_bad_input_is_refused(
    options: list[str], message: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    write(tmp_path / "set", [record(0)])
    options[0] = str(tmp_path / options[0])
    assert message in refused("data", "check", *options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]


def test_a_report_that_cannot_be_written(tmp_path: Path, refused: Callable[..., str]) -> None:
    out = write(tmp_path / "set", [record(0)])
    (tmp_path / "file").write_text("")
    where = tmp_path / "file" / "report.html"
    assert "cannot be written" in refused("data", "check", out, "--out", where)


def test_one_picture_is_no_pictures(tmp_path: Path, run: Callable[..., tuple[int, str]]) -> None:
    report = tmp_path / "report.html"
    status, text = run(write(tmp_path / "set", [record(0)]), "--image-size", 32, "--out", report)
    assert status == 0
    assert "\n1 picture (1 train); classes: none\n" in text
    assert "<p>1 picture, 1 different to train on; classes: none" in report.read_text()
    assert "the highest bar is 1 picture." in report.read_text()
    assert not re.search(r"\b1 (pictures|classes|categories)\b", text + report.read_text())


def test_half_a_character_in_what_was_left_out(
    tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    out = write(tmp_path / "set", [record(0)])
    info = open_dataset(out).info
    told = dataclasses.replace(info, rejects=(Reject("a\ud800.jpg", "a\ud800.jpg: is no text"),))
    (out / "dataset.json").write_text(told.to_json())
    status, text = run(out, "--image-size", 32, "--out", tmp_path / "report.html")
    assert (status, "is no text" in text) == (0, True)
    assert "<li>a?.jpg: a?.jpg: is no text</li>" in (tmp_path / "report.html").read_text()


@needs_real
def test_the_odd_birds_are_named(tmp_path: Path) -> None:
    ingest(plan_of(REAL / "cub10_original", "cub"), Place(tmp_path / "set"))
    found = check(tmp_path / "set", 128)
    assert {960, 999, 1218} <= {odd.id for odd in found.odd["cut_box"]}
    assert [odd.id for odd in found.odd["grey"]] == [448, 1401]
    assert found.values("free_share").mean() == pytest.approx(0.137, abs=0.005)
    assert found.odd["unusable"] == found.odd["bad_box"] == []
    advice = advise(found)
    assert advice.verdict == "will not work"
    assert advice.judged["free"].grade == "good"


@needs_real
def test_pictures_of_several_raccoons_are_named(tmp_path: Path) -> None:
    ingest(plan_of(REAL / "raccoon_voc", "voc"), Place(tmp_path / "set"))
    found = check(tmp_path / "set", 128)
    several = ["raccoon-12.jpg", "raccoon-24.jpg", "raccoon-31.jpg", "raccoon-55.jpg"]
    assert names(found, "several") == [f"images/{name}" for name in several]
    assert advise(found).judged["free"].grade == "usable with care"
