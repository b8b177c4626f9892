"""Evaluations in words: the table for a terminal, JSON, and what values mean beside chance."""

import math
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the command line says what the groups are, and must not wait for torch
    from mixnmatch.metrics.evaluate import Evaluation
    from mixnmatch.metrics.figures import Figure

GROUPS = {
    "quality": "generated pictures beside real ones: Fréchet distances (fid with the FID "
    "weights), KID, Inception Score, precision and recall, categories covered, training pictures "
    "painted again",
    "diversity": "how unlike each other generated pictures of one category are, beside real ones",
    "factors": "on drawn pictures: do mixes show the factor of the picture it was taken from, and "
    "which source leaks into which factor",
    "keypoints": "with annotated parts: the paper's test of shape and texture",
    "masks": "generated masks, and those of real pictures encoded and painted again, with true "
    "masks or boxes",
    "codes": "whether all codes are used, and the clusters that encoded pictures form beside class "
    "labels",
}
"""What each group of figures tells, in the order of ``config.MEASURES``."""

ARROWS = {"higher": "↑", "lower": "↓", None: ""}
"""Where better figures lie."""
CLEAR, UNCLEAR, WORSE = "better than chance", "not told from chance", "worse than chance"
_HEAD = ("", "value", "95 % interval", "chance", "of")


def shown(value: float | None, digits: int = 4) -> str:
    """A value to about that many digits; a dash where there is none."""
    if value is None or math.isnan(value):
        return "–"
    if abs(value) < 1000 or math.isinf(value):
        return f"{value:.{digits}g}" if abs(value) >= 1e-4 or not value else f"{value:.1e}"
    return f"{value:,.0f}"


def shown_interval(figure: "Figure") -> str:
    """The 95 % interval of a figure; nothing where none is known."""
    if figure.low is None or figure.high is None:
        return ""
    return f"{shown(figure.low, 3)} to {shown(figure.high, 3)}"


def beside_chance(figure: "Figure") -> str:
    """``CLEAR``, ``UNCLEAR`` or ``WORSE``; nothing where interval, chance or direction is unknown.

    It is clear where the whole interval lies on one side of chance.
    """
    if figure.low is None or figure.high is None or figure.chance is None or not figure.better:
        return ""
    if not math.isfinite(figure.value) or figure.low <= figure.chance <= figure.high:
        return UNCLEAR
    return CLEAR if (figure.low > figure.chance) == (figure.better == "higher") else WORSE


def by_group(evaluation: "Evaluation") -> Iterator[tuple[str, dict[str, "Figure"]]]:
    """The groups that were measured, each with its figures."""
    for group in dict.fromkeys(evaluation.groups.values()):
        yield (
            group,
            {
                name: figure
                for name, figure in evaluation.figures.items()
                if evaluation.groups[name] == group
            },
        )


def table_lines(evaluation: "Evaluation") -> Iterator[str]:
    """All figures by group, for a terminal."""
    sections = [
        (group, [_row(name, figure) for name, figure in figures.items()])
        for group, figures in by_group(evaluation)
    ]
    lines = list(columns([_HEAD, *(row for _, rows in sections for row in rows)]))
    yield lines[0]
    position = 1
    for group, rows in sections:
        yield group
        yield from lines[position : position + len(rows)]
        position += len(rows)


def columns(rows: Sequence[Sequence[str]], *, left: Container[int] = (0,)) -> Iterator[str]:
    """Rows of as many cells each as aligned lines.

    Args:
        rows: The cells.
        left: Numbers of the columns that are aligned to the left; the others are to the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, widths, strict=True)
        yield "  ".join(
            cell.ljust(width) if n in left else cell.rjust(width)
            for n, (cell, width) in enumerate(cells)
        ).rstrip()


def time_line(seconds: Mapping[str, float]) -> str:
    """How long an evaluation took, and where the time went."""
    longest_first = sorted(seconds.items(), key=lambda item: -item[1])
    parts = ", ".join(f"{group} {duration(each)}" for group, each in longest_first)
    return f"took {duration(sum(seconds.values()))}" + (f": {parts}" if parts else "")


def duration(seconds: float) -> str:
    """Seconds in words."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def as_json(evaluation: "Evaluation") -> dict[str, Any]:
    """An evaluation in plain JSON types, without its pictures; what is not finite becomes null."""
    return {
        "figures": {
            name: {"group": evaluation.groups[name], **finite_or_null(asdict(figure))}
            for name, figure in evaluation.figures.items()
        },
        "protocol": evaluation.protocol,
        "seconds": evaluation.seconds,
    }


def finite_or_null(value: Any) -> Any:
    """A value for JSON, which knows no NaN: None for each number within that is not finite."""
    if isinstance(value, Mapping):
        return {name: finite_or_null(within) for name, within in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_null(within) for within in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def headlines(figures: Mapping[str, "Figure"], most: int) -> Sequence[str]:
    """Names of the figures that sum up a group: known, with a direction, without a slash first."""
    names = (
        name for name, figure in figures.items() if figure.better and math.isfinite(figure.value)
    )
    return sorted(names, key=lambda name: "/" in name)[:most]


def _row(name: str, figure: "Figure") -> tuple[str, ...]:
    mark = {UNCLEAR: " ≈", WORSE: " ✗"}.get(beside_chance(figure), "")
    return (
        f"  {name} {ARROWS[figure.better]}".rstrip(),
        shown(figure.value),
        shown_interval(figure),
        "" if figure.chance is None else shown(figure.chance) + mark,
        "" if figure.count is None else f"{figure.count:,}",
    )
