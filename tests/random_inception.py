"""FID Inception networks of random weights, for where the true ones are not to be had."""

import io
from pathlib import Path

import torch
from torch import nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3


def save_random_inception(path: Path, seed: int = 0) -> Path:
    """Write weights whose features tell pictures apart, as torch-fidelity's own are written.

    Batch norm takes the statistics of a few random pictures: with those of an untrained network the
    features would fade to nothing on their way through fifty layers.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        network = _untrained()
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.train()
                layer.momentum = None  # the mean of what is seen from here on
                layer.reset_running_stats()
        coarse = torch.rand(6, 3, 8, 8)
        pictures = nn.functional.interpolate(coarse, size=32, mode="bilinear")
        network((255 * pictures).to(torch.uint8))
        torch.save(network.state_dict(), path)
    return path


def _untrained() -> nn.Module:
    """The network loads what it is given at once: give it back what it begins with."""
    loading = FeatureExtractorInceptionV3.load_state_dict
    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    try:
        FeatureExtractorInceptionV3.load_state_dict = lambda *_: None  # type: ignore[assignment]
        return FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048"], feature_extractor_weights_path=empty
        )
    finally:
        FeatureExtractorInceptionV3.load_state_dict = loading
