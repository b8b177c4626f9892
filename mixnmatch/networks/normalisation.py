"""Batch norm: faster on a CPU than PyTorch's own, and over all workers' batches where wanted."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional as F

from mixnmatch.networks.precision import full_precision

MOMENTUM = 0.1
"""Share by which the running statistics move to those of a batch."""
LARGE_MEAN = 16
"""Squared mean, in variances, from which a variance is taken of centred values."""
Shape = Float[Tensor, "B C *rest"]


class BatchNorm(nn.modules.batchnorm._BatchNorm):
    """``BatchNorm1d`` and ``BatchNorm2d`` in one, with their state.

    PyTorch gathers the statistics of plain float32 maps on a CPU by a slow loop; here vectorised
    reductions do it.
    """

    across_workers = False
    """Whether the statistics in training are those of all workers' batches together."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions will do."""

    def forward(self, input: Shape) -> Shape:
        """Normalise: by the batch in training, by the running statistics otherwise."""
        if not self.training or input.numel() == input.shape[1]:  # one value: PyTorch refuses
            return super().forward(input)
        if self.across_workers and dist.is_initialized() and dist.get_world_size() > 1:
            return self._over_workers(input)
        if input.device.type == "cpu" and input.dtype == torch.float32 and input.is_contiguous():
            output, mean, variance = _NormaliseOnCpu.apply(input, self.weight, self.bias, self.eps)
            self._track(mean, variance, input.numel() // input.shape[1])
            return output
        return super().forward(input)

    def _over_workers(self, x: Shape) -> Shape:
        dims = [dim for dim in range(x.dim()) if dim != 1]
        shape = [1, -1] + [1] * (x.dim() - 2)
        values = full_precision(x)
        mean = _WorkersMean.apply(values.mean(dims))
        centred = values - mean.view(shape)
        variance = _WorkersMean.apply(centred.square().mean(dims))
        count = dist.get_world_size() * x.numel() // x.shape[1]
        self._track(mean.detach(), variance.detach(), count)
        scale = self.weight * (variance + self.eps).rsqrt()
        return torch.addcmul(self.bias.view(shape), centred, scale.view(shape)).to(x.dtype)

    @torch.no_grad()
    def _track(self, mean: Float[Tensor, "C"], variance: Float[Tensor, "C"], count: int) -> None:
        """Move the running statistics, as PyTorch does, towards the unbiased variance."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        # ``data``, as PyTorch's own way keeps both for its gradient, which does not read them in
        # training but would refuse to go on if autograd saw them change.
        self.running_mean.data.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        unbiased = variance.to(self.running_var.dtype) * (count / max(1, count - 1))
        self.running_var.data.lerp_(unbiased, self.momentum)


@contextmanager
def untracked(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Leave the running statistics as they are: what is shown has been seen before."""
    layers = [m for module in modules for m in module.modules() if isinstance(m, BatchNorm)]
    before = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, before, strict=True):
            layer.momentum = momentum


class _NormaliseOnCpu(torch.autograd.Function):
    """Batch norm of float32 in training; also returns the mean and the biased variance."""

    @staticmethod
    def forward(
        ctx: Any, x: Shape, weight: Float[Tensor, "C"], bias: Float[Tensor, "C"], eps: float
    ) -> tuple[Shape, Float[Tensor, "C"], Float[Tensor, "C"]]:
        mean, variance = _statistics(x.flatten(2) if x.dim() > 2 else x[..., None])
        ctx.save_for_backward(x, weight, mean, (variance + eps).rsqrt())
        ctx.mark_non_differentiable(mean, variance)
        ctx.eps = eps
        return F.batch_norm(x, mean, variance, weight, bias, eps=eps), mean, variance

    @staticmethod
    def backward(ctx: Any, gradient: Shape, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse_deviation = ctx.saved_tensors
        needed = ctx.needs_input_grad[:3]
        # Differentiable once more: PyTorch knows the statistics' part in the gradient's gradient.
        gradients = torch.ops.aten.native_batch_norm_backward(
            gradient, x, weight, None, None, mean, inverse_deviation, True, ctx.eps, list(needed)
        )
        return (*(g if n else None for g, n in zip(gradients, needed, strict=True)), None)


def _statistics(rows: Float[Tensor, "B C N"]) -> tuple[Float[Tensor, "C"], Float[Tensor, "C"]]:
    """Mean and biased variance of each channel.

    The variance is the mean square less the squared mean, which makes no copy of a large map; where
    a mean is large enough for that to cost precision, the mean is taken off every value first.
    """
    count = rows.shape[0] * rows.shape[2]
    mean = rows.mean(dim=(0, 2))
    square = torch.linalg.vector_norm(rows, dim=2).double().square().sum(dim=0) / count
    variance = (square - mean.double().square()).float()
    if bool((mean.square() > LARGE_MEAN * variance).any()):
        variance = torch.linalg.vector_norm(rows - mean[:, None], dim=2).square().sum(dim=0) / count
    return mean, variance


class _WorkersMean(torch.autograd.Function):
    """Mean of a tensor over the workers, and of its gradient on the way back."""

    @staticmethod
    def forward(_: Any, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        total = x.detach().clone()
        dist.all_reduce(total)
        return total / dist.get_world_size()

    @staticmethod
    def backward(_: Any, gradient: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return _WorkersMean.apply(gradient)
