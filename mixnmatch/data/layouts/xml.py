"""Pascal VOC's XML, one small file for each picture, from whoever wrote it.

Files that are larger, deeper or cleverer than annotations are refused before they cost anything:
a document type, where all of XML's bombs and its reading of other files begin, is never looked at.
"""

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from mixnmatch.data.layouts.labels import read_label
from mixnmatch.data.layouts.listing import Annotation, Files, LayoutOptions
from mixnmatch.data.layouts.pixels import box_of_pixels
from mixnmatch.data.places import Place

MOST_BYTES = 4 * 2**20
"""Of an XML file; ten thousand objects need less."""
MOST_DEPTH = 32
"""Of its elements; annotations have four."""
_PIECE_CHARACTERS = 2**16
_SHOWN_CHARACTERS = 60
_ROOT = "annotation"
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_DECLARED = re.compile(rb"""<\?xml[^>]{1,100}?encoding\s*=\s*["']([\w.-]{1,20})["']""")
_ENCODINGS = {
    "utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin-1", "windows-1252", "cp1252",
    "gb2312", "gbk", "gb18030",
}  # fmt: skip


class VocAnnotation(NamedTuple):
    """What the XML of a picture says."""

    filename: str
    """Of the picture; empty where it is not said."""
    size: tuple[int, int] | None
    """Width and height of the picture, where they are said."""
    objects: tuple[Annotation, ...]
    """In the order of the file."""
    problem: str | None
    """Why an object cannot be used."""
    counts_from_zero: bool
    """Whether a box begins at pixel 0."""


def read_annotation(
    place: Place, files: Files, path: str, first_pixel: Literal[0, 1]
) -> VocAnnotation:
    """Read the XML of a picture.

    Args:
        place: Where it is.
        files: That are there.
        path: Of the XML.
        first_pixel: Number of a picture's first column and row.

    Raises:
        ValueError: If it is no annotation or may not be read; the message does not name it.
        RunError: As ``read_label``.
    """
    root = read_root(place, files, path)
    if root.tag != _ROOT:
        raise ValueError(f"not Pascal VOC's XML: its root is <{_short(root.tag)}>, not <{_ROOT}>")
    objects: list[Annotation] = []
    problem: str | None = None
    try:
        size = _size(root)
        for number, item in enumerate(root.findall("object"), start=1):
            objects.append(_object(item, number, first_pixel))
    except ValueError as error:
        size, problem = None, str(error)
    edges = [item.findtext(f"bndbox/{n}") for item in root.findall("object") for n in _CORNERS[:2]]
    return VocAnnotation(
        filename=(root.findtext("filename") or "").strip(),
        size=size,
        objects=tuple(objects),
        problem=problem,
        counts_from_zero=any((edge or "").strip() == "0" for edge in edges),
    )


def is_annotation(place: Place, files: Files, path: str) -> bool:
    """Whether a file is XML with Pascal VOC's root."""
    try:
        return read_root(place, files, path).tag == _ROOT
    except ValueError:
        return False


def from_zero(read: Mapping[str, VocAnnotation], options: LayoutOptions) -> list[str]:
    """A note of the boxes that do not begin where the layout counts from.

    Args:
        read: What XML files say, by their path.
        options: With the number of the first pixel.
    """
    odd = [path for path, annotation in read.items() if annotation.counts_from_zero]
    if not odd or options.first_pixel == 0:
        return []
    return [
        f"boxes that begin at pixel 0, where the first is number 1: in {len(odd)} of {len(read)} "
        f"XML files, such as {odd[0]}; they are taken to begin at the edge (if all of the source "
        "counts from 0, say that its first pixel is 0)"
    ]


def read_root(place: Place, files: Files, path: str) -> Element:
    """Parse an XML file; errors as of ``read_annotation``."""
    if files[path].size > MOST_BYTES:
        raise ValueError(f"{files[path].size} bytes are no annotation: at most {MOST_BYTES}")
    return parse(read_label(place, path))


def parse(content: bytes) -> Element:
    """Parse XML that nobody vouches for.

    Raises:
        ValueError: If it is malformed, of an encoding that is not known, has a document type or is
            nested too deeply.
    """
    text = _decoded(content)
    # Before the parser sees it, which cannot be stopped on its way through a piece of text.
    if "<!DOCTYPE" in text:
        raise ValueError("XML with a document type (<!DOCTYPE ...>) is not read: take it out")
    parser = ElementTree.XMLParser(target=_ShallowBuilder())
    try:
        for start in range(0, len(text), _PIECE_CHARACTERS):
            parser.feed(text[start : start + _PIECE_CHARACTERS])
        root: Element = parser.close()
    except ElementTree.ParseError as error:
        raise ValueError(f"not well-formed XML ({error})") from error
    return root


class _ShallowBuilder(ElementTree.TreeBuilder):
    """Builds no tree that is deeper than ``MOST_DEPTH``."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = 0

    def start(self, tag: str, attrs: dict[str, str], /) -> Element:
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise ValueError(f"XML nested deeper than {MOST_DEPTH} elements is not read")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> Element:
        self.depth -= 1
        return super().end(tag)


def _decoded(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    else:
        content = content.removeprefix(b"\xef\xbb\xbf")
        declared = _DECLARED.match(content)
        encoding = declared[1].decode("ascii", "replace").lower() if declared else "utf-8"
        if encoding not in _ENCODINGS:
            raise ValueError(f"XML in the encoding {encoding!r} is not read: save it as UTF-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"not {encoding} text ({error.reason} at byte {error.start})") from error


def _object(item: Element, number: int, first_pixel: Literal[0, 1]) -> Annotation:
    corners = item.find("bndbox")
    if corners is None:
        raise ValueError(f"object {number} has no <bndbox>")
    try:
        box = box_of_pixels([corners.findtext(name) for name in _CORNERS], first_pixel)
    except ValueError as error:
        raise ValueError(f"object {number}: {error}") from error
    return Annotation(box, class_name=(item.findtext("name") or "").strip() or None)


def _size(root: Element) -> tuple[int, int] | None:
    """Width and height; 0 stands for "not known" in this format."""
    texts = [root.findtext(f"size/{name}") for name in ("width", "height")]
    if None in texts:
        return None
    try:
        width, height = (float(text or "") for text in texts)
        if width < 0 or height < 0 or int(width) != width or int(height) != height:
            raise ValueError
    except (ValueError, OverflowError) as error:
        shown = " x ".join(repr(_short(text or "")) for text in texts)
        raise ValueError(f"<size> {shown} is not two whole numbers") from error
    return (int(width), int(height)) if width and height else None


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
