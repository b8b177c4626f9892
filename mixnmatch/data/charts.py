"""Charts as inline SVG, for pages that stand alone; their words are HTML, so that they are read."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float64

from mixnmatch.data.html import escape
from mixnmatch.data.words import counted

WIDTH, HEIGHT = 320, 130
_BASE = 110  # of the bars; the scale is below
_LEFT = 4

CHART_STYLE = """
.charts {
  display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr));
}
figure { margin: 0; padding: .8rem; background: var(--card); border: 1px solid var(--line); }
figure h3 { margin: 0 0 .3rem; }
figcaption { font-size: .9rem; color: var(--faint); }
svg { display: block; width: 100%; max-width: 32rem; height: auto; }
svg .bar { fill: var(--accent); }
svg .axis { stroke: var(--line); }
svg text { fill: var(--faint); font: 11px system-ui, sans-serif; }
"""


def histogram(
    title: str,
    values: Float64[np.ndarray, "N"],
    shown: Callable[[float], str],
    *,
    caption: str,
    ends: tuple[float, float] | None = None,
    bins: int = 20,
) -> str:
    """How often values occur.

    Args:
        title: Of the chart.
        values: To be counted, at least one.
        shown: A value in words.
        caption: What it tells, plain text.
        ends: Of the scale; by default from the smallest to the largest value.
        bins: Number of bars.
    """
    low, high = ends or (float(values.min()), float(values.max()))
    high = max(high, low + 1e-9)
    counts, _ = np.histogram(values, bins=bins, range=(low, high))
    least, tenth, middle, ninth, most = map(shown, np.quantile(values, (0, 0.1, 0.5, 0.9, 1)))
    spread = f"{least} to {most}, median {middle}; a tenth below {tenth}, a tenth above {ninth}"
    scale = [shown(low + share * (high - low)) for share in (0, 0.5, 1)]
    return bars(title, counts.tolist(), scale, caption=f"{spread}. {caption}")


def bars(title: str, heights: Sequence[int], scale: Sequence[str], *, caption: str) -> str:
    """A bar chart of numbers of pictures.

    Args:
        title: Of the chart.
        heights: Of the bars, not negative; at least one of them is above 0.
        scale: Words below it, spread from its left to its right end.
        caption: What it tells, plain text.
    """
    most = max(heights)
    highest = counted(most, "picture")
    step = (WIDTH - 2 * _LEFT) / len(heights)
    shapes = []
    for number, height in enumerate(heights):
        if not height:
            continue
        size = max(
            1.0,  # so that it is seen
            (_BASE - 14) * height / most,
        )
        shapes.append(
            f'<rect class="bar" x="{_LEFT + number * step:.2f}" y="{_BASE - size:.2f}" '
            f'width="{max(0.3, step - min(1.0, step / 4)):.2f}" height="{size:.2f}"/>'
        )
    words = []
    for number, word in enumerate(scale):
        share = number / max(1, len(scale) - 1)
        anchor = "start" if not number else "end" if number == len(scale) - 1 else "middle"
        words.append(
            f'<text x="{_LEFT + share * (WIDTH - 2 * _LEFT):.1f}" y="{HEIGHT - 5}" '
            f'text-anchor="{anchor}">{escape(word)}</text>'
        )
    label = f"{title}: bar chart, the highest bar is {highest}. {caption}"
    return (
        f"<figure><h3>{escape(title)}</h3>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">'
        f'<line class="axis" x1="0" y1="{_BASE}" x2="{WIDTH}" y2="{_BASE}"/>'
        f'<text x="{_LEFT}" y="10">{highest}</text>'
        f"{''.join(shapes)}{''.join(words)}</svg>"
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
