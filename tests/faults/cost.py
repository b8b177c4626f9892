"""What a fault has cost a run or a sweep, counted from its folder and from MLflow."""

import itertools
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from mixnmatch_platform.outbox import OUTBOX, Outbox


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one fault."""

    steps_lost: int
    """Steps of stage 1 that were done again."""
    figures: int
    """Points of metrics that the folders have, each name and step once."""
    lost: int
    """Of them, those that MLflow has not."""
    doubled: int
    """Points that MLflow has besides, of the same name and step."""
    runs: int
    """MLflow runs."""
    status: str
    """Of the runs, each that there is."""

    def __str__(self) -> str:
        return (
            f"{self.steps_lost} steps done again; of {self.figures:,} figures {self.lost} lost, "
            f"{self.doubled} doubled; {self.runs} run(s) {self.status}"
        )


Tell = Callable[[str, Cost], None]
"""Adds a line to the fault table: the fault, and what it has cost."""


def steps(out: Path, prefix: str = "stage1/") -> list[int]:
    """Steps of the training records, in the order in which they were written."""
    return [
        record["step"]
        for record in records(out)
        if any(name.startswith(prefix) for name in record["values"])
    ]


def records(out: Path) -> list[dict[str, Any]]:
    """The whole lines of a run's ``metrics.jsonl``."""
    file = out / "metrics.jsonl"
    if not file.is_file():
        return []
    whole, _, _ = file.read_text().rpartition("\n")  # the last may be half
    return [json.loads(line) for line in whole.splitlines()]


def lost_steps(out: Path) -> list[int]:
    """How many steps were done again, for each time that the run went back."""
    return [a - b + 1 for a, b in itertools.pairwise(steps(out)) if b <= a]


def cost_of(folder: Path, uri: str) -> Cost:
    """What it came to in the end for the run in a folder, or for a sweep and all of its trials."""
    client = MlflowClient(uri)
    again = figures = lost = doubled = 0
    experiments = set()
    for out in sorted(file.parent for file in folder.rglob(OUTBOX)):
        run_id = Outbox(out).run_id
        assert run_id is not None
        run = client.get_run(run_id)
        experiments.add(run.info.experiment_id)
        again += sum(lost_steps(out))
        expected = {(name, r["step"]) for r in records(out) for name in r["values"]}
        there: Counter[tuple[str, int]] = Counter()
        for name in run.data.metrics.keys() | {name for name, _ in expected}:
            there.update((name, p.step) for p in client.get_metric_history(run_id, name))
        figures += len(expected)
        lost += len(expected - there.keys())
        doubled += sum(count - 1 for count in there.values())
    runs = client.search_runs(list(experiments))
    return Cost(
        steps_lost=again,
        figures=figures,
        lost=lost,
        doubled=doubled,
        runs=len(runs),
        status=", ".join(sorted({run.info.status for run in runs})),
    )
