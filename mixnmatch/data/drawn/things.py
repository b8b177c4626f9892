"""Things and plants among the drawn objects; the flowers are one family."""

import math

import numpy as np

from mixnmatch.data.drawn.outlines import (
    Dot,
    Drawing,
    Points,
    arc,
    curve,
    ellipse,
    polygon,
    rounded,
)
from mixnmatch.data.records import Number

_PALE = (250, 250, 240)


def key() -> Drawing:
    """A bow on the left and teeth below the shaft on the right."""
    bow = _ring(-0.6, 0.0, 0.4, 0.19)
    shaft = polygon([(-0.28, -0.1), (1.0, -0.1), (1.0, 0.1), (-0.28, 0.1)])
    teeth = [
        polygon([(x, 0), (x + 0.16, 0), (x + 0.16, depth), (x, depth)])
        for x, depth in ((0.36, 0.34), (0.6, 0.46), (0.84, 0.38))
    ]
    collar = polygon([(-0.16, -0.2), (-0.02, -0.2), (-0.02, 0.2), (-0.16, 0.2)])
    return [bow, shaft, *teeth, collar], [], []


def car() -> Drawing:
    """A saloon with its bonnet on the right."""
    body = curve(
        [
            (-1.0, 0.3),
            (-0.96, -0.06),
            (-0.6, -0.12),
            (-0.4, -0.5),
            (0.1, -0.52),
            (0.42, -0.12),
            (0.92, -0.02),
            (1.0, 0.3),
        ]
    )
    wheels = [ellipse(x, 0.36, 0.22, 0.22) for x in (-0.54, 0.54)]
    hubs = [Dot(x, 0.36, 0.1, _PALE) for x in (-0.54, 0.54)]
    window = polygon([(-0.44, -0.14), (-0.3, -0.38), (0.06, -0.38), (0.26, -0.14), (-0.44, -0.14)])
    return [body, *wheels], [window], [*hubs, Dot(0.9, 0.1, 0.07, (255, 240, 150))]


def umbrella() -> Drawing:
    """A canopy with four scallops and a hook to the right."""
    top = arc(0, 0, 1.0, 0.78, 180, 360)
    edge = np.concatenate([arc(x, 0, 0.25, 0.14, 0, -180)[1:] for x in (0.75, 0.25, -0.25, -0.75)])
    stick = polygon([(-0.06, -0.1), (0.06, -0.1), (0.06, 0.85), (-0.06, 0.85)])
    hook = np.concatenate(
        [arc(0.2, 0.84, 0.26, 0.26, 180, -10), arc(0.2, 0.84, 0.14, 0.14, -10, 180)]
    )
    tip = polygon([(-0.05, -0.7), (0.0, -0.98), (0.05, -0.7)])
    ribs = [polygon([(0, -0.78), (x, -0.08)]) for x in (-0.5, 0.5)]
    return [np.concatenate([top, edge]), stick, hook, tip], ribs, []


def helicopter() -> Drawing:
    """The cabin on the right, the boom on the left."""
    cabin = ellipse(0.34, 0.1, 0.52, 0.4)
    boom = polygon([(-0.1, -0.1), (-1.0, -0.14), (-1.0, 0.02), (0.0, 0.24)])
    fin = polygon([(-0.84, -0.06), (-1.1, -0.46), (-0.92, -0.46), (-0.66, -0.06)])
    mast = polygon([(0.2, -0.5), (0.32, -0.5), (0.32, -0.2), (0.2, -0.2)])
    rotor = rounded((-0.64, -0.52), (1.12, -0.52), 0.06)
    skid = rounded((-0.12, 0.68), (0.84, 0.68), 0.055)
    struts = [rounded((x, 0.4), (x, 0.66), 0.045) for x in (0.12, 0.56)]
    pane = arc(0.42, 0.06, 0.34, 0.26, -90, 90)
    shut = polygon([(0.42, -0.2), (0.42, 0.32)])
    return [cabin, boom, fin, mast, rotor, skid, *struts], [pane, shut], []


def house() -> Drawing:
    """A gable with its chimney on the right, a shed on the left."""
    walls = polygon([(-0.46, -0.1), (0.8, -0.1), (0.8, 0.85), (-0.46, 0.85)])
    roof = polygon([(-0.62, -0.05), (0.17, -0.8), (0.96, -0.05)])
    chimney = polygon([(0.5, -0.9), (0.72, -0.9), (0.72, -0.2), (0.5, -0.2)])
    shed = polygon([(-0.46, 0.22), (-0.98, 0.44), (-0.98, 0.85), (-0.46, 0.85)])
    door = polygon([(0.36, 0.85), (0.36, 0.36), (0.62, 0.36), (0.62, 0.85)])
    eaves = polygon([(-0.46, -0.05), (0.8, -0.05)])
    return [walls, roof, chimney, shed], [door, eaves], [Dot(0.0, 0.34, 0.13, _PALE)]


