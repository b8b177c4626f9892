"""What ``step.py`` measures with: stages in processes of their own, multiply-adds, gradients.

To time one more way of taking the step, add a row to ``VARIANTS``.
"""

import math
import resource
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from multiprocessing import get_context
from typing import Any, NamedTuple

import torch
from ablations import ABLATIONS
from gradients import relative_differences, watch
from plain import PlainStage1, PlainStage2
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from mixnmatch.config import RunConfig
from mixnmatch.data.batches import Batch
from mixnmatch.device import keep_freed_memory
from mixnmatch.settings import override
from mixnmatch.training.stage1 import CodeStage
from mixnmatch.training.stage2 import ShapeStage

STAGES: dict[int, tuple[Any, Any]] = {1: (CodeStage, PlainStage1), 2: (ShapeStage, PlainStage2)}


class Variant(NamedTuple):
    """A way to take the step."""

    precision: str
    """Of its convolutions: a key of ``PRECISIONS``."""
    changes: dict[str, Any] | None
    """To the run's configuration; None is the plain step."""


PLAIN, OURS = "plain", "ours float32"
VARIANTS: dict[str, Variant] = {
    PLAIN: Variant("float32", None),
    OURS: Variant("float32", {"compute.precision": "float32"}),
    "ours bfloat16": Variant("bfloat16", {"compute.precision": "bfloat16"}),
}
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# Inputs, outputs, side, kernel, stride.
CONVOLUTIONS = [
    (128, 128, 64, 3, 1),
    (256, 256, 32, 3, 1),
    (256, 512, 32, 4, 2),
    (512, 512, 16, 3, 1),
]


class Setting(NamedTuple):
    """What is measured, and on what."""

    config: RunConfig
    batch: int
    device: str
    threads: int

    def stage(self, number: int, variant: str) -> Any:
        """A new stage, or the plain formulation of one."""
        torch.set_num_threads(self.threads)
        ours, plain = STAGES[number]
        changes = VARIANTS[variant].changes
        if changes is None:
            return plain(ours(self.config, self.device))
        return ours(override(self.config, changes), self.device)

    def pictures(self, seed: int) -> Batch:
        """Random pictures and boxes."""
        random = torch.Generator().manual_seed(seed)
        side = self.config.model.image_size

        def view(size: int) -> tuple[Tensor, Tensor]:
            corners = torch.rand(self.batch, 2, 2, generator=random) * size
            boxes = torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1)
            image = 2 * torch.rand(self.batch, 3, size, size, generator=random) - 1
            return image.to(self.device), boxes.to(self.device)

        return Batch(*view(side), *view(side - 2))

    def seconds(self, work: Callable[..., Any], *arguments: Any) -> float:
        """Wall time of some work, until the device has done it."""
        self.wait()
        began = time.perf_counter()
        work(*arguments)
        self.wait()
        return time.perf_counter() - began

    def wait(self) -> None:
        """For what the device still has to do."""
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)


class Taker:
    """A stage that takes its steps in a process of its own.

    Args:
        setting: What is measured, and on what.
        number: Of the stage.
        variant: A key of ``VARIANTS``.
        keep_freed: Whether malloc keeps what is freed, as in training.
    """

    def __init__(self, setting: Setting, number: int, variant: str, keep_freed: bool) -> None:
        # A child's peak memory counts its parent's pages at birth: this one's are torch's alone.
        self.pool = ProcessPoolExecutor(
            1,
            mp_context=get_context("spawn"),
            initializer=_begin,
            initargs=(setting, number, variant, keep_freed),
        )

    def warm_up(self) -> int:
        """Two steps; the multiply-adds of one."""
        return self.pool.submit(_warm_up).result()

    def seconds(self, seed: int, ablation: str | None = None) -> float:
        """Wall time of a step on the seed's pictures, with one optimisation undone or none."""
        return self.pool.submit(_seconds, seed, ablation).result()

    def peak_memory(self) -> float:
        """The largest so far, in MiB: the process's on the CPU, else its tensors'."""
        return self.pool.submit(_peak_memory).result()


