"""Optimisers, averaged weights, and what workers share of gradients."""

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch import distributed as dist

from mixnmatch.config import Stage1Config
from mixnmatch.networks.normalisation import MOMENTUM, BatchNorm

M = TypeVar("M", bound=nn.Module)


class Averaged(Generic[M]):
    """Exponential moving average of a network's weights; its buffers follow the live ones.

    Args:
        live: The network that is trained.
        decay: Share of the average that is kept at each update.
    """

    def __init__(self, live: M, decay: float) -> None:
        self.decay = decay
        self.network: M = copy.deepcopy(live).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, live: M) -> None:
        """Move the average towards the live weights."""
        average: list[Tensor] = list(self.network.parameters())
        current: list[Tensor] = list(live.parameters())
        torch._foreach_lerp_(average, current, 1 - self.decay)
        torch._foreach_copy_(list(self.network.buffers()), list(live.buffers()))

    @torch.no_grad()
    def estimate_statistics(self, batches: Iterable[Any]) -> None:
        """Give the average batch norm statistics of its own: the mean over some of its inputs.

        Args:
            batches: Inputs of the network.
        """
        layers = [m for m in self.network.modules() if isinstance(m, BatchNorm)]
        for layer in layers:
            layer.reset_running_stats()
        self.network.train()
        for number, batch in enumerate(batches):
            for layer in layers:
                layer.momentum = 1 / (number + 1)
            self.network(batch)
        for layer in layers:
            layer.momentum = MOMENTUM
        self.network.eval()

    @torch.no_grad()
    def restore(self, live: M) -> None:
        """Let the live network go on from the averaged weights."""
        for theirs, mine in zip(live.parameters(), self.network.parameters(), strict=True):
            theirs.copy_(mine)


def average_decay(config: Stage1Config, world_size: int) -> float:
    """Decay a step of the averaged generator, from the half-life in images where there is one."""
    if config.ema_half_life_images is None:
        return config.ema_decay
    return float(0.5 ** (config.batch_size * world_size / config.ema_half_life_images))


def adam(
    parameters: Iterable[Tensor], *, lr: float, beta1: float, beta2: float
) -> torch.optim.Adam:
    """Adam in one pass over the weights."""
    return torch.optim.Adam(parameters, lr=lr, betas=(beta1, beta2), fused=True)


def load_optimiser(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Go on from a saved state, with the settings, kernels and memory order of now."""
    groups = [
        {**now, "params": saved["params"]}
        for now, saved in zip(optimiser.param_groups, state["param_groups"], strict=True)
    ]
    optimiser.load_state_dict({**state, "param_groups": groups})
    for group in optimiser.param_groups:
        for weight in group["params"]:
            moments = optimiser.state[weight]
            for name, value in moments.items():
                # Adam goes through weights and moments together, as they lie in memory.
                if value.dim() and value.shape == weight.shape:
                    moments[name] = torch.empty_like(weight, requires_grad=False).copy_(value)


def world_size() -> int:
    """Number of data-parallel workers; 1 where none were started."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


@torch.no_grad()
def share_weights(modules: Iterable[nn.Module]) -> None:
    """Give every worker the weights and buffers of worker 0."""
    if world_size() > 1:
        for module in modules:
            for value in module.state_dict().values():
                dist.broadcast(value, src=0)


@torch.no_grad()
def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace each gradient by its mean over the workers, in one message.

    DistributedDataParallel wants one forward for one backward of one module; a step here runs each
    network several times for several losses, so the gradients are averaged when they are complete.
    """
    workers = world_size()
    if workers == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= workers
    pieces = flat.split([gradient.numel() for gradient in gradients])
    for gradient, piece in zip(gradients, pieces, strict=True):
        gradient.copy_(piece.view_as(gradient))


@torch.no_grad()
def mean_over_workers(value: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The mean of what each worker has."""
    workers = world_size()
    if workers > 1:
        value = value.clone()
        dist.all_reduce(value)
        value /= workers
    return value


@torch.no_grad()
def gradient_norm(parameters: Iterable[Tensor]) -> Float[Tensor, ""]:
    """Euclidean norm of all gradients together."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    return torch.stack(torch._foreach_norm(gradients)).norm()


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Let gradients pass through these modules, but compute none for their weights."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
