"""Further backgrounds, for data sets of more than eight."""

import numpy as np
from PIL import Image, ImageDraw

from mixnmatch.data.drawn.brushes import Colour, disc, gradient, image, noise


def planks(side: int, rng: np.random.Generator) -> Image.Image:
    """Upright boards of dark wood."""
    x = np.arange(side, dtype=np.float32)[None] / side
    grain = np.sin(2 * np.pi * (22 * x + 1.2 * noise(side, (3, 1), rng)))
    picture = image(
        gradient(side, (128, 88, 56), (116, 78, 48), rng) + 8 * grain.astype(np.float32)[..., None]
    )
    draw = ImageDraw.Draw(picture)
    for left in np.arange(rng.uniform(0, 0.2), 1, 0.2) * side:
        draw.line([(left, 0), (left, side)], fill=(70, 44, 28), width=max(1, side // 50))
    return picture


def tiles(side: int, rng: np.random.Generator) -> Image.Image:
    """Square tiles of pale mint."""
    picture = Image.new("RGB", (side, side), (150, 168, 158))
    draw = ImageDraw.Draw(picture)
    size, gap = side / 5, side / 50
    shift_x, shift_y = rng.uniform(0, size, size=2)
    for column in range(-1, 5):
        for row in range(-1, 5):
            x, y = column * size + shift_x, row * size + shift_y
            colour = _toned((200, 228, 212), int(rng.integers(-7, 8)))
            draw.rectangle((x, y, x + size - gap, y + size - gap), fill=colour)
    return picture


def cobbles(side: int, rng: np.random.Generator) -> Image.Image:
    """Round grey stones in rows."""
    picture = Image.new("RGB", (side, side), (66, 64, 64))
    draw = ImageDraw.Draw(picture)
    step = side / 7
    for row in range(9):
        shift = rng.uniform(0, step)
        for column in range(-1, 8):
            x, y = column * step + shift, row * step * 0.9
            width, height = rng.uniform(0.4, 0.47, size=2) * step
            colour = _toned((142, 138, 134), int(rng.integers(-14, 15)))
            draw.ellipse((x - width, y - height, x + width, y + height), fill=colour)
    return picture


def autumn(side: int, rng: np.random.Generator) -> Image.Image:
    """Fallen leaves on brown ground."""
    picture = image(gradient(side, (170, 122, 70), (146, 100, 54), rng))
    draw = ImageDraw.Draw(picture)
    colours = ((196, 128, 50), (178, 84, 44), (204, 160, 84), (120, 82, 44))
    for x, y in rng.uniform(0, side, size=(60, 2)):
        size, angle = rng.uniform(0.025, 0.05) * side, rng.uniform(0, np.pi)
        tips = [(1.3, angle), (0.55, angle + 1.6), (1.3, angle + np.pi), (0.55, angle - 1.6)]
        corners = [(x + size * r * np.cos(a), y + size * r * np.sin(a)) for r, a in tips]
        draw.polygon(corners, fill=colours[int(rng.integers(4))])
    return picture


def pines(side: int, rng: np.random.Generator) -> Image.Image:
    """Rows of dark firs."""
    picture = image(gradient(side, (84, 116, 104), (60, 92, 76), rng))
    draw = ImageDraw.Draw(picture)
    for row, colour in enumerate(((52, 88, 74), (40, 72, 60), (28, 56, 46))):
        foot = (0.5 + 0.25 * row) * side
        for x in np.arange(rng.uniform(-0.1, 0.05), 1.1, 0.17) * side:
            height, half = rng.uniform(0.34, 0.46) * side, 0.1 * side
            draw.polygon([(x - half, foot), (x, foot - height), (x + half, foot)], fill=colour)
        draw.rectangle((0, foot, side, side), fill=colour)
    return picture


def straw(side: int, rng: np.random.Generator) -> Image.Image:
    """Crossing stalks of dull yellow."""
    picture = image(gradient(side, (206, 178, 82), (186, 154, 62), rng))
    draw = ImageDraw.Draw(picture)
    for x, y in rng.uniform(-0.1, 1, size=(90, 2)) * side:
        length, lean = rng.uniform(0.15, 0.3) * side, rng.uniform(-0.8, 0.8)
        colour = (228, 206, 118) if rng.random() < 0.5 else (160, 128, 48)
        end = (x + length * np.sin(lean), y + length * np.cos(lean))
        draw.line([(x, y), end], fill=colour, width=max(1, side // 80))
    return picture


def paper(side: int, rng: np.random.Generator) -> Image.Image:
    """Ruled paper with a margin."""
    picture = image(gradient(side, (238, 234, 218), (228, 224, 206), rng))
    draw = ImageDraw.Draw(picture)
    width = max(1, side // 80)
    for y in np.arange(rng.uniform(0, 0.1), 1, 0.1) * side:
        draw.line([(0, y), (side, y)], fill=(150, 172, 206), width=width)
    x = rng.uniform(0.08, 0.2) * side
    draw.line([(x, 0), (x, side)], fill=(212, 130, 130), width=width)
    return picture


def slate(side: int, rng: np.random.Generator) -> Image.Image:
    """A blackboard with strokes of chalk."""
    picture = image(
        gradient(side, (56, 62, 60), (44, 50, 48), rng) + 7 * noise(side, (3, 4), rng)[..., None]
    )
    draw = ImageDraw.Draw(picture)
    for x, y in rng.uniform(0, 1, size=(9, 2)) * side:
        size = rng.uniform(0.05, 0.12) * side
        start = float(rng.uniform(0, 360))
        box = (x - size, y - size, x + size, y + size)
        draw.arc(box, start, start + 230, fill=(168, 176, 172), width=max(1, side // 70))
    return picture


def lavender(side: int, rng: np.random.Generator) -> Image.Image:
    """Rows of blossom that meet far away."""
    y = np.linspace(0.15, 1, side, dtype=np.float32)[:, None]
    x = np.linspace(-0.5, 0.5, side, dtype=np.float32)[None]
    rows = np.sin(2 * np.pi * (3.2 * x / y + rng.random()))
    field = gradient(side, (176, 164, 208), (142, 122, 184), rng)
    bloom = 20 * rows.astype(np.float32)[..., None] + 8 * noise(side, (14, 14), rng)[..., None]
    return image(field + bloom)


def embers(side: int, rng: np.random.Generator) -> Image.Image:
    """Dark red rock with glowing cracks."""
    rock = gradient(side, (92, 44, 38), (76, 32, 28), rng)
    cracks = np.clip(1 - 7 * np.abs(noise(side, (5, 5), rng)), 0, 1)[..., None]
    return image(rock + (np.array((214, 112, 50), dtype=np.float32) - rock) * cracks)


def rain(side: int, rng: np.random.Generator) -> Image.Image:
    """Slanting streaks on a grey blue."""
    picture = image(gradient(side, (92, 108, 126), (118, 132, 146), rng))
    draw = ImageDraw.Draw(picture)
    for x, y in rng.uniform(-0.1, 1, size=(60, 2)) * side:
        length = rng.uniform(0.06, 0.14) * side
        end = (x + 0.4 * length, y + length)
        draw.line([(x, y), end], fill=(172, 188, 202), width=max(1, side // 110))
    return picture


def city(side: int, rng: np.random.Generator) -> Image.Image:
    """Houses with lit windows in the evening."""
    picture = image(gradient(side, (96, 84, 128), (150, 118, 142), rng))
    draw = ImageDraw.Draw(picture)
    left, cell = -rng.uniform(0, 0.1) * side, side / 26
    while left < side:
        width, top = rng.uniform(0.14, 0.24) * side, rng.uniform(0.1, 0.55) * side
        draw.rectangle((left, top, left + width, side), fill=(58, 58, 82))
        for x in np.arange(left + cell, left + width - cell, 1.8 * cell):
            for y in np.arange(top + cell, side, 2 * cell):
                if rng.random() < 0.45:
                    draw.rectangle((x, y, x + 0.8 * cell, y + cell), fill=(214, 192, 128))
        left += width + 0.01 * side
    return picture


def hills(side: int, rng: np.random.Generator) -> Image.Image:
    """Pale ridges, one behind the other."""
    picture = image(gradient(side, (216, 226, 208), (190, 214, 190), rng))
    draw = ImageDraw.Draw(picture)
    x = np.linspace(0, 1, 40)
    for row, colour in enumerate(
        ((176, 206, 180), (152, 190, 164), (128, 172, 146), (106, 154, 128))
    ):
        phase, waves = rng.uniform(0, 2 * np.pi), rng.uniform(1.0, 1.8)
        y = 0.25 + 0.2 * row + 0.07 * np.sin(2 * np.pi * waves * x + phase)
        ridge = [(float(a * side), float(b * side)) for a, b in zip(x, y, strict=True)]
        draw.polygon([*ridge, (side, side), (0, side)], fill=colour)
    return picture


def curtain(side: int, rng: np.random.Generator) -> Image.Image:
    """Folds of dull burgundy cloth."""
    x = np.arange(side, dtype=np.float32)[None] / side
    folds = np.sin(2 * np.pi * (6 * x + 0.4 * noise(side, (3, 1), rng) + rng.random()))
    return image(
        gradient(side, (142, 60, 84), (122, 44, 68), rng) + 22 * folds.astype(np.float32)[..., None]
    )


def gingham(side: int, rng: np.random.Generator) -> Image.Image:
    """Checked cloth of pale rose."""
    shift_x, shift_y = rng.uniform(0, 1, size=2)
    along = np.arange(side, dtype=np.float32) / side * 5
    dark = [((along + shift) % 1 < 0.5).astype(np.float32) for shift in (shift_x, shift_y)]
    cloth = (dark[0][None] + dark[1][:, None])[..., None]
    pale, deep = (np.array(c, dtype=np.float32) for c in ((240, 220, 218), (208, 144, 152)))
    return image((pale + (deep - pale) * cloth / 2) * np.float32(rng.uniform(0.95, 1.05)))


def moss(side: int, rng: np.random.Generator) -> Image.Image:
    """Tufts on olive ground."""
    picture = image(
        gradient(side, (112, 112, 58), (92, 94, 44), rng) + 12 * noise(side, (5, 5), rng)[..., None]
    )
    draw = ImageDraw.Draw(picture)
    for x, y in rng.uniform(0, side, size=(45, 2)):
        light = rng.random() < 0.5
        disc(draw, x, y, rng.uniform(0.015, 0.04) * side, (136, 138, 72) if light else (74, 78, 36))
    return picture


def _toned(colour: Colour, tone: int) -> Colour:
    red, green, blue = colour
    return red + tone, green + tone, blue + tone
