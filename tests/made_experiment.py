"""A sweep's records without its trainings: for the tests of how people compare runs."""

import json
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric
from PIL import Image

from mixnmatch.config import RunConfig
from mixnmatch.metrics.protocol import PROTOCOL
from mixnmatch.settings import flatten, override
from mixnmatch_platform.notes import NOTE_TAG, sweep_note, trial_note
from mixnmatch_platform.protocols import protocol_tags
from mixnmatch_platform.space import Objective
from mixnmatch_platform.tracking import REASON_TAG, STAGES_TAG, Tracking
from mixnmatch_platform.views import saved_view

ACCURACY, DISTANCE = "disentanglement_accuracy", "frechet_factors_512"
OBJECTIVES = (Objective(ACCURACY, "max"), Objective(DISTANCE, "min"))
SETTINGS = ("model.fine_categories", "model.super_categories", "weights.encode_p")
CHANCE = 0.27
LAST_STEP = RunConfig().stage1.steps + RunConfig().stage2.steps
UNTRAINED = {ACCURACY: CHANCE, DISTANCE: 90.0}
BEST = "trial-0003"
"""Of the made sweep, by accuracy: with the least distance but one."""
FRONT = {"trial-0003", "trial-0007"}
TRIALS = 14
FAILED, OTHERWISE, WITHOUT = "trial-0012", "trial-0013", "trial-0014"
"""A trial that failed, one of another protocol, and one that recorded none."""


def protocol(samples: int = 512) -> dict[str, Any]:
    return {
        "generated": {"protocol": None, "samples": samples, "seed": 0, "stages": [1, 2]},
        "real": {"fingerprint": "f00d", "compared": 1600},
        "versions": {"mixnmatch": "0.1.0", "torch": "2.15.0"},
    }


class Made:
    """An experiment to which runs are added as trainings would.

    Args:
        home: Folder of the store.
        name: Of the experiment.
        empty_store: A store to begin with, where the tables are there already.
    """

    def __init__(self, home: Path, name: str = "made", empty_store: Path | None = None) -> None:
        home.mkdir(parents=True, exist_ok=True)
        if empty_store is not None and not (home / "mlflow.db").exists():
            shutil.copy(empty_store, home / "mlflow.db")
        self.home, self.name = home, name
        self.tracking = Tracking.at(home, name)
        self.tracking.check()
        self.client = MlflowClient(self.tracking.uri)
        self.parent: str | None = None

    def sweep(self, objectives: tuple[Objective, ...] = OBJECTIVES, constraints: str = "") -> str:
        self.parent = self.tracking.start_run(
            self.name,
            tags={
                "mixnmatch.kind": "sweep",
                NOTE_TAG: sweep_note(self.name, f"sweep       {self.name}: 3 trials"),
            },
            params={"objectives": ", ".join(map(str, objectives)), "constraints": constraints},
        )
        self.tracking.tag_experiment(
            saved_view(self.name, objectives, SETTINGS, last_step=LAST_STEP)
        )
        return self.parent

    def run(
        self,
        name: str,
        figures: Mapping[str, float] | None,
        settings: Mapping[str, Any] | None = None,
        *,
        kind: str = "trial",
        reach: float = 0.01,
        measured: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        picture: Image.Image | None = None,
        tagged: bool = True,
    ) -> str:
        """Record a run; without figures it fails.

        Args:
            name: Of the run.
            figures: It ends with.
            settings: That are not the defaults.
            kind: ``trial``, ``refit`` or ``run``.
            reach: Half of the interval of the accuracy.
            measured: The protocol; None for none.
            tags: More of them.
            picture: Its sample sheet.
            tagged: Whether the protocol is a tag, too, as it has not always been.
        """
        config = override(RunConfig(), settings or {})
        run_id = self.tracking.start_run(
            name,
            parent_run_id=self.parent if kind != "run" else None,
            tags={
                "mixnmatch.kind": kind,
                NOTE_TAG: trial_note(self.name, name, settings or {}),
                **(tags or {}),
            },
            params={**flatten(config), "data": "data/drawn", "data_count": 2000},
        )
        self._metrics(run_id, 0, {**UNTRAINED, f"chance/{ACCURACY}": CHANCE})
        images = {"stage1/images": 16.0 * config.stage1.steps}
        self._metrics(run_id, config.stage1.steps, images)
        if figures is None:
            self.client.set_tag(run_id, REASON_TAG, "stage 1, step 40: generator/pair = nan")
            self.client.set_terminated(run_id, "FAILED")
            return run_id
        middle = {key: (value + UNTRAINED.get(key, value)) / 2 for key, value in figures.items()}
        end = config.stage1.steps + config.stage2.steps
        images = {"stage2/images": 16.0 * config.stage2.steps, "cost/device_seconds": 1800.0}
        accuracy = figures.get(ACCURACY)
        ends = (
            {}
            if accuracy is None
            else {f"low/{ACCURACY}": accuracy - reach, f"high/{ACCURACY}": accuracy + reach}
        )
        self._metrics(run_id, config.stage1.steps, middle)
        self._metrics(run_id, end, {**figures, **ends, **images})
        if picture is not None:
            for step in (0, end):
                self.client.log_image(run_id, picture, key="samples", step=step)
        if measured is not None:
            folder = self.home / "protocols" / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / PROTOCOL).write_text(json.dumps(measured))
            self.client.log_artifact(run_id, str(folder / PROTOCOL))
            if tagged:
                self.tracking.set_tags(run_id, protocol_tags(folder))
        self.tracking.set_tags(run_id, {STAGES_TAG: "1+2"})
        self.client.set_terminated(run_id, "FINISHED")
        return run_id

    def _metrics(self, run_id: str, step: int, values: Mapping[str, float]) -> None:
        points = [
            Metric(name, value, 1_700_000_000_000 + step, step) for name, value in values.items()
        ]
        self.client.log_batch(run_id, metrics=points, synchronous=True)


def made_sweep(home: Path, *, empty_store: Path | None = None, pictures: int = 3) -> Made:
    """Fifteen trials: accuracy grows with the number of shapes, the distance is luck.

    Args:
        home: Folder of the store.
        empty_store: A store to begin with.
        pictures: Number of trials with sample sheets.
    """
    made = Made(home, empty_store=empty_store)
    made.sweep()
    luck = random.Random(3)
    for number in range(12):
        supers = (2, 3, 4, 6)[number % 4]
        figures = {
            ACCURACY: 0.3 + 0.03 * supers + 0.001 * luck.random() + (0.01 if number == 3 else 0),
            DISTANCE: {3: 31.0, 7: 30.0}.get(number, 35 + 10 * luck.random()),
        }
        sheet = Image.linear_gradient("L").resize((96, 64)).convert("RGB").rotate(30 * number)
        made.run(
            f"trial-{number:04d}",
            figures,
            {
                "model.super_categories": supers,
                "model.fine_categories": supers * luck.choice((1, 2, 4)),
                "weights.encode_p": round(5 + 15 * luck.random(), 2),
            },
            measured=protocol(),
            picture=sheet if number < pictures or number in (3, 7) else None,
        )
    made.run(FAILED, None, {"model.super_categories": 6, "model.fine_categories": 24})
    better_than_all = {ACCURACY: 0.9, DISTANCE: 10.0}
    made.run(OTHERWISE, better_than_all, measured=protocol(samples=64))
    made.run(WITHOUT, better_than_all)
    return made
