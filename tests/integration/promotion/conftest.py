"""A store with runs as training leaves them, of a model so small that it mixes in no time."""

import itertools
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from safetensors.torch import load_file, save_file

from mixnmatch.bundle import DESCRIPTION, WEIGHTS, ModelBundle, save_bundle
from mixnmatch.config import EvaluationConfig, ModelConfig, RunConfig
from mixnmatch.files import checksum
from mixnmatch.metrics.report import finite_or_null
from mixnmatch.networks import Encoders, Generator, ShapeExtractor
from mixnmatch_platform.promotion import promote as promoting
from mixnmatch_platform.promotion.gates import Verdict
from mixnmatch_platform.promotion.promote import promote
from mixnmatch_platform.promotion.request import Promotion, Request
from mixnmatch_platform.tracking import DATA_TAG, STAGES_TAG, Tracking

ACCURACY = "disentanglement_accuracy"
PROTOCOL = {"generated": {"protocol": "quick", "samples": 512}, "real": {"fingerprint": "f00d"}}
StartRun = Callable[..., str]


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
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
    return save_bundle(trained, tmp_path_factory.mktemp("made") / "bundle")


@pytest.fixture(scope="session")
def make_bundle(bundle: Path) -> Callable[[Path], Path]:
    """Makes another one, with other weights: orthogonal ones from nothing take many seconds."""
    sizes = itertools.count(1.1, 0.1)

    def make(out: Path) -> Path:
        shutil.copytree(bundle, out)
        _save_weights(out, "made", scale=next(sizes))
        return out

    return make


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


def _put_bundle(source: Path, out: Path, figures: Mapping[str, float]) -> Path:
    """A copy as another training would have written it: with figures of its own."""
    shutil.copytree(source, out)
    described = json.loads((out / DESCRIPTION).read_text())
    described["metrics"] = finite_or_null(dict(figures))
    (out / DESCRIPTION).write_text(json.dumps(described))
    return out


def _save_weights(bundle: Path, by: str, *, scale: float = 1) -> None:
    """Make the file of weights another one; only with a scale the model does something else."""
    weights = load_file(bundle / WEIGHTS)
    scaled = {k: v * scale if v.is_floating_point() else v.clone() for k, v in weights.items()}
    save_file(scaled, bundle / WEIGHTS, {"by": by})
    described = json.loads((bundle / DESCRIPTION).read_text())
    described["sha256"] = checksum(bundle / WEIGHTS)
    (bundle / DESCRIPTION).write_text(json.dumps(described))


@pytest.fixture
def train(tracking: Tracking, bundle: Path, tmp_path: Path) -> StartRun:
    """Makes a run as training would leave it, with a file of weights that no other run has.

    Weights that are named are taken as they are. Each figure's interval reaches so far to each
    side.
    """

    def run(
        name: str,
        metrics: dict[str, float],
        *,
        stages: str = "1+2",
        status: Any = "FINISHED",
        weights: Path | Literal["own"] | None = "own",
        parent: str | None = None,
        data: Path | None = None,
        fingerprint: str = "f00d",
        reach: float | None = 0.1,
        protocol: dict[str, Any] | None = PROTOCOL,
    ) -> str:
        tags = {STAGES_TAG: stages, DATA_TAG: fingerprint}
        params = {} if data is None else {"data": str(data)}
        run_id = tracking.start_run(name, parent_run_id=parent, tags=tags, params=params)
        out = tmp_path / "runs" / "exp" / run_id
        recorder = tracking.recorder(run_id, out)
        ends = {} if reach is None else {"low": -reach, "high": reach}
        intervals = {f"{e}/{m}": v + by for m, v in metrics.items() for e, by in ends.items()}
        figures = {**metrics, **intervals}
        recorder.metrics(figures, step=1)
        if weights is not None:
            known = {"evaluation/samples": 512.0, "judge/held_out": 200.0} | figures
            source = bundle if weights == "own" else weights
            made = _put_bundle(source, out / "bundle", known if figures else {})
            if weights == "own":
                _save_weights(made, run_id)
            recorder.artifact(made)
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
