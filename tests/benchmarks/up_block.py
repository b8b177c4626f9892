"""Time the generator's enlarging convolution against nearest ×2 and a 3×3 convolution.

    python tests/benchmarks/up_block.py

Both are timed in turn, forward and backward on one thread, at the sizes of the demo and of the
published model; the ratio is of medians.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from mixnmatch.networks.layers import UpConv3

SIZES = [(256, 256, 4), (128, 128, 8), (64, 32, 16), (512, 512, 4), (256, 256, 8), (128, 128, 16)]
BATCH, ROUNDS = 12, 9


def plain(x: Tensor, weight: Tensor) -> Tensor:
    """Nearest ×2, then the convolution of the large picture."""
    return F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), weight, padding=1)


def seconds(block: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """Of one forward and backward pass."""
    began = time.perf_counter()
    block(x).sum().backward()
    return time.perf_counter() - began


def main() -> None:
    """Print a row for each size."""
    torch.set_num_threads(1)
    print("inputs outputs side   plain ms   ours ms   ratio   largest relative difference")
    for inputs, outputs, side in SIZES:
        layer = UpConv3(inputs, outputs)
        x = torch.randn(BATCH, inputs, side, side, requires_grad=True)
        with torch.no_grad():
            reference = plain(x, layer.weight)
            difference = float((layer(x) - reference).abs().max() / reference.abs().max())
        blocks = {"plain": lambda x, w=layer.weight: plain(x, w), "ours": layer}
        times: dict[str, list[float]] = {name: [] for name in blocks}
        for _ in range(ROUNDS):
            for name, block in blocks.items():
                times[name].append(seconds(block, x))
        before, after = (1e3 * statistics.median(values[1:]) for values in times.values())
        print(
            f"{inputs:6} {outputs:7} {side:4} {before:10.1f} {after:9.1f} {before / after:7.2f}"
            f"   {difference:.1e}"
        )


if __name__ == "__main__":
    main()
