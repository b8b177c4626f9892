import io
import json
import math
import re
from base64 import b64decode
from html.parser import HTMLParser

import numpy as np
import pytest
from made_evaluation import made_evaluation
from PIL import Image

from mixnmatch.config import MEASURES
from mixnmatch.metrics.charts import heat_map, interval_bar
from mixnmatch.metrics.figures import Figure
from mixnmatch.metrics.literature import table
from mixnmatch.metrics.measure import Exhibit, Table
from mixnmatch.metrics.page import evaluation_page
from mixnmatch.metrics.report import (
    CLEAR,
    GROUPS,
    UNCLEAR,
    WORSE,
    as_json,
    beside_chance,
    duration,
    headlines,
    shown,
    table_lines,
    time_line,
)


class Elements(HTMLParser):
    """Start tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def of(value: float, chance: float | None = 0.5, better: str | None = "higher") -> Figure:
    return Figure(value=value, low=value - 0.1, high=value + 0.1, chance=chance, better=better)


def test_every_group_is_described() -> None:
    assert tuple(GROUPS) == MEASURES


@pytest.mark.parametrize(
    ("figure", "words"),
    [
        (of(0.8), CLEAR),
        (of(0.2), WORSE),
        (of(0.55), UNCLEAR),
        (of(0.2, better="lower"), CLEAR),
        (of(0.8, better="lower"), WORSE),
        (of(float("nan")), UNCLEAR),
        (of(0.8, chance=None), ""),
        (of(0.8, better=None), ""),
        (Figure(value=0.8, chance=0.5, better="higher"), ""),
    ],
)
def test_a_figure_beside_chance(figure: Figure, words: str) -> None:
    assert beside_chance(figure) == words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456, "0.1235"), (123.456, "123.5"), (12345.6, "12,346"), (-0.00123, "-0.00123"),
        (0.0, "0"), (1e-6, "1.0e-06"), (float("nan"), "–"), (None, "–"), (float("inf"), "inf"),
    ],
)  # fmt: skip
def test_values_in_words(value: float | None, text: str) -> None:
    assert shown(value) == text


def test_times_in_words() -> None:
    assert duration(0.04) == "0.0 s"
    assert duration(99.9) == "99.9 s"
    assert duration(119.7) == "2 min 0 s"
    assert time_line({"codes": 1.0, "quality": 119.0}) == (
        "took 2 min 0 s: quality 1 min 59 s, codes 1.0 s"
    )


def test_the_table_of_a_terminal() -> None:
    evaluation = made_evaluation()
    lines = list(table_lines(evaluation))
    assert lines[0].split() == ["value", "95", "%", "interval", "chance", "of"]
    groups = [line for line in lines[1:] if not line.startswith(" ")]
    assert groups == ["quality", "diversity", "factors"]
    rows = {line.split()[0]: line for line in lines if line.startswith("  ")}
    assert list(rows)[:-1] != []
    assert {name for name in rows if name != "value"} == set(evaluation.figures)
    assert rows["fid_512"].split() == ["fid_512", "↓", "123.5", "119", "to", "131", "512"]
    assert rows["accuracy/background"].endswith("0.33  512")
    assert rows["accuracy/pose"].endswith("0.25 ≈  512")
    assert rows["accuracy/texture"].endswith("0.25 ✗  512")
    ends = {len(line) for line in rows.values() if line.endswith("512")}
    assert len(ends) == 1, "columns are aligned"


def test_json_is_strict_and_whole() -> None:
    evaluation = made_evaluation()
    table = json.loads(json.dumps(as_json(evaluation), allow_nan=False))
    assert list(table) == ["figures", "protocol", "seconds"]
    assert list(table["figures"]) == list(evaluation.figures)
    assert table["figures"]["memorised"]["value"] is None
    assert table["figures"]["accuracy/shape"] == {
        "group": "factors", "value": 0.55, "low": 0.55 - 0.03, "high": 0.55 + 0.03, "chance": 0.5,
        "count": 512, "better": "higher",
    }  # fmt: skip


def test_headlines_sum_up() -> None:
    figures = {
        "a/b": of(1.0), "unknown": of(math.nan), "neutral": of(1.0, better=None), "x": of(1.0),
        "y": of(1.0), "z": of(1.0),
    }  # fmt: skip
    assert headlines(figures, 2) == ["x", "y"]
    assert headlines(figures, 4) == ["x", "y", "z", "a/b"]
    assert headlines({}, 2) == []


def test_the_page_says_everything_and_nothing_is_markup() -> None:
    extra = Exhibit(title="<script>alert(1)</script>", caption='"&<b>', picture=None)
    text = evaluation_page(made_evaluation(extra=extra), model="<m>", data="d&d")
    page = Elements(text)
    words = "".join(page.text)
    assert "Evaluation of <m>" in words
    assert "On d&d. 512 generated pictures beside 1,500 real ones; seed 7." in words
    assert page.all("script") == []
    assert "<script>alert(1)</script>" in words
    for name in made_evaluation().figures:
        assert name in words
    assert {"better than chance", "worse than chance", "not told from chance"} <= set(page.text)
    assert "0123456789abcdef" * 4 in words
    assert not [tag for tag, attributes in page.tags if "style" in attributes]
    assert not re.search(r"\bnan\b", words)


def test_what_the_page_offers_to_those_who_do_not_see_it() -> None:
    page = Elements(evaluation_page(made_evaluation(kind="cub"), model="m", data="d"))
    for image in page.all("img"):
        assert image["alt"]
    for svg in page.all("svg"):
        assert svg["role"] == "img"
        assert "on a scale from" in svg["aria-label"]
    assert all(header["scope"] in ("col", "row") for header in page.all("th"))
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    links = [link["href"] for link in page.all("a") if link["href"].startswith("#")]
    assert links == ["#quality", "#diversity", "#factors", "#protocol"]
    assert {link[1:] for link in links} <= ids
    regions = [div for div in page.all("div") if div.get("role") == "region"]
    assert [(div["tabindex"], div["aria-label"]) for div in regions] == [
        ("0", "Leak matrix"), ("0", "Codes of classes"),
    ]  # fmt: skip


def test_published_numbers_stand_apart() -> None:
    known = "".join(
        Elements(evaluation_page(made_evaluation(kind="cub"), model="m", data="d")).text
    )
    assert "Of other protocols" in known
    for number in table("cub"):
        assert number.protocol in known
        assert number.source in known
    unknown = evaluation_page(made_evaluation(kind="folder"), model="m", data="d")
    assert "Of other protocols" not in unknown


def test_small_pictures_keep_their_pixels() -> None:
    page = Elements(evaluation_page(made_evaluation(), model="m", data="d"))
    small, large = page.all("img")
    assert small["class"] == "pixels"
    assert (small["width"], small["height"]) == (str(24 * 26), str(8 * 26))
    kind, _, data = small["src"].partition(",")
    assert kind == "data:image/png;base64"
    with Image.open(io.BytesIO(b64decode(data))) as picture:
        expected = made_evaluation().exhibits["quality"][0].picture
        assert expected is not None
        assert np.array_equal(np.asarray(picture), np.asarray(expected))
    assert "class" not in large
    assert large["src"].startswith("data:image/jpeg;base64,")


def test_no_exhibits_no_published_numbers_no_headlines() -> None:
    evaluation = made_evaluation()
    for exhibits in evaluation.exhibits.values():
        exhibits.clear()
    page = Elements(evaluation_page(evaluation, model="m", data="d"))
    assert page.all("img") == page.all("figure") == []


def marks(figure: Figure) -> dict[str, list[float]]:
    """Positions along the bar, by the class of what is drawn."""
    found = {}
    for tag, attributes in Elements(interval_bar(figure)).tags:
        if tag == "path":
            numbers = [float(each) for each in re.findall(r"-?[\d.]+", attributes["d"])]
            found[attributes["class"]] = numbers
        elif tag == "circle":
            found["value"] = [float(attributes["cx"])]
    return found


def test_an_interval_on_its_scale() -> None:
    drawn = marks(of(0.5, chance=0.25))
    left, _, right = drawn["scale"]
    assert drawn["value"][0] == pytest.approx((left + right) / 2)
    assert drawn["chance"][0] == pytest.approx(left + 0.25 * (right - left), abs=0.01)
    assert drawn["reach"][0] == pytest.approx(left + 0.4 * (right - left), abs=0.01)
    assert drawn["reach"][2] == pytest.approx(left + 0.6 * (right - left), abs=0.01)


@pytest.mark.parametrize("value", [-3.0, 0.0, 1e-5, 0.3, 250.0])
def test_every_mark_is_on_the_scale(value: float) -> None:
    drawn = marks(of(value, chance=1.0, better="lower"))
    left, _, right = drawn["scale"]
    for position in (*drawn["value"], drawn["chance"][0], drawn["reach"][0], drawn["reach"][2]):
        assert left <= position <= right


def test_nothing_is_drawn_of_what_is_not_known() -> None:
    assert interval_bar(Figure(value=0.5)) == ""
    assert interval_bar(of(float("nan"))) == ""
    assert "NaN" not in interval_bar(Figure(value=0.0, chance=0.0))


def test_a_heat_map_in_words_and_shades() -> None:
    values = np.array([[0.0, 0.44], [1.0, float("nan")]])
    text = heat_map(
        Table(
            rows=("a<", "b"), columns=("c", "d"), values=values,
            chance=np.array([[0.5, 0.5], [float("nan"), 0.5]]), corner="from → to",
        ),
        "Leaks",
    )  # fmt: skip
    page = Elements(text)
    assert [cell["class"] for cell in page.all("td")] == ["shade0", "shade4", "shade10", "shade0"]
    assert page.text == [
        "from → to", "c", "d", "a<", "0.00", "(0.50)", "0.44", "(0.50)", "b", "1.00", "–", "(0.50)",
    ]  # fmt: skip
