"""What the platform's tests train, on the data set that all suites share."""

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mixnmatch.config import RunConfig
from mixnmatch.data.store import Dataset
from mixnmatch.settings import override
from mixnmatch_platform.tracking import Tracking


@pytest.fixture(scope="session")
def drawn_data(tiny_dataset: Dataset) -> Path:
    return tiny_dataset.path


@pytest.fixture
def tiny_config(tiny: RunConfig) -> RunConfig:
    """Six and four steps, every one of them recorded."""
    changes = {"stage1.steps": 6, "log_every_steps": 1, "sample_every_steps": 3}
    return override(tiny, changes)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database to copy: creating its tables takes seconds."""
    home = tmp_path_factory.mktemp("store")
    Tracking(f"sqlite:///{home}/mlflow.db", "exp").check()
    return home / "mlflow.db"


@pytest.fixture
def tracking(tmp_path: Path, empty_store: Path) -> Tracking:
    (tmp_path / "runs").mkdir()
    shutil.copy(empty_store, tmp_path / "runs")
    return Tracking.at(tmp_path / "runs", "exp")


@pytest.fixture
def client(tracking: Tracking) -> MlflowClient:
    return MlflowClient(tracking_uri=tracking.uri)
