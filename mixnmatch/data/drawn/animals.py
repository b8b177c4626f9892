"""Animals among the drawn objects; those on four legs are one family of proportions."""

from itertools import pairwise

import numpy as np

from mixnmatch.data.drawn.outlines import (
    Drawing,
    Points,
    arc,
    curve,
    ellipse,
    eye,
    polygon,
    rounded,
)
from mixnmatch.data.records import Number


def elephant() -> Drawing:
    """A short heavy body with a trunk and an ear."""
    body = _four_legged(
        length=0.7, girth=0.42, legs=0.42, leg_width=0.2, neck=(0.32, -0.2), neck_width=0.24
    )
    head = ellipse(0.72, -0.28, 0.32, 0.3)
    trunk = _bent([(0.92, -0.2), (1.08, 0.1), (1.08, 0.42), (1.22, 0.56)], 0.1)
    tail = rounded((-0.72, -0.15), (-0.86, 0.28), 0.045)
    ear = arc(0.42, -0.18, 0.2, 0.27, -80, 170)
    return [*body, head, *trunk, tail], [ear], eye(0.84, -0.36, 0.075)


def giraffe() -> Drawing:
    """Long legs and a long neck."""
    body = _four_legged(
        length=0.5, girth=0.24, legs=0.66, leg_width=0.11, neck=(0.34, -0.95), neck_width=0.11
    )
    head = ellipse(0.72, -1.1, 0.25, 0.13, 12)
    horns = [rounded((x, -1.2), (x - 0.04, -1.4), 0.04) for x in (0.52, 0.64)]
    tail = rounded((-0.5, -0.05), (-0.72, 0.35), 0.04)
    return [*body, head, *horns, tail], [], eye(0.68, -1.14, 0.06)


def dachshund() -> Drawing:
    """A long body on short legs."""
    body = _four_legged(
        length=1.35, girth=0.25, legs=0.2, leg_width=0.15, neck=(0.16, -0.3), neck_width=0.16
    )
    head = ellipse(0.86, -0.42, 0.25, 0.2)
    snout = rounded((0.95, -0.36), (1.24, -0.3), 0.1)
    ear = ellipse(0.7, -0.3, 0.11, 0.28, 12)
    tail = rounded((-0.8, -0.1), (-1.15, -0.5), 0.05)
    flap = arc(0.7, -0.3, 0.11, 0.28, -60, 150)
    return [*body, head, snout, ear, tail], [flap], eye(0.92, -0.47, 0.065)


def sauropod() -> Drawing:
    """A long neck held forward and a tail as long."""
    body = _four_legged(
        length=0.62, girth=0.33, legs=0.3, leg_width=0.15, neck=(0.0, 0.0), neck_width=0.2
    )
    neck = _bent([(0.3, -0.1), (0.66, -0.3), (0.86, -0.66), (1.08, -0.9)], 0.115)
    head = ellipse(1.16, -0.92, 0.22, 0.13, 12)
    tail = curve([(-0.3, -0.3), (-0.85, -0.1), (-1.5, 0.34), (-0.8, 0.2), (-0.3, 0.25)])
    return [*body, *neck, head, tail], [], eye(1.16, -0.95, 0.06)


def snail() -> Drawing:
    """A round shell on a foot, with two feelers."""
    shell = ellipse(-0.12, -0.12, 0.58, 0.56)
    foot = curve(
        [
            (-1.0, 0.62),
            (-0.4, 0.36),
            (0.3, 0.36),
            (0.56, -0.1),
            (0.86, -0.1),
            (0.88, 0.3),
            (0.6, 0.6),
        ]
    )
    feelers = [rounded((0.68, -0.05), (x, -0.55), 0.045) for x in (0.6, 0.92)]
    knobs = [ellipse(x, -0.56, 0.08, 0.08) for x in (0.6, 0.92)]
    turns = np.linspace(0, 2.4 * np.pi, 50)
    radii = 0.08 + 0.34 * turns / turns[-1]
    spiral = np.stack([radii * np.cos(turns) - 0.12, radii * np.sin(turns) - 0.12], axis=1)
    return [shell, foot, *feelers, *knobs], [spiral], eye(0.76, 0.06, 0.075)


