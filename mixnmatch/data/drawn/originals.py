"""The first eight objects; those drawn first differ most."""

import numpy as np

from mixnmatch.data.drawn.outlines import (
    Dot,
    Drawing,
    arc,
    curve,
    ellipse,
    eye,
    polygon,
    rounded,
)


def fish() -> Drawing:
    """A tail and two fins."""
    body = curve(
        [
            (1.0, 0.04),
            (0.72, -0.3),
            (0.2, -0.46),
            (-0.3, -0.3),
            (-0.62, -0.08),
            (-0.62, 0.08),
            (-0.3, 0.3),
            (0.2, 0.46),
            (0.72, 0.34),
        ]
    )
    tail = polygon([(-0.45, 0), (-1.0, -0.52), (-0.82, 0), (-1.0, 0.52)])
    back_fin = polygon([(0.35, -0.38), (-0.25, -0.72), (-0.4, -0.2)])
    belly_fin = polygon([(0.15, 0.4), (-0.2, 0.68), (-0.25, 0.25)])
    gill = arc(0.2, 0.0, 0.26, 0.3, -55, 55)
    return [body, tail, back_fin, belly_fin], [gill], eye(0.66, -0.1, 0.115)


def rabbit() -> Drawing:
    """Two ears leaning back, a tail on the left."""
    body = ellipse(-0.08, 0.5, 0.42, 0.5)
    chest = ellipse(0.1, 0.25, 0.3, 0.4)
    head = ellipse(0.2, -0.2, 0.34, 0.27, 8)
    ears = [ellipse(0.0, -0.68, 0.12, 0.42, -6), ellipse(-0.27, -0.58, 0.11, 0.42, -34)]
    tail = ellipse(-0.52, 0.72, 0.16, 0.16)
    paws = [ellipse(0.26, 0.93, 0.28, 0.1), ellipse(-0.1, 0.93, 0.35, 0.1)]
    haunch = arc(-0.12, 0.68, 0.26, 0.26, 150, 350)
    return [body, chest, head, *ears, tail, *paws], [haunch], eye(0.32, -0.24, 0.085)


def boat() -> Drawing:
    """Two sails of unlike size."""
    hull = polygon([(-0.95, 0.42), (1.0, 0.34), (0.62, 0.9), (-0.68, 0.9)])
    mast = polygon([(-0.06, -1.0), (0.02, -1.0), (0.02, 0.5), (-0.06, 0.5)])
    main_sail = polygon([(0.04, -0.95), (0.8, 0.2), (0.04, 0.26)])
    back_sail = polygon([(-0.08, -0.62), (-0.08, 0.28), (-0.62, 0.3)])
    portholes = [Dot(x, 0.64, 0.085, (250, 250, 240)) for x in (-0.4, 0.0, 0.4)]
    rail = polygon([(-0.86, 0.5), (0.94, 0.44)])
    return [hull, mast, main_sail, back_sail], [rail], portholes


def mushroom() -> Drawing:
    """A large one with a small one to its right."""
    cap = curve(
        [
            (-0.8, -0.02),
            (-0.72, -0.5),
            (-0.2, -0.95),
            (0.35, -0.88),
            (0.72, -0.4),
            (0.74, -0.05),
            (0.3, 0.08),
            (-0.3, 0.1),
        ]
    )
    stem = curve([(-0.24, 0), (0.24, -0.02), (0.2, 0.5), (0.3, 0.95), (-0.2, 0.95), (-0.16, 0.5)])
    small_cap = curve([(0.26, 0.5), (0.42, 0.24), (0.72, 0.24), (0.92, 0.52), (0.6, 0.58)])
    small_stem = polygon([(0.5, 0.5), (0.68, 0.5), (0.7, 0.97), (0.46, 0.97)])
    return [cap, stem, small_cap, small_stem], [arc(-0.02, -0.14, 0.6, 0.2, 15, 165)], []


