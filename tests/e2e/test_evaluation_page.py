"""The page of ``mixnmatch evaluate --page`` in a browser, from a disk."""

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_evaluation import made_evaluation

from mixnmatch.metrics.page import evaluation_page

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(BROWSER is None, reason="needs chromium or google-chrome on the PATH"),
]
Ask = Callable[[int, str], Any]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """What an expression over ``page``, the page's document, gives in a window of some width.

    The page allows no script, so one around its frame asks.
    """

    def load(width: int, expression: str) -> Any:
        assert BROWSER is not None
        text = evaluation_page(made_evaluation(kind="cub"), model="a/model", data="data/birds")
        around = tmp_path / "around.html"
        around.write_text(
            f'<iframe width="{width}" height="800" srcdoc="{html.escape(text)}"></iframe>'
            '<pre id="answer"></pre><script>onload = () => {'
            "const frame = document.querySelector('iframe');"
            "const page = frame.contentDocument, view = frame.contentWindow;"
            f"answer.textContent = '@' + JSON.stringify({expression}) + '@';"
            "}</script>",
            encoding="utf-8",
        )
        done = subprocess.run(
            [
                BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
                f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", around.as_uri(),
            ],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        assert "CONSOLE" not in done.stderr, done.stderr
        answer = re.search('<pre id="answer">@(.*)@</pre>', done.stdout)
        assert answer, done.stdout[-2000:]
        return json.loads(html.unescape(answer[1]))

    return load


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_sticks_out(width: int, ask: Ask) -> None:
    sides = ask(width, "[page.documentElement.scrollWidth, page.documentElement.clientWidth]")
    assert sides[0] <= sides[1] <= width


def test_pictures_are_shown_as_they_are(ask: Ask) -> None:
    shown = ask(
        1280,
        "[...page.images].map(i => [i.complete, i.naturalWidth, i.clientWidth / i.clientHeight,"
        " view.getComputedStyle(i).imageRendering])",
    )
    assert shown[0] == [True, 24, pytest.approx(3, rel=0.01), "pixelated"]
    assert shown[1] == [True, 1600, pytest.approx(1600 / 700, rel=0.01), "auto"]


def test_every_text_of_the_heat_map_can_be_read(ask: Ask) -> None:
    """The contrast of ink and shade, as WCAG has it, in the light and in the dark."""
    for scheme in ("light", "dark"):
        contrasts = ask(
            1280,
            f"""(() => {{
              page.documentElement.style.colorScheme = '{scheme}';
              const canvas = document.createElement('canvas')
                .getContext('2d', {{willReadFrequently: true}});
              const light = colour => {{
                canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
                const parts = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3)
                  .map(v => v / 255).map(v => v > .04045 ? ((v + .055) / 1.055) ** 2.4 : v / 12.92);
                return .2126 * parts[0] + .7152 * parts[1] + .0722 * parts[2];
              }};
              return [...page.querySelectorAll('table.heat td')].map(cell => {{
                const style = view.getComputedStyle(cell);
                const both = [light(style.color), light(style.backgroundColor)];
                return (Math.max(...both) + .05) / (Math.min(...both) + .05);
              }});
            }})()""",
        )
        assert len(contrasts) == 16 + 90
        assert min(contrasts) >= 4.5, scheme
        assert max(contrasts) > 1.5 * min(contrasts), "shades differ"


def test_wide_tables_are_reached_with_the_keyboard(ask: Ask) -> None:
    wide = ask(
        390,
        "[...page.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth)"
        ".map(e => [e.tabIndex, e.ariaLabel])",
    )
    assert [0, "Codes of classes"] in wide
    assert all(index == 0 for index, _ in wide)
