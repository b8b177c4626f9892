"""Contact sheets of data sets, to look at what training will see."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from mixnmatch.data.looks import Look, Panel

_GAP = 4
_PAPER = (245, 245, 245)
_INK = (30, 30, 30)
_FAINT = (110, 110, 110)
_SHOWN_SIDE = 128
_FONT_SIZE = 11
_LINE = 14
_LINES = 3
_COLUMNS = 4
_LONGEST = 200
"""Characters of a text that are looked at to make it fit."""


def contact_sheet(looks: Sequence[Look]) -> Image.Image:
    """Pictures, each with its box, its keypoints and its two training views.

    Below each are its number and class, its split and size, and its remarks.

    Args:
        looks: What to show, at least one.
    """
    width = 3 * (_SHOWN_SIDE + _GAP) + 2 * _GAP
    height = _SHOWN_SIDE + _LINES * _LINE + 3 * _GAP
    columns = min(_COLUMNS, len(looks))
    sheet = Image.new("RGB", (columns * width, -(-len(looks) // columns) * height), _PAPER)
    for position, look in enumerate(looks):
        row, column = divmod(position, columns)
        sheet.paste(_cell(look), (column * width + _GAP, row * height + _GAP))
    return sheet


def _cell(look: Look) -> Image.Image:
    width = 3 * _SHOWN_SIDE + 2 * _GAP
    cell = Image.new("RGB", (width, _SHOWN_SIDE + _GAP + _LINES * _LINE), _PAPER)
    for position, panel in enumerate(look.panels or ()):
        cell.paste(_fitted(panel), (position * (_SHOWN_SIDE + _GAP), 0))
    draw, font = ImageDraw.Draw(cell), ImageFont.load_default(_FONT_SIZE)
    for line, text in enumerate(captions(look)):
        place = (0, _SHOWN_SIDE + _GAP + line * _LINE)
        draw.text(place, _cut(text, font, width), _FAINT if line else _INK, font=font)
    return cell


def captions(look: Look) -> tuple[str, str, str]:
    """Three lines about a picture: what it is, how large, and what is odd about it."""
    record = look.record
    share = look.object_share
    sizes = [
        record.split or "no split",
        f"{record.width}x{record.height} px",
        "object unknown" if share is None else f"object {100 * share:.0f} %",
    ]
    odd = [f"cannot be shown: {look.problem}"] if look.problem else []
    return (
        f"{record.id} · {look.class_title}",
        ", ".join(sizes),
        "; ".join([*odd, *record.remarks]),
    )


def _fitted(panel: Panel) -> Image.Image:
    """The panel on a square."""
    factor = _SHOWN_SIDE / max(panel.image.size)
    sides = (max(1, round(factor * side)) for side in panel.image.size)
    square = Image.new("RGB", (_SHOWN_SIDE, _SHOWN_SIDE), _PAPER)
    square.paste(panel.marked(*sides))
    return square


def _cut(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """As much of a text as fits, in one line."""
    line = " ".join(text.split())
    if len(line) <= _LONGEST and font.getlength(line) <= width:
        return line
    line = line[:_LONGEST]
    while font.getlength(f"{line}…") > width:
        line = line[:-1]
    return f"{line}…"
