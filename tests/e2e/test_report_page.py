"""The page of ``platform report`` in a browser, from a disk."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_experiment import ACCURACY, BEST, DISTANCE, FAILED, FRONT, OTHERWISE, Made, made_sweep
from playwright.sync_api import Browser, Page, expect, sync_playwright

from mixnmatch_platform import cli

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium or google-chrome on the PATH"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return made_sweep(tmp_path_factory.mktemp("runs"), pictures=1)


@pytest.fixture(scope="module")
def file(made: Made) -> Path:
    out = made.home / "report.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert cli.main(["report", "made", "--home", str(made.home), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=["light", "dark"])
def page(browser: Browser, file: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page, which asks for nothing and breaks no policy of its own."""
    page = browser.new_page(color_scheme=request.param)
    faults: list[str] = []
    asked: list[str] = []
    page.on("console", lambda said: faults.append(said.text))
    page.on("request", lambda each: asked.append(each.url))
    page.goto(file.as_uri())
    yield page
    page.close()
    assert faults == []
    assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]


def test_nothing_sticks_out(page: Page) -> None:
    for width in (320, 390, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    hidden = page.locator(".scroll:not([tabindex='0'])")
    assert hidden.count() == 0, "what scrolls is reached with the keyboard"


def test_the_trade_off_names_each_run_on_focus(page: Page) -> None:
    chart = page.locator("svg.chart").first
    assert chart.locator("polyline.front").count() == 1
    assert chart.locator(".chance").count() == 1, "of the accuracy; the distance knows none"
    marks = chart.locator(".mark")
    assert marks.count() == 12, "neither failed runs nor those of other protocols"
    best = chart.locator(".mark.best title").all_text_contents()
    assert {said.partition(":")[0] for said in best} == FRONT
    ordinary = chart.locator(".mark:not(.best)").first
    name = ordinary.locator(".name")
    assert name.evaluate("e => getComputedStyle(e).visibility") == "hidden"
    ordinary.focus()
    assert name.evaluate("e => getComputedStyle(e).visibility") == "visible"
    said = ordinary.get_attribute("aria-label") or ""
    assert said.startswith(f"{name.text_content()}: {DISTANCE}")
    assert ACCURACY in said


def test_marks_lie_where_the_figures_are(page: Page, made: Made) -> None:
    """Higher is more, to the left is less: the front is at the top left."""
    chart = page.locator("svg.chart").first
    places = {}
    for mark in chart.locator(".mark").all():
        circle = mark.locator("circle")
        name = (mark.get_attribute("aria-label") or "").partition(":")[0]
        places[name] = [float(circle.get_attribute(side) or "nan") for side in ("cx", "cy")]
    runs = made.client.search_runs([made.client.get_experiment_by_name("made").experiment_id])
    figures = {run.info.run_name: run.data.metrics for run in runs}
    names = list(places)
    assert sorted(names, key=lambda n: places[n][0]) == sorted(
        names, key=lambda n: figures[n][DISTANCE]
    )
    assert sorted(names, key=lambda n: -places[n][1]) == sorted(
        names, key=lambda n: figures[n][ACCURACY]
    )


def test_it_says_what_came_of_it(page: Page) -> None:
    summary = page.get_by_label("Summary")
    for part in (
        "15 runs: 14 finished, 1 failed",
        f"by {BEST}",
        "chance is 0.27",
        "trial-0003 and trial-0007 are the Pareto front",
        f"{ACCURACY} depends on model.super_categories, by 12 trials",
        f"No setting is seen to matter for {DISTANCE}",
        "Only the first are ranked",
    ):
        expect(summary).to_contain_text(part)
    failed = page.get_by_role("row").filter(has_text=FAILED).last
    expect(failed).to_contain_text("generator/pair = nan")
    promote = f"platform promote --experiment made --run {BEST} --metric {ACCURACY} --model made"
    expect(page.locator("pre").first).to_have_text(promote)


def test_curves_and_pictures_are_of_the_best(page: Page) -> None:
    charts = page.locator("svg.chart")
    assert charts.count() == 3
    lines = charts.nth(1).locator(".line")
    assert lines.count() == 12
    path = charts.nth(1).locator(".line.best path").first.get_attribute("d") or ""
    assert path.count(",") == 3, "untrained, after stage 1, after stage 2"
    shown = page.evaluate(
        "[...document.images].map(i => [i.complete, i.naturalWidth, i.clientWidth])"
    )
    assert [each[:2] for each in shown] == [[True, 96]] * 2, "of the best four, two have some"
    assert page.get_by_role("heading", name=BEST).count() == 1


def test_what_was_measured_otherwise_is_in_the_table_alone(page: Page) -> None:
    row = page.locator("table.runs tr").filter(has_text=OTHERWISE)
    expect(row).to_contain_text("measured otherwise")
    assert page.locator("svg").filter(has_text=OTHERWISE).count() == 0


def test_a_folder_is_no_page(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    report = ["report", "made", "--home", str(made.home), "--out", str(made.home)]
    assert cli.main(report) == 2
    assert "is a folder" in capsys.readouterr().err