def palm() -> Drawing:
    """A trunk that leans to the right under five fronds."""
    trunk = curve(
        [
            (-0.5, 0.95),
            (-0.36, 0.4),
            (-0.02, -0.2),
            (0.16, -0.5),
            (0.3, -0.4),
            (0.02, 0.2),
            (-0.2, 0.95),
        ]
    )
    fronds = [_frond(0.22, -0.48, angle, 0.72) for angle in (-200, -150, -95, -35, 22)]
    nuts = [Dot(x, -0.36, 0.08, (110, 66, 30)) for x in (0.14, 0.34)]
    ground = ellipse(-0.35, 0.95, 0.42, 0.12)
    return [trunk, *fronds, ground], [], nuts


def boot() -> Drawing:
    """The toe on the right, a heel and a cuff."""
    leg = polygon([(-0.6, -0.85), (0.12, -0.85), (0.1, 0.2), (-0.56, 0.2)])
    foot = curve(
        [
            (-0.56, 0.1),
            (0.08, -0.02),
            (0.4, 0.2),
            (0.84, 0.28),
            (0.96, 0.56),
            (0.6, 0.66),
            (-0.56, 0.62),
        ]
    )
    sole = polygon(
        [
            (-0.6, 0.58),
            (0.96, 0.58),
            (0.94, 0.78),
            (-0.02, 0.78),
            (-0.1, 0.68),
            (-0.1, 0.92),
            (-0.6, 0.92),
        ]
    )
    cuff = rounded((-0.62, -0.84), (0.14, -0.84), 0.14)
    laces = [polygon([(-0.14, y), (0.08, y + 0.08)]) for y in (-0.46, -0.26, -0.06)]
    return [leg, foot, sole, cuff], laces, []


def mug() -> Drawing:
    """A beaker with its handle on the left and a spoon on the right."""
    beaker = polygon([(-0.42, -0.5), (0.7, -0.5), (0.6, 0.82), (-0.32, 0.82)])
    rim = rounded((-0.42, -0.5), (0.7, -0.5), 0.1)
    handle = np.concatenate(
        [arc(-0.4, 0.12, 0.48, 0.42, 80, 280), arc(-0.4, 0.12, 0.29, 0.24, 280, 80)]
    )
    spoon = [rounded((0.3, -0.4), (0.6, -0.94), 0.06), ellipse(0.64, -1.0, 0.16, 0.12, -60)]
    return [beaker, rim, handle, *spoon], [arc(0.14, -0.46, 0.5, 0.1, 10, 170)], []


def daisy() -> Drawing:
    """Many narrow petals on a stem with one leaf."""
    return _flower(petals=10, petal_length=0.3, petal_width=0.13, heart=0.26)


def clover() -> Drawing:
    """Three broad leaves on a stem with one small leaf."""
    return _flower(petals=3, petal_length=0.36, petal_width=0.34, heart=0.1)


def _flower(*, petals: int, petal_length: Number, petal_width: Number, heart: Number) -> Drawing:
    """Petals around a heart, on a bent stem with a leaf to the right.

    Args:
        petals: Their number; one of them points up.
        petal_length: Half of it.
        petal_width: Half of it.
        heart: Radius of the middle.
    """
    x, y = 0.14, -0.42
    distance = heart + 0.75 * petal_length
    blossom = []
    for number in range(petals):
        angle = 360 * number / petals - 90
        turn = math.radians(angle)
        blossom.append(
            ellipse(
                x + distance * math.cos(turn),
                y + distance * math.sin(turn),
                petal_length,
                petal_width,
                angle,
            )
        )
    stem = curve(
        [(0.04, -0.4), (0.22, -0.4), (0.14, 0.3), (-0.12, 1.0), (-0.32, 1.0), (-0.02, 0.3)]
    )
    leaf = curve([(-0.04, 0.84), (0.26, 0.46), (0.76, 0.38), (0.48, 0.82)])
    middle = Dot(x, y, heart, (255, 236, 150)) if heart > 0.2 else Dot(x, y, heart, (60, 90, 40))
    vein = polygon([(0.06, 0.78), (0.56, 0.5)])
    return [*blossom, ellipse(x, y, heart, heart), stem, leaf], [vein], [middle]


def _ring(x: Number, y: Number, radius: Number, hole: Number) -> Points:
    """A disc with a hole."""
    return np.concatenate([arc(x, y, radius, radius, 0, 360), arc(x, y, hole, hole, 360, 0)])


def _frond(x: Number, y: Number, angle: Number, length: Number) -> Points:
    """A leaf that hangs at its end."""
    turn = math.radians(angle)
    along, across = (
        np.array([math.cos(turn), math.sin(turn)]),
        np.array([-math.sin(turn), math.cos(turn)]),
    )
    droop = np.array([0, 0.34 * length])
    points = [
        (0.0, 0.0),
        (0.4, -0.16),
        (0.8, -0.1),
        (1.0, 0.0),
        (0.75, 0.1),
        (0.4, 0.08),
    ]
    leaf = [np.array([x, y]) + length * (a * along + b * across) + a**2 * droop for a, b in points]
    return curve([(float(p[0]), float(p[1])) for p in leaf])
