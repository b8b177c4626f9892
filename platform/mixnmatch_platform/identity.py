"""What a sweep is checked for before its first trial: its figures, and that it is the same one."""

import json
from dataclasses import replace

from mixnmatch.data.store import Dataset
from mixnmatch.errors import InputError
from mixnmatch.files import whole_file
from mixnmatch.metrics.evaluate import metric_names
from mixnmatch_platform.study import JOURNAL
from mixnmatch_platform.sweep import IDENTITY, Sweep

__all__ = ["check_metrics", "check_same"]


def check_metrics(sweep: Sweep, dataset: Dataset) -> None:
    """Refuse a sweep that optimises what is not measured.

    Raises:
        InputError: Naming what is.
    """
    evaluation = sweep.config.evaluation
    final = [goal.metric for goal in sweep.objectives] + [c.metric for c in sweep.constraints]
    rungs = [sweep.rung_metric] if sweep.halving else []
    within = replace(evaluation, samples=evaluation.every_samples)
    for metrics, config in ((final, evaluation), (rungs, within)):
        names = metric_names(dataset, config)
        for metric in metrics:
            if metric in names:
                continue
            needs_weights = metric.startswith(("fid", "kid", "inception"))
            hint = " (it needs evaluation.inception_weights)" if needs_weights else ""
            known = ", ".join(sorted(name for name in names if "/" not in name))
            raise InputError(
                f"{metric} is not measured on {sweep.data} by {config.samples} samples with these "
                f"settings{hint}: measured are {known}"
            )


def check_same(sweep: Sweep, dataset: Dataset) -> None:
    """Refuse to go on with another sweep of this name, else note what this one is.

    Raises:
        InputError: Naming the first difference.
    """
    file = sweep.folder / IDENTITY
    now = {**sweep.identity, "data fingerprint": dataset.info.fingerprint}
    now = json.loads(json.dumps(now))
    if file.is_file():
        before = json.loads(file.read_text(encoding="utf-8"))
        for key in sorted(before.keys() | now.keys()):
            if before.get(key) != now.get(key):
                raise InputError(
                    f"sweep {sweep.name} was begun with {key} = {json.dumps(before.get(key))}, not "
                    f"{json.dumps(now.get(key))}: go on with its settings, or take another --name"
                )
        return
    if (sweep.folder / JOURNAL).is_file():
        raise InputError(f"{sweep.folder} has a study but no {IDENTITY}: take another --name")
    with whole_file(file) as partial:
        partial.write_text(json.dumps(now, indent=2) + "\n", encoding="utf-8")
