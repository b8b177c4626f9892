"""Two workers against one with both batches: the same weights, in float64.

Workers whose batch norm sees their own batch do what one worker does in two micro-batches; workers
whose batch norm sees all batches do what one does with the whole batch at once.
"""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, multiprocessing
from torch import distributed as dist

from mixnmatch.config import RunConfig
from mixnmatch.data.batches import Batch
from mixnmatch.settings import override
from mixnmatch.training.stage1 import CodeStage
from mixnmatch.training.stage2 import ShapeStage
from mixnmatch.training.state import TrainingStage

WORKERS = 2
KINDS: list[type[Any]] = [CodeStage, ShapeStage]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=["stage1", "stage2"])


class Learned(NamedTuple):
    """What some steps have left, and their losses."""

    modules: dict[str, dict[str, Tensor]]
    optimisers: dict[str, Any]
    losses: list[dict[str, Tensor]]


@pytest.fixture(scope="module")
def config(tiny: RunConfig) -> RunConfig:
    """Everything is on that draws numbers or joins pictures."""
    changes = {
        "model.pack_size": 2,
        "weights.child_r1": 0.5,
        "stage1.r1_every_steps": 2,
        "stage1.augment": "color,translation,cutout",
        "stage1.ema_half_life_images": 20,
        "stage2.soft_shape_probability": 0.5,
    }
    return override(tiny, changes)


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def learn(stage: TrainingStage, batches: list[Batch]) -> Learned:
    for module in stage.modules().values():
        module.double()
    losses = [stage.step(batch, watch=True) for batch in batches]
    state = stage.state_dict()
    return Learned(state["modules"], state["optimisers"], losses)


def part(batch: Batch, rank: int) -> Batch:
    return Batch(*(field.chunk(WORKERS)[rank] for field in batch))


def file_name(kind: type[Any], together: bool, rank: int) -> str:
    return f"stage{kind.number}-{'together' if together else 'apart'}-{rank}.pt"


def _worker(rank: int, config: RunConfig, batches: list[Batch], folder: Path) -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=WORKERS)
    mine = [part(batch, rank) for batch in batches]
    for kind, together in itertools.product(KINDS, (False, True)):
        own = override(config, {"compute.sync_batch_norm": together})
        stage = kind(own, rank=rank, world_size=WORKERS)
        torch.save(tuple(learn(stage, mine)), folder / file_name(kind, together, rank))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def batches(make_batch: Callable[..., Batch]) -> list[Batch]:
    """Of both workers."""
    made = [make_batch(seed, count=4 * WORKERS) for seed in range(2)]
    return [Batch(*(field.double() for field in batch)) for batch in made]


@pytest.fixture(scope="module")
def folder(
    config: RunConfig, batches: list[Batch], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Of what two workers have learned, with batch norm apart and together."""
    folder = tmp_path_factory.mktemp("workers")
    multiprocessing.spawn(_worker, (config, batches, folder), nprocs=WORKERS)
    return folder


def workers(folder: Path, kind: type[Any], *, together: bool) -> list[Learned]:
    paths = [folder / file_name(kind, together, rank) for rank in range(WORKERS)]
    return [Learned(*torch.load(path, weights_only=True)) for path in paths]


def alone(kind: type[Any], config: RunConfig, batches: list[Batch], parts: int) -> Learned:
    size = f"stage{kind.number}.batch_size"
    whole = {size: 4 * WORKERS, "compute.micro_batches": parts}
    return learn(kind(override(config, whole)), batches)


def compare(one: Learned, two: list[Learned], *, statistics: bool) -> None:
    def close(ours: Tensor, right: Tensor, name: str) -> None:
        # Gradients that are zero but for rounding move a weight by 1e-12, of steps of 2e-4.
        torch.testing.assert_close(ours, right, rtol=1e-8, atol=1e-10, msg=name)

    for worker in two:
        for network, state in one.modules.items():
            for key, value in state.items():
                buffer = key.endswith(("running_mean", "running_var", "num_batches_tracked"))
                if statistics or not buffer:
                    close(worker.modules[network][key], value, f"{network}.{key}")
        for phase, optimiser in one.optimisers.items():
            for number, moments in optimiser["state"].items():
                for name in ("exp_avg", "exp_avg_sq"):
                    ours = worker.optimisers[phase]["state"][number][name]
                    close(ours, moments[name], f"{phase} {number} {name}")
    for number, losses in enumerate(one.losses):
        for name, loss in losses.items():
            mean = torch.stack([worker.losses[number][name] for worker in two]).mean()
            close(mean.double(), loss.double(), f"step {number}: {name}")


@each_kind
def test_two_workers_are_two_micro_batches(
    kind: type[Any], config: RunConfig, batches: list[Batch], folder: Path
) -> None:
    two = workers(folder, kind, together=False)
    compare(alone(kind, config, batches, WORKERS), two, statistics=False)


@each_kind
def test_two_workers_with_one_batch_norm_are_one_with_the_whole_batch(
    kind: type[Any], config: RunConfig, batches: list[Batch], folder: Path
) -> None:
    two = workers(folder, kind, together=True)
    compare(alone(kind, config, batches, 1), two, statistics=True)


@each_kind
def test_batch_norm_apart_and_together_are_not_the_same(kind: type[Any], folder: Path) -> None:
    """Or the other tests would say nothing."""
    apart, together = (workers(folder, kind, together=both) for both in (False, True))
    network = {1: "generator", 2: "extractor"}[kind.number]
    for key, value in apart[0].modules[network].items():
        other = together[0].modules[network][key]
        if key.endswith("running_mean"):
            assert not torch.allclose(value, apart[1].modules[network][key], rtol=1e-4)
        if key.endswith("weight"):
            assert not torch.allclose(value, other, rtol=1e-6, atol=1e-8), key
