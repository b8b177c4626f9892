"""Inception-v3 of the original FID, as torch-fidelity has it."""

import io
import warnings
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from mixnmatch.errors import ModelError


def load_inception(path: Path) -> nn.Module:
    """Load the network from a file of weights.

    Args:
        path: A state of it, such as ``weights-inception-2015-12-05-6726825d.pth`` of the
            torch-fidelity releases.

    Raises:
        ModelError: If the file is missing or holds something else.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # on what other files look like
            state = torch.load(path, map_location="cpu", weights_only=True)
        # torch-fidelity unpickles whatever its file holds: it gets what was read here.
        again = io.BytesIO()
        torch.save(state, again)
        again.seek(0)
        network: nn.Module = FeatureExtractorInceptionV3(
            "inception-v3-compat",
            ["2048", "logits_unbiased"],
            feature_extractor_weights_path=again,
        )
    except Exception as error:  # torch raises several kinds for a file that is no such state
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{path}: not the FID Inception weights ({reason})") from error
    return network.eval().requires_grad_(False)


@torch.no_grad()
def inception_features(
    network: nn.Module, images: Float[Tensor, "B 3 S S"]
) -> tuple[Float[Tensor, "B 2048"], Float[Tensor, "B 1008"]]:
    """Pool features of pictures, and their logits without the biases.

    Args:
        network: Of ``load_inception``.
        images: Pixels in [-1, 1], on its device; resizing to 299 px is the network's own.
    """
    pixels = ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    features, logits = network(pixels)
    return features, logits
