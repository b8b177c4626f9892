import random
from pathlib import Path

import pytest
from annotated import PICTURE, annotation, listing_of, rows, write

from mixnmatch.data.layouts.xml import MOST_BYTES, parse
from mixnmatch.data.records import Record, Reject

ONE = annotation(("cat", (11, 6, 30, 25)))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not well-formed XML (no element found"),
        (ONE.encode()[:100], "not well-formed XML"),
        (b"\x00\x01\x02", "not well-formed XML"),
        (b"<annotation>\xff</annotation>", "not utf-8 text"),
        (b"<annotations/>", "its root is <annotations>, not <annotation>"),
        (b"<?xml version='1.0' encoding='zip'?><annotation/>", "encoding 'zip' is not read"),
    ],
)
def test_xml_that_cannot_be_read_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    write(tmp_path, **{"a.xml": ONE, "a.jpg": PICTURE, "b.xml": content, "b.jpg": PICTURE})
    first, second = rows(tmp_path)
    assert isinstance(first, Record)
    assert isinstance(second, Reject)
    assert second.source == "b.xml"
    assert second.reason.startswith(f"{tmp_path}/b.xml: ")
    assert reason in second.reason
    assert listing_of(tmp_path).notes == [], "b.jpg is not said to have no XML"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gbk", "iso-8859-1", "us-ascii"])
def test_encodings_of_old_programs_are_read(tmp_path: Path, encoding: str) -> None:
    name = {"gbk": "猫", "us-ascii": "cat"}.get(encoding, "é")
    declared = encoding.removesuffix("-sig")
    text = f'<?xml version="1.0" encoding="{declared}"?>\n' + ONE.replace("cat", name)
    write(tmp_path, **{"a.xml": text.encode(encoding), "a.jpg": PICTURE})
    assert listing_of(tmp_path).class_names == (name,)


LAUGHS = "<!DOCTYPE z [<!ENTITY a0 'ha'>" + "".join(
    f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(12)
)
BOMBS = {
    "billion laughs": LAUGHS + "]><annotation>&a12;</annotation>",
    "chain of entities": "<!DOCTYPE z [<!ENTITY e0 'x'>"
    + "".join(f'<!ENTITY e{n + 1} "&e{n};">' for n in range(50_000))
    + "]><annotation>&e50000;</annotation>",
    "another file": '<!DOCTYPE z [<!ENTITY x SYSTEM "file:///etc/hostname">]>'
    "<annotation><filename>&x;</filename></annotation>",
    "deep": "<a>" * 1_000_000,
    "deep and closed": "<a>" * 400_000 + "</a>" * 400_000,
}


@pytest.mark.timeout(10)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_are_harmless(bomb: str, encoding: str) -> None:
    with pytest.raises(ValueError, match="is not read") as caught:
        parse(BOMBS[bomb].encode(encoding))
    assert "document type" in str(caught.value) or "nested deeper" in str(caught.value)


@pytest.mark.timeout(10)
def test_a_file_too_large_for_an_annotation_is_not_read(tmp_path: Path) -> None:
    large = ONE + " " * MOST_BYTES
    write(tmp_path, **{"a.xml": ONE, "a.jpg": PICTURE, "b.xml": large})
    _, second = rows(tmp_path)
    assert isinstance(second, Reject)
    assert f"{len(large)} bytes are no annotation: at most {MOST_BYTES}" in second.reason


def test_mutated_xml_is_an_annotation_or_one_line(tmp_path: Path) -> None:
    draw = random.Random(4)
    for number in range(200):
        name = f"{number:03}"
        content = bytearray(annotation(("x", (1, 1, 5, 5)), filename=f"{name}.jpg").encode())
        for _ in range(draw.choice([0, 1, 2, 8])):
            at = draw.randrange(len(content))
            new = draw.choice([b"", b"<", b"/>", b"-", b"1e9", b"nan", b"&", b"\xff", b"\0"])
            content[at : at + draw.choice([0, 1, 9])] = new
        write(tmp_path, **{f"xml/{name}.xml": bytes(content), f"images/{name}.jpg": PICTURE})
    found = rows(tmp_path, "voc")
    assert len(found) == 200
    rejects = [row for row in found if isinstance(row, Reject)]
    assert 40 < len(rejects) < 160
    assert all("\n" not in reject.reason for reject in rejects)
    assert all(Path(reject.source).stem in reject.reason for reject in rejects)
