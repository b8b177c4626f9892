"""One Ray cluster for the session, a small drawn data set, and a home folder for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mixnmatch.config import RunConfig, override
from mixnmatch.data.factors import FactorSpec, draw_factor_dataset
from mixnmatch.data.store import write_dataset

TINY = {
    "model.image_size": 32,
    "model.super_categories": 3,
    "model.fine_categories": 6,
    "model.noise_dim": 4,
    "model.generator_width": 4,
    "model.discriminator_width": 4,
    "model.encoder_width": 4,
    "model.pair_width": 1,
    "model.extractor_width": 2,
    "stage1.batch_size": 4,
    "stage2.batch_size": 4,
    "stage1.steps": 6,
    "stage2.steps": 4,
    "evaluation.samples": 16,
    "evaluation.classifier_steps": 5,
    "log_every_steps": 1,
    "checkpoint_every_steps": 2,
    "sample_every_steps": 3,
}


@pytest.fixture(scope="session")
def drawn_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = FactorSpec(count=60, side=48, judge_count=30)
    out = tmp_path_factory.mktemp("drawn") / "data"
    write_dataset(draw_factor_dataset(spec), out, kind="factors", factors=spec.cardinalities)
    return out


@pytest.fixture
def tiny_config() -> RunConfig:
    return override(RunConfig(), TINY)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MIXNMATCH_HOME", str(tmp_path / "runs"))
    monkeypatch.setenv("MIXNMATCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "runs"


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    import ray

    from mixnmatch_platform import cluster

    cluster.connect(num_cpus=2)
    yield
    ray.shutdown()
