"""Two runs beside each other: everything in which they differ, figures beside their uncertainty."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from mixnmatch.metrics.figures import Figure, noise_between
from mixnmatch.metrics.report import columns, finite_or_null, shown
from mixnmatch_platform.artifacts import read_artifact
from mixnmatch_platform.compare import Experiment, RunRecord
from mixnmatch_platform.environment import CODE_DIFF
from mixnmatch_platform.protocols import differences, read_protocol
from mixnmatch_platform.tracking import DATA_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["Difference", "TwoRuns", "as_json", "as_text", "compare_two"]

COMMIT_TAG = "mlflow.source.git.commit"
HARDWARE = ("host", "host_cpu", "host_cpus", "host_memory_gib", "host_gpus")
VERSIONS = (
    *("python", "mixnmatch-platform", "torch", "torchvision", "numpy", "ray", "optuna", "mlflow"),
)
DETAILS = 20
"""Figures with a slash that are shown, at most: those that lie furthest apart for their noise."""
Verdict = Literal["better", "worse", "higher", "lower", "not told apart", ""]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A figure of both runs."""

    metric: str
    """Its name."""
    first: Figure
    """Of the first run."""
    second: Figure
    """Of the second."""

    @property
    def change(self) -> float:
        """By how much the second one's is larger."""
        return self.second.value - self.first.value

    @property
    def noise(self) -> float | None:
        """See ``figures.noise_between``."""
        return noise_between(self.first, self.second)

    @property
    def verdict(self) -> Verdict:
        """Whether the second run is better; empty where the noise is not known."""
        if self.noise is None:
            return ""
        if abs(self.change) <= self.noise:
            return "not told apart"
        up: bool = self.change > 0
        if self.first.better is None:
            return "higher" if up else "lower"
        return "better" if up == (self.first.better == "higher") else "worse"


@dataclass(frozen=True, kw_only=True)
class TwoRuns:
    """What two runs differ in."""

    first: RunRecord
    """The one."""
    second: RunRecord
    """The other."""
    comparable: bool
    """Whether their figures were measured under the same conditions, and both came to an end."""
    why_not: str
    """Else the reason."""
    figures: list[Difference]
    """Those of both, those without a slash first."""
    sections: dict[str, dict[str, tuple[str, str]]] = field(default_factory=dict)
    """What differs, by subject and name: measurement, settings, code, data, hardware, versions."""


def compare_two(client: "MlflowClient", experiment: Experiment, first: str, second: str) -> TwoRuns:
    """Look for all differences between two runs of an experiment.

    Args:
        client: Of the store.
        experiment: The experiment.
        first: Name of a run, or the beginning of its id.
        second: Another.

    Raises:
        InputError: If there is no such run.
    """
    a, b = experiment.run(first), experiment.run(second)
    protocols = [read_protocol(client, run.row.run_id) for run in (a, b)]
    known = [protocol for protocol in protocols if protocol is not None]
    measured = differences(*known) if len(known) == 2 else None
    why_not = ""
    if unfinished := [run.name for run in (a, b) if not run.ended]:
        why_not = f"{' and '.join(unfinished)} did not come to the end"
    elif measured is None:
        why_not = "it was not recorded how both were measured"
    elif measured:
        why_not = f"they were measured otherwise: {', '.join(measured)} differ"
    figures = [
        Difference(metric=name, first=one, second=other)
        for name in sorted(a.metrics, key=lambda name: ("/" in name, name))
        if (one := a.figure(name)) and (other := b.figure(name)) and _is_figure(name, one)
    ]
    tags = (a.tags, b.tags)
    return TwoRuns(
        first=a,
        second=b,
        comparable=not why_not,
        why_not=why_not,
        figures=figures,
        sections={
            "measurement": {"protocol": (_recorded(protocols[0]), _recorded(protocols[1]))}
            if measured is None
            else {name: (str(x), str(y)) for name, (x, y) in measured.items()},
            "settings": _differing(a.settings, b.settings),
            "code": _code(client, a, b),
            "data": _differing(*tags, {"fingerprint": DATA_TAG})
            | _differing(a.settings, b.settings, {"data": "data", "pictures": "data_count"}),
            "hardware": _differing(*tags, {name: f"mixnmatch.{name}" for name in HARDWARE}),
            "versions": _differing(*tags, {name: f"mixnmatch.{name}" for name in VERSIONS}),
        },
    )


