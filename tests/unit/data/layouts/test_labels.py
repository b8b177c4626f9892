"""A label file that cannot be read: whose fault it is."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from annotated import PICTURE, annotation, listing_of, write

from mixnmatch.data.layouts.known import read_source
from mixnmatch.data.layouts.listing import LayoutOptions
from mixnmatch.data.places import Place
from mixnmatch.errors import RunError

ONE = annotation(("cat", (11, 6, 30, 25)))
PUG = "n02110958-pug/n02110958_"
LINE = "0 0.5 0.5 0.25 0.2\n"
SOURCES: dict[str, tuple[str, dict[str, Any]]] = {
    "voc": (
        "b.xml",
        {"a.xml": ONE, "a.jpg": PICTURE, "b.xml": ONE.replace("a.jpg", "b.jpg"), "b.jpg": PICTURE},
    ),
    "dogs": (
        "_2",
        {f"Annotation/{PUG}{number}": ONE for number in (1, 2)}
        | {f"Images/{PUG}{number}.jpg": PICTURE for number in (1, 2)},
    ),
    "yolo": ("b.txt", {"a.txt": LINE, "a.jpg": PICTURE, "b.txt": LINE, "b.jpg": PICTURE}),
}
"""The end of the name of one label file, and a source with two of them."""


def failing(error: OSError, end: str) -> Callable[[Place, str], bytes]:
    """``Place.read``, but this error where the path ends like that."""
    whole = Place.read

    def read(place: Place, path: str) -> bytes:
        if path.endswith(end):
            raise error
        return whole(place, path)

    return read


@pytest.mark.parametrize("layout", SOURCES)
def test_one_that_may_not_be_read_leaves_out_its_picture(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end, contents = SOURCES[layout]
    write(tmp_path, **contents)
    monkeypatch.setattr(Place, "read", failing(PermissionError(13, "Permission denied"), end))
    for how in (layout, "auto"):
        first, second = listing_of(tmp_path, how).entries
        assert first.problem is None
        assert (second.problem or "").endswith("cannot be read ([Errno 13] Permission denied)")


@pytest.mark.parametrize("how", ["auto", "named"])
@pytest.mark.parametrize("layout", SOURCES)
def test_a_failing_disk_makes_no_picture_bad(
    layout: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end, contents = SOURCES[layout]
    write(tmp_path, **contents)
    monkeypatch.setattr(Place, "read", failing(OSError(5, "Input/output error"), end))
    with pytest.raises(RunError, match=rf"{end}: cannot be read \(.*Input/output error\)$"):
        listing_of(tmp_path, "auto" if how == "auto" else layout)


@pytest.mark.parametrize("layout", SOURCES)
def test_a_source_that_goes_away_makes_no_picture_bad(layout: str, tmp_path: Path) -> None:
    _, contents = SOURCES[layout]
    place = Place(write(tmp_path / "source", **contents))
    files = dict(place.files())
    shutil.move(tmp_path / "source", tmp_path / "unmounted")
    for how in (layout, "auto"):
        with pytest.raises(RunError, match=r"no such file, but it was there when the work began$"):
            read_source(place, how, LayoutOptions(), files)
