"""What is asked of a promotion, and what came of it."""

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from mixnmatch.errors import InputError
from mixnmatch_platform.directions import Mode, known_mode
from mixnmatch_platform.promotion.comparison import Comparison
from mixnmatch_platform.promotion.gates import Gates, Verdict
from mixnmatch_platform.registry import MODEL_NAME
from mixnmatch_platform.space import Objective

__all__ = ["Outcome", "Promotion", "Request", "format_promotion"]

Outcome = Literal["promoted", "put up", "would promote", "would put up", "already champion"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What to promote, and on which terms."""

    name: str
    """Name of the registered model; the first promotion creates it."""
    metric: str
    """The figure that decides."""
    mode: Mode | None = None
    """Whether less or more of it is better; None where its name tells."""
    experiment: str | None = None
    """Whose best run to take, or where to look for ``run``."""
    run: str | None = None
    """Id or name of the run to take instead of the best."""
    gates: Gates = field(default_factory=Gates)
    """What is wanted of it."""
    candidate: bool = False
    """Only put it up as the candidate: it need not beat the champion."""
    force: bool = False
    """Take the place of a champion that is as good or better."""
    again: bool = False
    """Measure both again, whatever was recorded; also a run that has not recorded the metric."""
    seeds: int = 3
    """Evaluations of each where both are measured again."""
    data: Path | str | None = None
    """Data set to measure on and to draw the sheet from; that of the run by default."""
    why: str = ""
    """For the history."""
    licence: str | None = None
    """Of the model, for its card."""
    data_licence: str | None = None
    """Of the data, for its card."""
    dry_run: bool = False
    """Only say what would happen."""

    def __post_init__(self) -> None:
        if re.fullmatch(MODEL_NAME, self.name) is None:
            raise InputError(
                f"{self.name!r} is no model name: take letters, digits, spaces, '_', '-', '.'"
            )
        if self.experiment is None and self.run is None:
            raise InputError("nothing to promote: name an experiment or a run")
        if self.direction is None:
            raise InputError(
                f"is less or more of {self.metric!r} better? Say --mode min or --mode max"
            )
        Objective(self.metric, self.direction)  # refuses the wrong one

    @property
    def direction(self) -> Mode | None:
        """Whether less or more of the metric is better."""
        return self.mode or known_mode(self.metric)


@dataclass(frozen=True, kw_only=True, slots=True)
class Promotion:
    """What a promotion did, or would do."""

    name: str
    """Name of the registered model."""
    outcome: Outcome
    """What happened."""
    version: int | None
    """The version that came of it; None in a dry run."""
    run_id: str
    """The run."""
    run_name: str
    """Its name."""
    metric: str
    """The deciding metric."""
    mode: Mode
    """Whether less or more of it is better."""
    value: float | None
    """As the run recorded it, else as it was measured; None if it is champion without either."""
    candidates: int
    """Runs of which it is the best."""
    champion: int | None
    """Version of the champion before, if any."""
    comparison: Comparison | None
    """The run beside that champion; None without one, or where it could not be compared."""
    gates: list[Verdict]
    """What each gate said."""

    def as_json(self) -> dict[str, Any]:
        """In plain JSON types."""
        return asdict(self)


def format_promotion(promotion: Promotion) -> str:
    """One line that says what a promotion did."""
    what = promotion
    figure = "" if what.value is None else f", {what.metric} {what.value:.4g}"
    run = f"(run {what.run_name}{figure})"
    of = f"{what.candidates} run{'s' if what.candidates > 1 else ''}"
    if what.outcome == "already champion":
        return f"{what.name} v{what.version} {run} is champion already: best of {of}"
    title = what.name if what.version is None else f"{what.name} v{what.version}"
    if what.outcome in ("put up", "would put up"):
        return f"{what.outcome} {title} {run} as candidate: best of {of}"
    if what.champion is None:
        reason = f"best of {of}, the first champion"
    elif what.comparison is None:
        reason = f"replaces, by force, v{what.champion}"
    else:
        beside = what.comparison
        numbers = f"{beside.candidate:.4g} against {beside.champion:.4g}, noise {beside.noise:.2g}"
        verb = "beats" if beside.gain > beside.noise else "replaces, by force,"
        reason = f"{verb} v{what.champion} ({numbers}; {beside.how})"
    return f"{what.outcome} {title} {run}: {reason}"
