"""A saved view of MLflow's table of runs: a sweep's objectives and settings, the best trial first.

MLflow keeps such views as tags of the experiment, and lists them under *Views*. What is in one is
no interface of MLflow's: `tests/e2e/test_mlflow_ui.py` looks whether the page still shows it.
"""

import base64
import json
import time
import zlib
from collections.abc import Sequence

from mixnmatch_platform.space import Objective

__all__ = ["saved_view", "view_address"]

PREFIX = "mlflow.sharedViewState."


def saved_view(
    name: str, objectives: Sequence[Objective], settings: Sequence[str]
) -> dict[str, str]:
    """The tag of an experiment that makes a view.

    Args:
        name: Of the view; one of the same name takes its place.
        objectives: Figures to show; the runs are sorted by the first one.
        settings: Parameters to show.
    """
    first = objectives[0]
    state = {
        "searchFilter": "",
        "orderByKey": f"metrics.`{first.metric}`",
        "orderByAsc": first.mode == "min",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [
            *(f"metrics.`{goal.metric}`" for goal in objectives),
            *(f"params.`{key}`" for key in settings),
        ],
        "columnOrder": [],
        "columnWidths": {},
        "runsHiddenMode": "SHOWALL",
        "hideEmptyCharts": True,
        "groupBy": None,
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    now = int(time.time() * 1000)
    view = {"name": name, "createdAt": now, "updatedAt": now, "state": f"deflate;{packed}"}
    return {f"{PREFIX}{_key(name)}": json.dumps(view)}


def view_address(server: str, experiment_id: str, name: str) -> str:
    """Where a view is opened.

    Args:
        server: Address of MLflow.
        experiment_id: Of the experiment.
        name: Of the view; where there is none, MLflow shows its usual table.
    """
    where = f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs"
    return f"{where}?workflowType=machine_learning&viewStateShareKey={_key(name)}"


def _key(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)
