"""Pages that stand alone: one HTML file with its own style and script, that asks for nothing else.

Their Content-Security-Policy lets no other style or script in. It forbids ``style="…"`` and
``onclick="…"``, too: give classes to elements, and attributes to those of SVG.
"""

import base64
import hashlib
import io
import json
from html import escape
from typing import Any

from PIL import Image

__all__ = ["embedded_json", "escape", "exact_uri", "jpeg", "page", "picture_uri"]

_LOSSLESS = 1_000_000
"""Pixels up to which ``exact_uri`` loses nothing."""

_BASE_STYLE = """
:root {
  color-scheme: light dark;
  --paper: light-dark(#f6f6f4, #16181b);
  --card: light-dark(#ffffff, #212429);
  --ink: light-dark(#1c1f23, #e9e9e6);
  --faint: light-dark(#5a6067, #a6acb4);
  --line: light-dark(#d5d8dc, #3b4048);
  --accent: light-dark(#0b57b0, #86bbff);
  --warn: light-dark(#8a4b00, #ffc069);
  --box: #ff2878;
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 100rem; padding: 1rem;
  font: 1rem/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper);
}
h1 { font-size: 1.4rem; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 1.5rem 0 .5rem; }
a { color: var(--accent); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
table { border-collapse: collapse; width: 100%; }
th, td {
  text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere;
}
img { display: block; max-width: 100%; height: auto; }
.faint { color: var(--faint); }
.warn { color: var(--warn); }
"""


def page(title: str, body: str, *, style: str = "", script: str = "", images: str = "data:") -> str:
    """A whole page; what cannot be written as UTF-8, such as half a character, is a ``?`` in it.

    Args:
        title: Plain text; it is escaped here, and not repeated as a heading.
        body: HTML; whatever comes from data must be escaped already (``escape``).
        style: CSS after the common one, which sets fonts, tables and the colours ``--paper``,
            ``--card``, ``--ink``, ``--faint``, ``--line``, ``--accent``, ``--warn`` and ``--box``
            for light and dark.
        script: JavaScript, run once the body is there.
        images: Where pictures may come from, as Content-Security-Policy says it.
    """
    style = _BASE_STYLE + style
    policy = "; ".join(
        [
            "default-src 'none'",
            f"img-src {images}",
            f"style-src {_source(style)}",
            "script-src " + (_source(script) if script else "'none'"),
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    text = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{style}</style>
</head>
<body>
{body}
{f"<script>{script}</script>" if script else ""}
</body>
</html>
"""
    return text.encode("utf-8", "replace").decode("utf-8")


def embedded_json(name: str, value: Any) -> str:
    """Data for a page's script: an element of this id whose text is JSON; data need no escape."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    text = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return f'<script type="application/json" id="{escape(name)}">{text}</script>'


def jpeg(image: Image.Image, quality: int = 80) -> bytes:
    """An RGB picture as JPEG; equal pixels give equal bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def picture_uri(image: Image.Image, quality: int = 80) -> str:
    """An RGB picture as a ``data:`` URI, for the ``src`` of an ``img``."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg(image, quality)).decode()


def exact_uri(image: Image.Image) -> str:
    """As ``picture_uri``, but without loss where that is not megabytes."""
    if image.width * image.height > _LOSSLESS:
        return picture_uri(image, quality=90)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _source(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