def whale() -> Drawing:
    """A blunt head and a fluke held up."""
    body = curve(
        [
            (0.95, -0.05),
            (0.86, -0.42),
            (0.35, -0.56),
            (-0.25, -0.28),
            (-0.72, -0.22),
            (-0.8, -0.02),
            (-0.4, 0.32),
            (0.2, 0.46),
            (0.75, 0.36),
        ]
    )
    fluke = curve([(-0.66, -0.1), (-0.66, -0.4), (-0.5, -0.72), (-0.84, -0.5), (-1.15, -0.6)])
    fin = polygon([(0.3, 0.3), (0.0, 0.74), (-0.12, 0.66), (0.02, 0.28)])
    mouth = arc(0.75, -0.1, 0.42, 0.26, 40, 130)
    return [body, fluke, fin], [mouth], eye(0.5, -0.1, 0.075)


def snake() -> Drawing:
    """Two and a half bends, the head lifted."""
    along = np.linspace(0, 1, 26)
    x = -1.0 + 1.75 * along
    y = 0.42 * np.sin(5.2 * np.pi * along - 0.6) * (0.55 + 0.45 * along)
    body = _bent([(float(a), float(b)) for a, b in zip(x, y, strict=True)], 0.13)
    neck = _bent([(float(x[-1]), float(y[-1])), (0.86, -0.42), (1.0, -0.5)], 0.13)
    head = ellipse(1.08, -0.52, 0.28, 0.19, 8)
    return [*body, *neck, head], [], eye(1.1, -0.58, 0.075)


def turtle() -> Drawing:
    """A dome on two feet."""
    dome = np.concatenate([arc(-0.1, 0.2, 0.72, 0.74, 180, 360), polygon([(0.62, 0.32)])])
    rim = rounded((-0.74, 0.26), (0.56, 0.26), 0.12)
    neck = rounded((0.5, 0.26), (0.86, -0.02), 0.13)
    head = ellipse(0.94, -0.08, 0.24, 0.18)
    feet = [rounded((x, 0.3), (x + lean, 0.6), 0.13) for x, lean in ((-0.5, -0.08), (0.3, 0.08))]
    tail = polygon([(-0.78, 0.16), (-1.06, 0.42), (-0.7, 0.38)])
    plates = [arc(x, 0.2, 0.26, 0.5, 190, 350) for x in (-0.38, 0.18)]
    return [dome, rim, neck, head, *feet, tail], plates, eye(1.0, -0.12, 0.065)


def _four_legged(
    *,
    length: Number,
    girth: Number,
    legs: Number,
    leg_width: Number,
    neck: tuple[Number, Number],
    neck_width: Number,
) -> list[Points]:
    """Body, four legs and neck of an animal, its body's middle at the origin.

    Args:
        length: From shoulder to hip.
        girth: Half the height of the body.
        legs: What shows of them below the body.
        leg_width: Of each.
        neck: From the shoulder to its end.
        neck_width: Half of it.
    """
    half = length / 2
    body = rounded((-half, 0), (half, 0), girth)
    reach = half + 0.5 * girth
    feet = [
        polygon([(x, 0), (x + leg_width, 0), (x + leg_width, girth + legs), (x, girth + legs)])
        for x in (-reach, -reach + 1.5 * leg_width, reach - 2.5 * leg_width, reach - leg_width)
    ]
    shoulder = (half, -0.3 * girth)
    return [
        body,
        *feet,
        rounded(shoulder, (shoulder[0] + neck[0], shoulder[1] + neck[1]), neck_width),
    ]


def _bent(points: list[tuple[Number, Number]], radius: Number) -> list[Points]:
    """A round bar along several points."""
    return [rounded(start, stop, radius) for start, stop in pairwise(points)]
