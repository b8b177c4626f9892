import numpy as np
import pytest
from PIL import Image, ImageDraw

from mixnmatch.drawing import fill_outlines, trim_paper
from mixnmatch.errors import DataError

GREY = (128, 128, 128)


def ring(gap: int = 0, paper: str = "white", ink: str = "black") -> Image.Image:
    """A circle of radius 60 about (120, 90), on a page of 300x200, open at its right by a gap."""
    page = Image.new("RGB", (300, 200), paper)
    draw = ImageDraw.Draw(page)
    draw.ellipse((60, 30, 180, 150), outline=ink, width=3)
    if gap:
        draw.rectangle((170, 90 - gap // 2, 190, 90 + (gap - 1) // 2), fill=paper)
    return page


@pytest.mark.parametrize(
    ("paper", "ink"), [("white", "black"), ("black", "white"), ("tan", "navy")]
)
def test_what_lines_enclose_is_filled(paper: str, ink: str) -> None:
    drawing = ring(paper=paper, ink=ink)
    filled = fill_outlines(drawing, "x")
    grey = (np.asarray(filled) == GREY).all(axis=2)
    assert abs(grey.sum() / (np.pi * 57**2) - 1) < 0.05
    # Lines and paper stay as they were.
    assert np.array_equal(np.asarray(filled)[~grey], np.asarray(drawing)[~grey])
    assert grey[90, 120]
    assert not grey[5, 5]


def test_small_gaps_are_taken_as_closed() -> None:
    assert fill_outlines(ring(gap=3), "x").getpixel((120, 90)) == GREY
    with pytest.raises(DataError, match=r"^x: the lines enclose nothing"):
        fill_outlines(ring(gap=30), "x")
    with pytest.raises(DataError, match=r"^x: the lines enclose nothing"):
        fill_outlines(Image.new("RGB", (40, 30), "white"), "x")


def test_a_trimmed_drawing_fills_two_thirds_of_its_square() -> None:
    trimmed = trim_paper(ring(), "x")
    assert trimmed.size == (182, 182)
    lines = np.argwhere(np.asarray(trimmed)[..., 0] < 128)
    assert lines.min(axis=0).tolist() == pytest.approx([30, 30], abs=1)
    assert lines.max(axis=0).tolist() == pytest.approx([150, 150], abs=1)
    # Beyond the page there is more of its paper.
    corner = Image.new("RGB", (50, 50), "tan")
    corner.paste("black", (0, 0, 20, 10))
    assert trim_paper(corner, "x").getpixel((0, 0)) == corner.getpixel((49, 49))
    with pytest.raises(DataError, match=r"^x: no lines"):
        trim_paper(Image.new("RGB", (50, 50), "tan"), "x")
