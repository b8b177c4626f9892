"""Damaged sources of every layout, and what must become of them; for a test and a benchmark.

A case is a small valid source of which one file is damaged. Reading it must end in a data set of
which every row can be read, with each reject named, or in a ``DataError`` of one line: no other
exception, no warning and no hang.
"""

import io
import json
import logging
import re
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from scipy.io import savemat

from mixnmatch.data.ingest import ingest
from mixnmatch.data.layouts.known import read_source
from mixnmatch.data.layouts.listing import LayoutOptions
from mixnmatch.data.pictures import decode_picture
from mixnmatch.data.places import Place
from mixnmatch.data.plan import Plan
from mixnmatch.data.store import open_dataset
from mixnmatch.errors import DataError

SECONDS = 20
"""After so many a case counts as hanging."""
Outcome = Literal["whole", "rejects", "refused"]
Files = dict[str, bytes]


class Subject(NamedTuple):
    """What is damaged."""

    name: str
    layout: str
    files: Files
    """Of a valid source."""
    targets: tuple[str, ...]
    """Names of the files that are damaged."""
    options: LayoutOptions = LayoutOptions()


class Hang(BaseException):
    """A case took too long; nothing that is tested may catch it."""


def drawn(form: str = "JPEG", mode: str = "RGB", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image = Image.linear_gradient("L").resize((40, 30)).convert(mode)
    image.save(buffer, form, **options)
    return buffer.getvalue()


def cub_of(pictures: Files) -> Files:
    ids = range(1, len(pictures) + 1)
    return {f"images/{name}": content for name, content in pictures.items()} | {
        "images.txt": "".join(f"{i} {n}\n" for i, n in zip(ids, pictures, strict=True)).encode(),
        "bounding_boxes.txt": "".join(f"{i} 1.5 2 30.0 20\n" for i in ids).encode(),
        "image_class_labels.txt": "".join(f"{i} {1 + i % 2}\n" for i in ids).encode(),
        "classes.txt": b"1 001.One\n2 002.Two\n",
        "train_test_split.txt": "".join(f"{i} {i % 2}\n" for i in ids).encode(),
        "parts/parts.txt": b"1 back\n2 left wing\n",
        "parts/part_locs.txt": b"1 1 5.0 6.5 1\n1 2 0.0 0.0 0\n2 2 7 8 1\n",
    }


def voc_xml(name: str) -> bytes:
    box = "<bndbox><xmin>11</xmin><ymin>6</ymin><xmax>30</xmax><ymax>25</ymax></bndbox>"
    return (
        f"<annotation><filename>{name}</filename><size><width>40</width><height>30</height>"
        f"<depth>3</depth></size><object><name>cat</name>{box}</object>"
        f"<object><name>dog</name>{box}</object></annotation>"
    ).encode()


def coco_json() -> bytes:
    images = [
        {"id": i, "file_name": f"{name}.jpg", "width": 40, "height": 30}
        for i, name in enumerate("ab")
    ]
    annotation = {"category_id": 3, "bbox": [5, 6.5, 20, 10], "iscrowd": 0, "area": 200}
    keypoints = {"keypoints": [7, 8, 2, 0, 0, 0], "num_keypoints": 1}
    annotations = [annotation | {"id": i, "image_id": i % 2} | keypoints for i in range(3)]
    categories = [{"id": 3, "name": "cat", "keypoints": ["nose", "tail"], "skeleton": [[1, 2]]}]
    return json.dumps(
        {"images": images, "annotations": annotations, "categories": categories}
    ).encode()


def cars_mats() -> Files:
    fields = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")
    rows = np.zeros((1, 2), [(name, object) for name in fields])
    for index in range(2):
        rows[0, index] = (*map(np.uint16, (11, 6, 30, 25)), np.uint8(1), f"{'ab'[index]}.jpg")
    names = np.empty((1, 1), object)
    names[0, 0] = "Audi A"

    def saved(**variables: Any) -> bytes:
        buffer = io.BytesIO()
        savemat(buffer, variables)
        return buffer.getvalue()

    return {
        "cars_train_annos.mat": saved(annotations=rows),
        "cars_meta.mat": saved(class_names=names),
    }


def parquet_table() -> bytes:
    rows = [
        {"image": f"{name}.jpg", "x": 5, "y": 6.5, "width": 20, "height": 10, "class": "cat"}
        for name in "ab"
    ]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def subjects() -> Iterator[Subject]:
    """One of each kind."""
    both = {"a.jpg": drawn(), "b.jpg": drawn(mode="L")}
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, content in {
        "jpeg": drawn(exif=exif),
        "progressive": drawn(progressive=True),
        "png": drawn("PNG"),
        "palette": drawn("PNG", "P"),
        "gif": drawn("GIF"),
        "webp": drawn("WEBP"),
        "lossless": drawn("WEBP", "RGBA", lossless=True),
        "tiff": drawn("TIFF", compression="tiff_lzw"),
        "bmp": drawn("BMP"),
    }.items():
        yield Subject(name, "cub", cub_of({"a.jpg": drawn(), "x": content}), ("images/x",))
    texts = {name: data for name, data in cub_of(both).items() if name.endswith(".txt")}
    yield Subject("cub", "cub", cub_of(both), tuple(texts))
    xmls = {f"Annotations/{name}.xml": voc_xml(f"{name}.jpg") for name in "ab"}
    jpegs = {f"JPEGImages/{name}": content for name, content in both.items()}
    lists = {"ImageSets/Main/train.txt": b"a\n", "ImageSets/Main/val.txt": b"b\n"}
    yield Subject("voc", "voc", xmls | jpegs | lists, (*xmls, *lists))
    breed = "n02110958-pug"
    dogs = {f"Annotation/{breed}/n02110958_{i}": voc_xml("%s") for i in range(2)}
    images = {f"Images/{breed}/n02110958_{i}.jpg": drawn() for i in range(2)}
    yield Subject("dogs", "dogs", dogs | images, tuple(dogs))
    images = {f"images/{name}": content for name, content in both.items()}
    yield Subject("coco", "coco", images | {"all.json": coco_json()}, ("all.json",))
    labels = {f"labels/{name}.txt": b"0 0.5 0.5 0.25 0.5\n1 0.2 0.2 0.1 0.1\n" for name in "ab"}
    yaml = {"data.yaml": b"train: images\nnames:\n  0: cat\n  1: dog\n"}
    yield Subject("yolo", "yolo", images | labels | yaml, (*labels, *yaml))
    header = b"image,x,y,width,height,class,split\n"
    table = {"t.csv": header + b'images/a.jpg,5,6.5,20,10,"a, cat",train\nimages/b.jpg,1,1,9,9,,\n'}
    yield Subject("csv", "csv", images | table, tuple(table))
    table = {"t.parquet": parquet_table()}
    folder = LayoutOptions(image_folder="images")
    yield Subject("parquet", "csv", images | table, tuple(table), folder)
    mats = cars_mats()
    cars = {f"cars_train/{name}": content for name, content in both.items()}
    yield Subject("cars", "cars", cars | mats, tuple(mats))


TOKENS = (
    *(
        b"",
        b"\0",
        b"\xff",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
        b"\r\n",
        b"\r",
        b"\t",
        b" ",
        b'"',
        b"'",
    ),
    *(b"<", b">", b"&", b"&x;", b"]]>", b"<!--", b"{", b"}", b"[", b"]", b":", b",", b"\\ud800"),
    *(b"..", b"/etc/passwd", b"-1", b"0", b"1e999", b"-1e308", b"NaN", b"Infinity", b"null"),
    *(b"true", b"99999999999999999999", b"9" * 5000, b"\xd9\xa3", b"\xe2\x80\xa8", b"%s"),
    *(b"[" * 3000, b"<a>" * 3000, b"<!DOCTYPE a [<!ENTITY x 'xx'>]>", b"a: &a [*a]\n"),
)


def mutate(data: bytes, random: Random) -> bytes:
    """The same bytes with one to four kinds of damage."""
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        data = random.choice(DAMAGES)(data, random)
    return data


def change_bytes(data: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 3, 20))):
        if changed:
            changed[random.randrange(len(changed))] = random.randrange(256)
    return bytes(changed)