# What the functions below find in a taker's process.
_held: dict[str, Any] = {}


def _begin(setting: Setting, number: int, variant: str, keep_freed: bool) -> None:
    if keep_freed:
        keep_freed_memory()
    _held.update(setting=setting, stage=setting.stage(number, variant))


def _warm_up() -> int:
    setting, stage = _held["setting"], _held["stage"]
    count = multiply_adds(stage.step, setting.pictures(0))
    stage.step(setting.pictures(0))
    return count


def _seconds(seed: int, ablation: str | None) -> float:
    setting, stage = _held["setting"], _held["stage"]
    batch = setting.pictures(seed)
    with ABLATIONS[ablation].undo(stage) if ablation else nullcontext():
        return setting.seconds(stage.step, batch)


def _peak_memory() -> float:
    device = _held["setting"].device
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """The answer of a function that runs in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def gradient_differences(setting: Setting, number: int, precision: torch.dtype) -> dict[str, Any]:
    """How far the gradients of ours and of the plain step are apart, relative to their norms."""
    torch.set_default_dtype(precision)
    stage = setting.stage(number, OURS)
    for network in stage.modules().values():
        network.to(precision)
    plain = STAGES[number][1](stage)
    names = {
        id(parameter): f"{network}.{key}"
        for network, module in stage.modules().items()
        for key, parameter in module.named_parameters()
    }
    ours, reference = watch(stage.optimisers, names), watch(plain.optimisers, plain.names())
    batch = setting.pictures(0)
    stage.step(batch)
    plain.step(batch)
    differences = relative_differences(ours, reference)
    largest, name = max((value, name) for name, value in differences.items())
    return {"largest": largest, "of": name, "median": statistics.median(differences.values())}


def multiply_adds(work: Callable[..., Any], *arguments: Any) -> int:
    """Multiply-adds of all convolutions and matrix products."""

    def backward(
        grad_out: Any, x: Any, weight: Any, *rest: Any, out_shape: Any = None, **_: Any
    ) -> int:
        # torch's own formula counts a grouped convolution's weight gradient once a group.
        transposed, output_mask = rest[4], rest[7]
        pixels = math.prod((x if transposed else grad_out)[2:])
        return 2 * x[0] * pixels * math.prod(weight) * sum(output_mask[:2])

    formulas = {torch.ops.aten.convolution_backward: backward}
    counter = FlopCounterMode(display=False, custom_mapping=formulas)
    # The account by module cannot follow ``autograd.grad`` to a leaf; the total needs none.
    tracker: Any = nullcontext()
    tracker.parents = {"Global"}
    counter.mod_tracker = tracker
    with counter:
        work(*arguments)
    return counter.get_total_flops() // 2


def fastest_convolution(setting: Setting, precision: torch.dtype) -> tuple[float, str]:
    """Multiply-adds a second of the best convolution and layout, and which it is."""
    torch.set_num_threads(setting.threads)
    # A GPU needs more to do, and more of it in a row, than a CPU.
    batch, calls = (256, 10) if setting.device.startswith("cuda") else (12, 1)
    best = (0.0, "")
    for inputs, outputs, side, kernel, stride in CONVOLUTIONS:
        for layout in (torch.contiguous_format, torch.channels_last):
            to: Any = {"device": setting.device, "dtype": precision}
            x = torch.randn(batch, inputs, side, side, **to).to(memory_format=layout)
            weight = torch.randn(outputs, inputs, kernel, kernel, **to).to(memory_format=layout)

            def work(x: Tensor = x, weight: Tensor = weight, stride: int = stride) -> Tensor:
                for _ in range(calls):
                    y = F.conv2d(x, weight, stride=stride, padding=1)
                return y

            count = calls * work()[:, :1].numel() * weight.numel()
            least = min(setting.seconds(work) for _ in range(3))
            text = f"{kernel}×{kernel}, {inputs}→{outputs}, stride {stride}, side {side}"
            best = max(best, (count / least, text))
    return best
