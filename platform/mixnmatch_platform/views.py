"""A saved view of MLflow's runs page for each sweep, so that nobody has to set one up.

Its table has the sweep's objectives and settings, the best trial first; its charts are the
objectives against each other, settings beside objectives, and the pictures of the trials. MLflow
keeps such views as tags of the experiment and lists them under *Views*. What is in one is no
interface of MLflow's: `tests/e2e/test_mlflow_ui.py` looks whether its page still shows it.
"""

import base64
import json
import time
import zlib
from collections.abc import Sequence
from typing import Any, Literal

from mixnmatch_platform.space import Objective

__all__ = ["SERIES", "saved_view", "view_address"]

PREFIX = "mlflow.sharedViewState."
SECTION = "sweep"
SERIES = "samples"
"""Pictures that runs record as they train."""


def saved_view(
    name: str, objectives: Sequence[Objective], settings: Sequence[str], *, last_step: int
) -> dict[str, str]:
    """The tag of an experiment that makes a view.

    Args:
        name: Of the view; one of the same name takes its place.
        objectives: Figures to show; the runs are sorted by the first one.
        settings: Parameters to show.
        last_step: Of a trial: the step whose pictures are shown.
    """
    metrics = [goal.metric for goal in objectives]
    state = {
        "orderByKey": f"metrics.`{metrics[0]}`",
        "orderByAsc": objectives[0].mode == "min",
        "selectedColumns": [
            *(f"metrics.`{metric}`" for metric in metrics),
            *(f"params.`{key}`" for key in settings),
        ],
        "runsHiddenMode": "SHOWALL",
        "compareRunSections": [_shown(SECTION, name="Sweep", display=True, isReordered=False)],
        "isAccordionReordered": True,  # else this section comes among the others
        "compareRunCharts": _charts(metrics, settings, last_step),
        # What MLflow has of itself.
        **{"searchFilter": "", "startTime": "ALL", "lifecycleFilter": "Active"},
        **{"datasetsFilter": [], "modelVersionFilter": "All Runs", "groupBy": None},
        **{"columnOrder": [], "columnWidths": {}, "hideEmptyCharts": True},
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    now = int(time.time() * 1000)
    view = {"name": name, "createdAt": now, "updatedAt": now, "state": f"deflate;{packed}"}
    return {f"{PREFIX}{_key(name)}": json.dumps(view)}


def _charts(
    metrics: Sequence[str], settings: Sequence[str], last_step: int
) -> list[dict[str, Any]]:
    charts: dict[str, dict[str, Any]] = {
        "settings": {
            "type": "PARALLEL",
            "selectedParams": list(settings),
            "selectedMetrics": list(reversed(metrics)),  # the last one gives the colours
            "showAllRuns": True,
        },
        "pictures": {
            "type": "IMAGE",
            "imageKeys": [SERIES],
            "step": last_step,
            "showRunParams": False,
        },
    }
    if len(metrics) > 1:
        y, x = ({"key": metric, "type": "METRIC"} for metric in metrics[:2])
        charts = {"trade-off": {"type": "SCATTER", "xaxis": x, "yaxis": y}, **charts}
    return [
        _shown(name, metricSectionId=SECTION, runsCountToCompare=100, **chart)
        for name, chart in charts.items()
    ]


def _shown(uuid: str, **what: Any) -> dict[str, Any]:
    return {"uuid": uuid, "deleted": False, "isGenerated": False, **what}


def view_address(
    server: str, experiment_id: str, name: str, *, mode: Literal["TABLE", "CHART"] = "TABLE"
) -> str:
    """Where a view is opened.

    Args:
        server: Address of MLflow.
        experiment_id: Of the experiment.
        name: Of the view; where there is none, MLflow shows its usual table.
        mode: Whether to see the table or the charts.
    """
    where = f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs"
    view = f"viewStateShareKey={_key(name)}&compareRunsMode={mode}"
    return f"{where}?workflowType=machine_learning&{view}"


def _key(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)
