"""A store with runs as training leaves them, of a model so small that it mixes in no time."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mixnmatch.bundle import ModelBundle, save_bundle
from mixnmatch.config import EvaluationConfig, ModelConfig, RunConfig
from mixnmatch.networks import Encoders, Generator, ShapeExtractor
from mixnmatch_platform.promotion import promote as promoting
from mixnmatch_platform.promotion.gates import Verdict
from mixnmatch_platform.promotion.promote import promote
from mixnmatch_platform.promotion.request import Promotion, Request
from mixnmatch_platform.tracking import DATA_TAG, STAGES_TAG, Tracking

ACCURACY = "disentanglement_accuracy"
PROTOCOL = {"generated": {"protocol": "quick", "samples": 512}, "real": {"fingerprint": "f00d"}}
StartRun = Callable[..., str]


def _make_bundle(out: Path) -> Path:
    model = ModelConfig(
        image_size=32,
        super_categories=2,
        fine_categories=4,
        generator_width=4,
        discriminator_width=4,
        encoder_width=4,
        pair_width=1,
        extractor_width=1,
    )
    trained = ModelBundle(
        config=RunConfig(
            model=model, evaluation=EvaluationConfig(samples=16, batch_size=16, classifier_steps=2)
        ),
        generator=Generator(model),
        encoders=Encoders(model),
        extractor=ShapeExtractor(model),
        metrics={
            ACCURACY: 0.5,
            f"low/{ACCURACY}": 0.4,
            f"high/{ACCURACY}": 0.6,
            f"chance/{ACCURACY}": 0.3,
        },
        data={"kind": "factors", "count": 40, "fingerprint": "f00d"},
    )
    return save_bundle(trained, out)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _make_bundle(tmp_path_factory.mktemp("made") / "bundle")


@pytest.fixture(scope="session")
def make_bundle() -> Callable[[Path], Path]:
    """Makes another one, with other weights."""
    return _make_bundle


@pytest.fixture(autouse=True)
def its_own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands and releases find this store, and nothing of the user's."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MIXNMATCH_HOME", str(tmp_path / "runs"))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))


@pytest.fixture
def no_smoke(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of something else: a fresh process takes seconds to import torch."""
    passed = Verdict(gate="smoke test", passed=True, said="left out")
    monkeypatch.setattr(promoting, "smoke_test", lambda _: passed)


@pytest.fixture
def train(tracking: Tracking, bundle: Path, tmp_path: Path) -> StartRun:
    """Makes a run as training would leave it; each figure's interval reaches 0.01 to each side."""

    def run(
        name: str,
        metrics: dict[str, float],
        *,
        stages: str = "1+2",
        status: Any = "FINISHED",
        weights: Path | None = bundle,
        parent: str | None = None,
        data: Path | None = None,
        fingerprint: str = "f00d",
        reach: float | None = 0.01,
        protocol: dict[str, Any] | None = PROTOCOL,
    ) -> str:
        tags = {STAGES_TAG: stages, DATA_TAG: fingerprint}
        params = {} if data is None else {"data": str(data)}
        run_id = tracking.start_run(name, parent_run_id=parent, tags=tags, params=params)
        out = tmp_path / "runs" / "exp" / run_id
        recorder = tracking.recorder(run_id, out)
        ends = {} if reach is None else {"low": -reach, "high": reach}
        intervals = {f"{e}/{m}": v + by for m, v in metrics.items() for e, by in ends.items()}
        recorder.metrics({**metrics, **intervals}, step=1)
        if weights is not None:
            recorder.artifact(weights)
        if protocol is not None:
            (out / "evaluation-protocol.json").write_text(json.dumps(protocol))
            recorder.artifact(out / "evaluation-protocol.json")
        recorder.close()
        if status != "RUNNING":
            tracking.finish(run_id, status)
        return run_id

    return run


@pytest.fixture
def run_promote(tracking: Tracking) -> Callable[..., Promotion]:
    """Promotes with the usual request, changed by its arguments."""

    def run(**changes: Any) -> Promotion:
        wanted = {"name": "demo", "metric": ACCURACY, "experiment": "exp"} | changes
        return promote(tracking.uri, Request(**wanted))

    return run