def as_text(two: TwoRuns) -> str:
    """For a terminal."""
    names = (two.first.name, two.second.name)
    lines = list(columns([("", *names), *_facts(two)]))
    if two.comparable:
        lines += [
            "",
            "figures, measured under the same conditions; noise is that of the "
            "measurement, the luck of a training comes on top",
        ]
    else:
        lines += ["", f"figures, NOT to be compared: {two.why_not}"]
    shown_figures = [each for each in two.figures if "/" not in each.metric]
    details = [each for each in two.figures if "/" in each.metric and each.noise]
    details.sort(key=lambda each: -abs(each.change) / (each.noise or math.inf))
    head = ("", *names, *(("difference", "noise", "") if two.comparable else ()))
    rows = [_figure_row(two, each) for each in (*shown_figures, *details[:DETAILS])]
    lines += columns([head, *rows])
    if len(details) > DETAILS:
        lines.append(f"  and {len(details) - DETAILS} details that differ less for their noise")
    for section, differing in two.sections.items():
        if differing:
            rows = [(f"  {name}", *pair) for name, pair in differing.items()]
            lines += ["", section, *columns(rows)]
    if same := [section for section, differing in two.sections.items() if not differing]:
        lines += ["", f"the same: {', '.join(same)}"]
    return "\n".join(lines)


def as_json(two: TwoRuns) -> dict[str, Any]:
    """Everything in plain JSON types; without what is not to be compared where it is not."""
    content = {
        "runs": [{"run": run.name, "run_id": run.row.run_id} for run in (two.first, two.second)],
        "comparable": two.comparable,
        "why_not": two.why_not or None,
        "figures": {
            each.metric: {
                "first": each.first.value,
                "second": each.second.value,
                "difference": each.change if two.comparable else None,
                "noise": each.noise if two.comparable else None,
                "verdict": each.verdict if two.comparable else None,
            }
            for each in two.figures
        },
        "differing": two.sections,
    }
    found: dict[str, Any] = finite_or_null(content)
    return found


def _facts(two: TwoRuns) -> list[tuple[str, str, str]]:
    runs = (two.first, two.second)
    facts = {
        "run": [run.row.run_id[:8] for run in runs],
        "kind": [run.row.kind for run in runs],
        "status": [run.row.status.lower() for run in runs],
        "stages": [run.stages or "not at its end" for run in runs],
        "begun (UTC)": [run.row.begun for run in runs],
        "minutes": [f"{run.row.minutes:.1f}" for run in runs],
        "device h": [f"{run.row.device_hours:.2f}" for run in runs],
        "seed": [run.settings.get("seed", "") for run in runs],
    }
    return [(name, a, b) for name, (a, b) in facts.items()]


def _figure_row(two: TwoRuns, each: Difference) -> tuple[str, ...]:
    row = (f"  {each.metric}", shown(each.first.value), shown(each.second.value))
    if not two.comparable:
        return row
    noise = "" if each.noise is None else f"± {shown(each.noise, 2)}"
    return (*row, f"{each.change:+.3g}", noise, each.verdict)


def _recorded(protocol: object) -> str:
    return "not recorded" if protocol is None else "recorded"


def _is_figure(name: str, figure: Figure) -> bool:
    """Whether it tells of the model, and not of its training, its cost or the measurement."""
    return "/" not in name or figure.low is not None


def _code(client: "MlflowClient", a: RunRecord, b: RunRecord) -> dict[str, tuple[str, str]]:
    found = _differing(a.tags, b.tags, {"commit": COMMIT_TAG, "command": "mixnmatch.command"})
    diffs = [read_artifact(client, run.row.run_id, CODE_DIFF) for run in (a, b)]
    if diffs[0] != diffs[1]:
        told = [
            "none" if diff is None else f"{len(diff.splitlines())} lines, {CODE_DIFF}"
            for diff in diffs
        ]
        found["not committed"] = (told[0], told[1])
    return found


def _differing(
    a: Mapping[str, str], b: Mapping[str, str], keys: Mapping[str, str] | None = None
) -> dict[str, tuple[str, str]]:
    """Entries that differ.

    Args:
        a: Entries of the first run.
        b: Of the second.
        keys: Those to look at, by the names to show; else all.
    """
    keys = keys or {
        key: key for key in sorted(a.keys() | b.keys()) if key not in ("data", "data_count")
    }
    pairs = {name: (a.get(key, "none"), b.get(key, "none")) for name, key in keys.items()}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
