"""A tiny drawn data set, tiny models and helpers that the suites share."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mixnmatch import cli
from mixnmatch.bundle import bundle_of, save_bundle
from mixnmatch.config import (
    EvaluationConfig,
    ModelConfig,
    RunConfig,
    Stage1Config,
    Stage2Config,
)
from mixnmatch.data.batches import Batch
from mixnmatch.data.factors import FactorSpec, draw_factor_dataset
from mixnmatch.data.store import Dataset, open_dataset, write_dataset
from mixnmatch.training.stage1 import CodeStage
from mixnmatch.training.stage2 import ShapeStage


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads or fills the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIXNMATCH_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads cost more than they give at these sizes, and sums must not depend on them.

    On a busy machine they even wait for each other for minutes, in processes of a test's, too.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def spec() -> FactorSpec:
    """Of ``tiny_dataset``."""
    return FactorSpec(
        count=40, side=40, shapes=2, textures_per_shape=2, backgrounds=3, judge_count=24
    )


@pytest.fixture(scope="session")
def tiny_dataset(spec: FactorSpec, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """64 drawn pictures of 2 shapes, 4 textures and 3 backgrounds, 24 of them for judges."""
    out = tmp_path_factory.mktemp("tiny") / "set"
    write_dataset(draw_factor_dataset(spec), out, kind="factors", factors=spec.cardinalities)
    return open_dataset(out)


@pytest.fixture(scope="session")
def judged(spec: FactorSpec, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """As ``tiny_dataset``, but 700 pictures, 500 of them for judges: these learn in seconds."""
    out = tmp_path_factory.mktemp("judged") / "set"
    larger = replace(spec, count=200, judge_count=500)
    write_dataset(draw_factor_dataset(larger), out, kind="factors", factors=spec.cardinalities)
    return open_dataset(out)


@pytest.fixture(scope="session")
def tiny() -> RunConfig:
    """The smallest run that goes through everything."""
    return RunConfig(
        model=ModelConfig(
            image_size=32,
            super_categories=2,
            fine_categories=4,
            noise_dim=5,
            generator_width=8,
            discriminator_width=8,
            encoder_width=4,
            pair_width=2,
            extractor_width=2,
        ),
        stage1=Stage1Config(steps=4, batch_size=4, ema_decay=0.9),
        stage2=Stage2Config(steps=4, batch_size=4),
        evaluation=EvaluationConfig(samples=8, batch_size=8, classifier_steps=2, localiser_steps=2),
        log_every_steps=2,
        checkpoint_every_steps=2,
        sample_every_steps=4,
    )


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., Batch]:
    """Random pictures and boxes: a function of seed, count and side alone."""

    def make(seed: int = 0, count: int = 4, side: int = 32) -> Batch:
        random = torch.Generator().manual_seed(seed)

        def pictures(size: int) -> torch.Tensor:
            return 2 * torch.rand(count, 3, size, size, generator=random) - 1

        def boxes(size: int) -> torch.Tensor:
            corners = torch.rand(count, 2, 2, generator=random) * size
            return torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1)

        return Batch(pictures(side), boxes(side), pictures(side - 2), boxes(side - 2))

    return make


@pytest.fixture(scope="session")
def tiny_bundle(tiny: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model that has been through both stages."""
    out = tmp_path_factory.mktemp("made") / "bundle"
    return save_bundle(bundle_of(ShapeStage(tiny), metrics={"mask_contrast": 0.5}, data={}), out)


@pytest.fixture(scope="session")
def stage1_bundle(tiny: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model without a shape extractor."""
    out = tmp_path_factory.mktemp("made") / "bundle"
    return save_bundle(bundle_of(CodeStage(tiny), metrics={}, data={}), out)


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must fail, and give the one line that it prints."""

    def refuse(*arguments: object, status: int = 2) -> str:
        assert cli.main([str(argument) for argument in arguments]) == status
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("mixnmatch: error: ")
        assert captured.err.endswith("\n")
        assert len(captured.err.splitlines()) == 1
        return captured.err

    return refuse


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of a test's own runs and of its MLflow store; not there yet."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MIXNMATCH_HOME", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """The one Ray cluster of a session."""
    import ray

    from mixnmatch_platform import cluster

    cluster.connect(num_cpus=2)
    yield
    ray.shutdown()
