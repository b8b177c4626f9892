"""Networks made ready for the way in which they are to compute."""

from collections.abc import Collection, Mapping

import torch
from torch import nn

from mixnmatch.config import ComputeConfig
from mixnmatch.networks.normalisation import BatchNorm

BLOCKS = 256
"""More than any run's networks have."""


def prepare_networks(
    networks: Mapping[str, nn.Module],
    config: ComputeConfig,
    device: torch.device,
    eager: Collection[str] = (),
) -> None:
    """Set memory order, compilation and batch norm of networks, in place; states stay the same.

    Args:
        networks: By name.
        config: What is wanted.
        device: Where they are.
        eager: Names of those that are never compiled.
    """
    channels_last = config.channels_last
    if channels_last is None:
        channels_last = device.type == "cuda"
    if config.compile:
        # Blocks are of few classes, and one class may be compiled only so many times.
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, BLOCKS)
    for name, network in networks.items():
        if channels_last:
            network.to(memory_format=torch.channels_last)
        for layer in network.modules():
            if isinstance(layer, BatchNorm):
                layer.across_workers = config.sync_batch_norm
        if config.compile and name not in eager:
            # Block by block: a step calls networks by several methods, and shares what is in them.
            for block in network.children():
                block.compile()
