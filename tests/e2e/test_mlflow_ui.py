"""MLflow's own pages of a sweep: what they show without anything being set up in them."""

import json
import shutil
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from made_experiment import ACCURACY, BEST, DISTANCE, SETTINGS, Made, made_sweep
from mlflow_server import Server
from playwright.sync_api import Page, expect, sync_playwright

from mixnmatch_platform.views import view_address

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium or google-chrome on the PATH"),
]
PATIENCE = 60_000
"""Milliseconds."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return made_sweep(tmp_path_factory.mktemp("runs"), pictures=0)


@pytest.fixture(scope="module")
def ids(made: Made) -> dict[str, str]:
    """Ids of the runs by name."""
    experiment = made.client.get_experiment_by_name("made")
    runs = made.client.search_runs([experiment.experiment_id])
    return {run.info.run_name: run.info.run_id for run in runs}


@pytest.fixture(scope="module")
def server(made: Made) -> Iterator[str]:
    server = Server(made.home)
    server.start()
    yield server.uri
    server.stop()


@pytest.fixture(scope="module")
def page(server: str) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1700, "height": 1000}, base_url=server)
        page.set_default_timeout(PATIENCE)
        yield page
        browser.close()


def rows(page: Page) -> list[str]:
    """Names of the runs in the table, from above."""
    expect(page.locator(".ag-row").first).to_be_visible()
    links = page.locator(".ag-row a[href*='/runs/']")
    places = [(link.bounding_box() or {"y": 0.0}, link.inner_text()) for link in links.all()]
    return [name for _, name in sorted(places, key=lambda each: each[0]["y"])]


def test_the_table_folds_trials_below_their_sweep(page: Page, server: str) -> None:
    page.goto(f"{server}/#/experiments/1/runs?workflowType=machine_learning")
    expect(page.get_by_text("platform compare made")).to_be_visible()
    assert rows(page) == ["made"]
    page.locator(".ag-row button").first.click()
    expect(page.locator(".ag-row a[href*='/runs/']").nth(8)).to_be_visible()
    assert rows(page)[:2] == ["made", "trial-0014"]


def test_the_view_of_a_sweep_has_its_objectives_and_settings(page: Page, server: str) -> None:
    page.goto(view_address(server, "1", "made"))
    page.reload()  # of the address before it only the part behind the # differs
    head = page.locator(".ag-header")
    for column in (ACCURACY, DISTANCE, *SETTINGS):
        expect(head).to_contain_text(column)
    expect(page.get_by_role("button", name="made")).to_be_visible()
    found = [name for name in rows(page) if name.startswith("trial")]
    assert found[2:4] == [BEST, "trial-0007"], "after those of other protocols, by accuracy"


def test_the_charts_of_a_sweep_are_there_first(page: Page, server: str) -> None:
    page.goto(view_address(server, "1", "made", mode="CHART"))
    page.reload()
    cards = page.get_by_test_id("experiment-view-compare-runs-card")
    expect(cards.nth(2)).to_be_visible()
    expect(cards.nth(0)).to_contain_text(f"{DISTANCE} vs")
    expect(cards.nth(0).locator(".js-plotly-plot")).to_contain_text(ACCURACY)
    expect(cards.nth(1)).to_contain_text("Parallel Coordinates")
    picture = cards.nth(2).locator("img").first
    expect(picture).to_be_attached()
    page.wait_for_function("e => e.complete && e.naturalWidth > 0", arg=picture.element_handle())


def test_three_runs_compare_by_what_differs(page: Page, server: str, ids: dict[str, str]) -> None:
    three = quote(json.dumps([ids[name] for name in (BEST, "trial-0007", "trial-0000")]))
    page.goto(f"{server}/#/compare-runs?runs={three}&experiments=%5B%221%22%5D")
    expect(page.get_by_text("Comparing 3 Runs from 1 Experiment")).to_be_visible()
    plot = page.locator(".js-plotly-plot").first
    for name in (ACCURACY, *SETTINGS):
        expect(plot).to_contain_text(name)
    expect(page.get_by_role("tab", name="Scatter Plot")).to_be_visible()


def test_a_trial_says_what_it_is_and_shows_its_pictures(
    page: Page, server: str, ids: dict[str, str]
) -> None:
    page.goto(f"{server}/#/experiments/1/runs/{ids[BEST]}?workflowType=machine_learning")
    expect(page.get_by_text("A trial of the sweep")).to_be_visible()
    expect(page.get_by_role("columnheader", name="setting")).to_be_visible()
    page.goto(f"{server}/#/experiments/1/runs/{ids[BEST]}/model-metrics")
    page.locator("button:has-text('Add chart')").last.scroll_into_view_if_needed()
    expect(page.get_by_text("samples", exact=True)).to_be_visible()
    picture = page.locator("img[src*='get-artifact'], img[src^='blob:']").first
    expect(picture).to_be_attached()
    page.wait_for_function("e => e.complete && e.naturalWidth > 0", arg=picture.element_handle())
