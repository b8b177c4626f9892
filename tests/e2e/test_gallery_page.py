"""The gallery of ``mixnmatch data view`` in a browser, from a disk."""

import io
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from mixnmatch import cli
from mixnmatch.data.records import Box, Record
from mixnmatch.data.store import Dataset, write_dataset

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(BROWSER is None, reason="needs chromium or google-chrome on the PATH"),
]
Browse = Callable[..., str]


@pytest.fixture
def browse(tmp_path: Path) -> Browse:
    """The page as its script has made it."""

    def load(page: Path, state: str = "") -> str:
        assert BROWSER is not None
        done = subprocess.run(
            [
                BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
                f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", f"{page.as_uri()}#{state}",
            ],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        assert "CONSOLE" not in done.stderr, done.stderr
        return done.stdout

    return load


class Cards(HTMLParser):
    """Texts of the elements that have a class, card by card."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cards: list[dict[str, str]] = []
        self.rects: list[dict[str, str | None]] = []
        self.name = ""
        self.feed(re.sub(r"<template.*?</template>", "", text, flags=re.DOTALL))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.name = dict(attrs).get("class") or ""
        if tag == "article":
            self.cards.append({})
        if tag == "rect":
            self.rects.append(dict(attrs))

    def handle_data(self, data: str) -> None:
        if self.cards and self.name:
            self.cards[-1].setdefault(self.name, data)


def test_a_box_that_is_none(tmp_path: Path, browse: Browse) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30)).save(buffer, "PNG")
    boxes = [Box(float("nan"), 5, 20, 15), Box(0, 0, 4, 4), Box(5, 5, 30, 20)]
    records = [
        Record(id=i, source=f"{i}.png", image=buffer.getvalue(), width=40, height=30, box=box)
        for i, box in enumerate(boxes)
    ]
    write_dataset(records, tmp_path / "set", kind="cub")
    page = tmp_path / "g.html"
    command = ["data", "view", str(tmp_path / "set"), "--out", str(page), "--image-size", "32"]
    assert cli.main(command) == 0
    bad = Cards(browse(page)).cards[0]
    assert (bad["box"], bad["share"]) == ("no number, 5, 20, 15", "unknown")
    assert bad["problem warn"].startswith("cannot be shown: 0.png: box (nan, 5, 20, 15)")
    for order, ids in (("small", ["1", "2", "0"]), ("large", ["2", "1", "0"])):
        assert [card["id"] for card in Cards(browse(page, f"sort={order}")).cards] == ids
    assert "1 to 1 of 1 picture<" in browse(page, "text=1.png")


@pytest.mark.parametrize("name", ["g.html", "g/"])
def test_the_filters(name: str, tiny_dataset: Dataset, tmp_path: Path, browse: Browse) -> None:
    data = ["data", "view", str(tiny_dataset.path), "--image-size", "32"]
    assert cli.main([*data, "--out", f"{tmp_path}/{name}", "--count", "30"]) == 0
    page = tmp_path / name
    page = page / "index.html" if page.is_dir() else page
    cards = Cards(browse(page)).cards
    assert len(cards) == 24, "one page of cards"
    assert len(Cards(browse(page, "page=2")).cards) == 6
    judges = browse(page, "split=judge&sort=large")
    found = Cards(judges).cards
    shares = [float(card["share"].split()[0]) for card in found]
    assert {card["split"] for card in found} == {"judge"}
    assert shares == sorted(shares, reverse=True)
    assert f"1 to {len(found)} of {len(found)} pictures" in judges
    wanted = cards[3]
    (one,) = Cards(browse(page, f"text={wanted['class'].replace(' ', '+')}&page=9")).cards[:1]
    assert one["class"] == wanted["class"]
    assert "No picture is like that" in browse(page, "text=%00nothing")
    record = next(record for record in tiny_dataset if str(record.id) == cards[0]["id"])
    assert cards[0]["box"] == ", ".join(f"{value:g}" for value in record.box)
    rect = Cards(browse(page)).rects[0]
    names = ("x", "y", "width", "height")
    assert [float(rect[name] or "nan") for name in names] == pytest.approx(record.box, abs=0.01)
