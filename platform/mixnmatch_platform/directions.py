"""Whether less or more of a figure is better, by its name."""

from fnmatch import fnmatchcase
from typing import Literal

__all__ = ["BETTER", "Mode", "known_mode"]

Mode = Literal["min", "max"]

BETTER = {"min": "less", "max": "more"}
"""Modes in words."""
_MODES: tuple[tuple[str, Mode], ...] = (
    ("fid*", "min"),
    ("kid*", "min"),
    ("frechet_*", "min"),
    ("leak", "min"),
    ("feature_leak", "min"),
    ("*_error", "min"),
    ("*accuracy*", "max"),
    ("inception_score*", "max"),
    ("precision_*", "max"),
    ("recall_*", "max"),
    ("mask_*", "max"),
)


def known_mode(metric: str) -> Mode | None:
    """The mode of a figure, None where its name does not tell.

    Of a single entry of the leak matrix, ``leak/shape_from_pose``, chance is right, and less is as
    odd as more.
    """
    return next((mode for pattern, mode in _MODES if fnmatchcase(metric, pattern)), None)