def flip_bit(data: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    if changed:
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def cut(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def remove(data: bytes, random: Random) -> bytes:
    start, end = sorted(random.randrange(len(data) + 1) for _ in range(2))
    return data[:start] + data[min(end, start + random.choice((1, 4, 64, 4096))) :]


def repeat(data: bytes, random: Random) -> bytes:
    start, end = sorted(random.randrange(len(data) + 1) for _ in range(2))
    return data[:end] + data[start:end] * random.choice((1, 1, 3)) + data[end:]


def insert(data: bytes, random: Random) -> bytes:
    place = random.randrange(len(data) + 1)
    return data[:place] + random.choice(TOKENS) + data[place:]


def replace_word(data: bytes, random: Random) -> bytes:
    """One of its runs of letters and digits is another token, or another run of its own."""
    words = [b for b in _runs(data) if b[1] > b[0]]
    if not words:
        return insert(data, random)
    start, end = random.choice(words)
    other = random.choice(words)
    new = random.choice((random.choice(TOKENS), data[other[0] : other[1]]))
    return data[:start] + new + data[end:]


def end_lines_as_old_macs(data: bytes, random: Random) -> bytes:
    """All lines from one on, often the first, end with a lone carriage return."""
    start = random.choice((0, random.randrange(len(data) + 1)))
    return data[:start] + data[start:].replace(b"\r\n", b"\n").replace(b"\n", b"\r")


def _runs(data: bytes) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(rb"[\w.+-]+", data)]


DAMAGES = (
    *(change_bytes, flip_bit, cut, remove, repeat, insert, replace_word, replace_word),
    end_lines_as_old_macs,
)


def damaged(subject: Subject, random: Random) -> Files:
    """Its files, one of them damaged; the same for the same state of ``random``."""
    target = random.choice(subject.targets)
    return subject.files | {target: mutate(subject.files[target], random)}


def run_case(subject: Subject, files: Files, layout: str, folder: Path) -> Outcome:
    """Read a source, and check that it ends as it must.

    Args:
        subject: What it was.
        files: What it is.
        layout: How it is to be read: the subject's, or "auto".
        folder: To work in; what is in it is deleted.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        path = folder / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    place, out = Place(folder / "source"), Place(folder / "set")
    with time_limit(), no_warnings():
        try:
            listing = read_source(place, layout, subject.options)
            plan = Plan(place=place, listing=listing, files=place.files())
            info = ingest(plan, out)
        except DataError as error:
            refusal = str(error)
        else:
            refusal = None
            dataset = open_dataset(out.path)
            for row in dataset:
                picture = decode_picture(row.image, row.source)
                assert picture.size == (row.width, row.height)
                assert row.box.area > 0
    if refusal is not None:
        assert refusal, "an error says something"
        assert "\n" not in refusal
        assert sorted(path.name for path in folder.iterdir()) == ["source"]
        return "refused"
    assert dataset.info == info
    assert info.count + len(info.rejects) == len(listing.entries), "each picture is accounted for"
    assert all(reject.source and reject.reason for reject in info.rejects)
    assert not any("\n" in reject.reason for reject in info.rejects)
    return "rejects" if info.rejects else "whole"


def cases(
    count: int, seed: int, weights: Callable[[Subject], int]
) -> Iterator[tuple[int, Subject, Files, str]]:
    """Cases that depend on their number and the seed alone: number, subject, files and layout.

    Args:
        count: Of cases.
        seed: Of all damage.
        weights: How often a subject is taken.
    """
    every = [subject for subject in subjects() for _ in range(weights(subject))]
    for number in range(count):
        random = Random(f"{seed}-{number}")
        subject = random.choice(every)
        layout = "auto" if random.random() < 0.3 else subject.layout
        yield number, subject, damaged(subject, random), layout


def weight(subject: Subject) -> int:
    """MATLAB files are read by a process of their own, which takes half a second."""
    return 1 if subject.name == "cars" else 8


@contextmanager
def time_limit() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Hang(f"took more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def no_warnings() -> Iterator[None]:
    """Warnings and what libraries log are errors, but for Pillow's warnings.

    Those the command line ignores, too.
    """
    heard: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield
    finally:
        root.removeHandler(handler)
    assert not heard, heard
