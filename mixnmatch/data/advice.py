"""Whether a data set will do, and which settings fit it.

The paper had 59 pictures of each fine category of its birds (CUB), 100 of its dogs, 41 of its cars.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mixnmatch.data.check import LARGE_FACTOR, Findings
from mixnmatch.data.limits import GRADES, LIMITS, SMALLEST_IMAGE, Grade, Limit
from mixnmatch.data.words import counted

PICTURES_A_FINE = 60
"""Pictures for each fine category: as many as CUB has, the paper's main set."""
FEWEST_A_CLASS = 40
"""Pictures with which a class can be a fine category: as few as the paper's cars have."""
FINES_A_SUPER = 10
"""Fine categories of a super category, as in the paper: 200 of 20, 120 of 12."""
FEWEST_SUPERS, FEWEST_FINES = 2, 4
"""With fewer there is nothing to mix."""
MOST_FINES = 200
"""As many as the paper ever had."""
PAPER_SMALLEST = 8000
"""Pictures of the paper's smallest set, which it did not augment."""
DEFAULT_IMAGE = 128
"""Side of the pictures of a model whose ``model.image_size`` is not set."""


class Judged(NamedTuple):
    """A value beside its threshold."""

    limit: Limit
    """The threshold."""
    value: float
    """What was found."""
    grade: Grade
    """What it means."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Advice:
    """What to make of a data set."""

    verdict: Grade
    """The worst of the grades."""
    judged: dict[str, Judged]
    """Values by the keys of ``LIMITS``; what cannot be told is left out."""
    super_categories: int
    """Setting ``model.super_categories`` that fits."""
    fine_categories: int
    """Setting ``model.fine_categories`` that fits: a multiple of the super categories."""
    image_size: int
    """Side of the pictures that fits, in pixels: at most the one that was asked about."""
    pictures_wanted: int
    """Fewest pictures to train on that would do for all of the classes."""
    settings: tuple[str, ...]
    """``key=value`` for ``--set``."""
    reasons: tuple[str, ...]
    """Why, a line each."""

    @property
    def options(self) -> str:
        """Ready to be pasted behind a ``train`` command."""
        return " ".join(f"--set {setting}" for setting in self.settings)


def advise(found: Findings) -> Advice:
    """The verdict on a data set, and settings for it."""
    values = _values(found)
    judged = {
        name: Judged(LIMITS[name], values[name], LIMITS[name].grade(values[name]))
        for name in LIMITS
        if name in values
    }
    supers, fines, reasons = _categories(found)
    size = _image_size(found)
    fewest, classes = int(LIMITS["training"].works or 0), len(_trained(found))
    wanted = max(fewest, PICTURES_A_FINE * classes)
    settings = [f"model.super_categories={supers}", f"model.fine_categories={fines}"]
    if size != DEFAULT_IMAGE:
        settings.append(f"model.image_size={size}")
    if size != found.image_size:
        reasons.append(
            f"{size} px instead of {found.image_size}: there at most a quarter of the object views "
            f"is enlarged more than {LARGE_FACTOR} times"
        )
    if found.training < PAPER_SMALLEST:
        settings.append("stage1.augment=color,translation,cutout")
        reasons.append(f"augmented, as there are fewer than the {PAPER_SMALLEST} of the paper")
    if found.training < fewest:
        reasons.append(f"at least {fewest} pictures to train on: fewer will not work")
    if found.training < wanted > fewest:
        reasons.append(
            f"{wanted} pictures to train on would be {PICTURES_A_FINE} of each of {classes} "
            "classes, as many as CUB has"
        )
    others = found.count - found.splits["train"]
    if others:
        reasons.append(
            f"training takes split train alone: {others} of {counted(found.count, 'picture')} "
            f"{'is' if others == 1 else 'are'} in others"
        )
    return Advice(
        verdict=max((item.grade for item in judged.values()), key=GRADES.index),
        judged=judged,
        super_categories=supers,
        fine_categories=fines,
        image_size=size,
        pictures_wanted=wanted,
        settings=tuple(settings),
        reasons=tuple(reasons),
    )


def _values(found: Findings) -> dict[str, float]:
    """What the thresholds are about; what cannot be told is left out."""
    counts = {kind: len(odd) for kind, odd in found.odd.items()}
    left_out = found.rejects.total()
    values = {
        "training": found.training,
        "unusable": found.spoilt / found.count,
        "several": counts["several"] / found.count,
        "repeated": found.repeated / found.count,
        "rejects": left_out / (found.count + left_out),
    }
    if found.measured:
        values |= {
            "free": found.values("free_share").mean(),
            "enlarged": _enlarged(found, found.image_size),
            "too_small": _enlarged(found, SMALLEST_IMAGE),
            "grey": counts["grey"] / len(found.measured),
        }
    sizes = _trained(found)
    if len(sizes) > 1:
        shares = np.array(sizes) / sum(sizes)
        values["evenness"] = math.exp(-(shares * np.log(shares)).sum()) / len(sizes)
    if found.splits["train"] and found.splits["test"]:
        values["shared"] = found.shared / found.splits["test"]
    return {name: float(value) for name, value in values.items()}


def _enlarged(found: Findings, image_size: int) -> float:
    """Share of the object views that a model of this size would see much enlarged."""
    factors = found.values("enlargement") * image_size / found.image_size
    return float((factors > LARGE_FACTOR).mean())


def _image_size(found: Findings) -> int:
    size = found.image_size
    while size > SMALLEST_IMAGE and found.measured:
        if LIMITS["enlarged"].grade(_enlarged(found, size)) == "good":
            break
        size //= 2
    return size


def _trained(found: Findings) -> list[int]:
    """Pictures of each class that there is in split "train"."""
    return [counts["train"] for counts in found.classes.values() if counts["train"]]


def _categories(found: Findings) -> tuple[int, int, list[str]]:
    """Super and fine categories, and why."""
    drawn = found.info.factors or {}
    supers, fines = drawn.get("shape", 0), drawn.get("texture", 0)
    if supers and fines and fines % supers == 0:
        known = f"{counted(supers, 'shape')} and {counted(fines, 'texture')}"
        return supers, fines, [f"the pictures were drawn of {known}"]
    classes = _trained(found)
    affordable = max(FEWEST_FINES, min(MOST_FINES, found.training // PICTURES_A_FINE))
    if len(classes) >= FEWEST_FINES and found.training >= FEWEST_A_CLASS * len(classes):
        wanted = len(classes)
        why = (
            f"{wanted} classes with {found.training / wanted:.0f} pictures each on average, and "
            f"{FEWEST_A_CLASS} do: a fine category for each"
        )
    else:
        wanted = affordable
        why = f"a fine category for each {PICTURES_A_FINE} of {found.training} pictures"
        if affordable == FEWEST_FINES:
            why = "fewer leave nothing to mix"
        elif affordable == MOST_FINES:
            why = "as many as the paper had"
        if len(classes) >= FEWEST_FINES:
            why += f"; {len(classes)} classes would need {FEWEST_A_CLASS} pictures each"
    supers = _supers(wanted)
    fines = wanted // supers * supers
    if fines != wanted:
        why += f"; {fines} is the multiple of {supers} below {wanted}"
    ratio = f"{fines // supers} fine ones each; the paper had {FINES_A_SUPER}"
    return supers, fines, [f"{fines} fine categories: {why}", f"{supers} super categories: {ratio}"]


def _supers(fines: int) -> int:
    """Super categories for about so many fine ones: those that lose the fewest, then by ratio."""
    ratio = fines / FINES_A_SUPER
    low = max(FEWEST_SUPERS, math.ceil(ratio / 1.5))
    high = max(low, int(2 * ratio))
    return min(range(low, high + 1), key=lambda supers: (fines % supers, abs(supers - ratio)))
