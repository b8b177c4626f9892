"""Inception-v3 with the FID weights: the only features whose distance is called `fid`."""

import warnings
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mixnmatch.errors import ModelError


def load_inception(path: Path) -> nn.Module:
    """Load torch-fidelity's Inception-v3 (the network of the original FID) from a file of weights.

    Args:
        path: ``weights-inception-2015-12-05-6726825d.pth`` of the torch-fidelity releases.

    Raises:
        ModelError: If the file is missing or holds something else.
    """
    if not path.is_file():
        raise ModelError(
            f"{path}: no such file; `fid` needs the FID Inception weights "
            "(weights-inception-2015-12-05-6726825d.pth of the torch-fidelity releases)"
        )
    # torch-fidelity unpickles whatever the file holds: let it see nothing but tensors.
    try:
        with warnings.catch_warnings(action="ignore"):  # on what other files look like
            torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises several kinds for a file that is no such state
        raise _not_inception(path, error) from error
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    try:
        network: nn.Module = FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path)
        )
    except Exception as error:
        raise _not_inception(path, error) from error
    return network.eval().requires_grad_(False)


def _not_inception(path: Path, error: Exception) -> ModelError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return ModelError(f"{path}: not the FID Inception weights ({reason})")


@torch.no_grad()
def inception_features(
    network: nn.Module, images: Float[Tensor, "B 3 S S"]
) -> Float[Tensor, "B 2048"]:
    """Pool features of pictures with pixels in [-1, 1]; resizing to 299 px is the network's own."""
    pixels = ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    features: Tensor = network(pixels)[0]
    return features