def bird() -> Drawing:
    """A beak, a crest and a long tail."""
    body = curve(
        [
            (0.45, -0.45),
            (0.5, 0.0),
            (0.3, 0.42),
            (-0.15, 0.5),
            (-0.55, 0.2),
            (-0.5, -0.05),
            (0.0, -0.2),
        ]
    )
    head = ellipse(0.4, -0.5, 0.3, 0.28)
    beak = polygon([(0.6, -0.66), (1.0, -0.44), (0.6, -0.34)])
    tail = polygon([(-0.35, 0.2), (-1.0, -0.35), (-0.88, -0.02), (-0.98, 0.18), (-0.4, 0.4)])
    crest = polygon([(0.3, -0.7), (0.12, -1.0), (0.38, -0.85), (0.48, -1.04), (0.56, -0.7)])
    legs = [
        polygon([(x, 0.4), (x + 0.08, 0.4), (x + 0.08, 0.8), (x + 0.26, 0.9), (x, 0.9)])
        for x in (-0.1, 0.16)
    ]
    wing = arc(-0.12, 0.05, 0.36, 0.22, -20, 175)
    return [body, head, beak, tail, crest, *legs], [wing], eye(0.48, -0.54, 0.085)


def teapot() -> Drawing:
    """The spout on the right."""
    body = ellipse(-0.02, 0.16, 0.58, 0.5)
    foot = polygon([(-0.36, 0.55), (0.32, 0.55), (0.4, 0.74), (-0.44, 0.74)])
    lid = ellipse(-0.02, -0.3, 0.36, 0.16)
    knob = ellipse(-0.02, -0.5, 0.12, 0.12)
    spout = polygon([(0.4, 0.36), (0.7, 0.02), (0.78, -0.32), (1.0, -0.36), (0.9, 0.1), (0.5, 0.5)])
    handle = np.concatenate(
        [arc(-0.55, 0.1, 0.45, 0.4, 80, 280), arc(-0.55, 0.1, 0.29, 0.24, 80, 280)[::-1]]
    )
    return [body, foot, lid, knob, spout, handle], [arc(-0.02, -0.32, 0.42, 0.2, 20, 160)], []


def hedgehog() -> Drawing:
    """Spines on the back, the face on the right."""
    angles = np.radians(np.linspace(-200, -20, 19))
    radii = np.where(np.arange(19) % 2, 0.72, 1.0)
    back = np.stack([radii * np.cos(angles) - 0.1, radii * np.sin(angles) + 0.3], axis=1)
    face = curve([(0.3, -0.1), (0.66, 0.1), (1.02, 0.42), (0.7, 0.62), (0.2, 0.62)])
    belly = ellipse(-0.1, 0.42, 0.84, 0.26)
    feet = [ellipse(x, 0.68, 0.14, 0.1) for x in (-0.5, 0.35)]
    nose = Dot(1.0, 0.42, 0.09, (25, 20, 30))
    return [back, face, belly, *feet], [], [*eye(0.62, 0.24, 0.1), nose]


def cactus() -> Drawing:
    """Two arms of unlike height, in a pot."""
    trunk = rounded((-0.05, -0.78), (-0.05, 0.62), 0.23)
    left = [rounded((-0.1, 0.2), (-0.52, 0.2), 0.14), rounded((-0.52, 0.2), (-0.52, -0.3), 0.14)]
    right = [rounded((0.0, -0.1), (0.4, -0.1), 0.13), rounded((0.4, -0.1), (0.4, -0.55), 0.13)]
    pot = polygon([(-0.42, 0.55), (0.36, 0.55), (0.26, 1.0), (-0.32, 1.0)])
    flower = [ellipse(0.02, -0.98, 0.14, 0.1, 25)]
    return [trunk, *left, *right, pot, *flower], [polygon([(-0.42, 0.62), (0.36, 0.62)])], []
