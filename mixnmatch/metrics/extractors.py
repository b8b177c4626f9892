"""Networks whose features stand for pictures; the figures made of them bear their names."""

from abc import ABC, abstractmethod
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mixnmatch.config import EvaluationConfig
from mixnmatch.data.store import Dataset
from mixnmatch.metrics.inception import inception_features, load_inception
from mixnmatch.metrics.judge import Judge, judge_kind, load_judge
from mixnmatch.metrics.weights import InceptionWeights, extractor_name, find_weights


class Extractor(ABC):
    """A network that turns pictures into numbers."""

    name: str
    """Part of the names of its figures."""
    key: str
    """SHA-256 of its weights, in hexadecimal digits."""

    @abstractmethod
    def features(
        self, images: Float[Tensor, "B 3 S S"], device: torch.device
    ) -> dict[str, np.ndarray]:
        """What it sees in pictures.

        Args:
            images: Pixels in [-1, 1], on the CPU.
            device: Where to compute.

        Returns:
            Float32 arrays, a row each picture: ``features`` and, of Inception, ``logits`` without
            the biases.
        """


class InceptionExtractor(Extractor):
    """The network of the original FID, in float32.

    Args:
        weights: A checked file.
    """

    def __init__(self, weights: InceptionWeights) -> None:
        self.name, self.key = weights.name, weights.sha256
        self._weights = weights

    def features(
        self, images: Float[Tensor, "B 3 S S"], device: torch.device
    ) -> dict[str, np.ndarray]:
        """See ``Extractor``."""
        network = _inception(self._weights).to(device)
        with torch.backends.cudnn.flags(allow_tf32=False):
            features, logits = inception_features(network, images.to(device))
        return {"features": features.cpu().numpy(), "logits": logits.cpu().numpy()}


class JudgeExtractor(Extractor):
    """What the heads of a judge stand on.

    Args:
        judge: A trained judge.
    """

    def __init__(self, judge: Judge) -> None:
        self.name = judge.kind
        self.key = judge.digest
        self.judge = judge

    def features(
        self, images: Float[Tensor, "B 3 S S"], device: torch.device
    ) -> dict[str, np.ndarray]:
        """See ``Extractor``."""
        with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False):
            features = self.judge.network.to(device).features(images.to(device))
        return {"features": features.cpu().numpy()}


def load_extractors(dataset: Dataset, image_size: int, config: EvaluationConfig) -> list[Extractor]:
    """Inception where there are weights, and the judge where the data set can teach one.

    Args:
        dataset: Of the real pictures.
        image_size: Side of the pictures, in pixels.
        config: Says where the weights are and how long a judge is taught.

    Raises:
        ModelError: If weights that are asked for cannot be had.
    """
    extractors: list[Extractor] = []
    weights = find_weights(config.inception_weights)
    if weights is not None:
        extractors.append(InceptionExtractor(weights))
    if judge_kind(dataset) is not None:
        judge = load_judge(dataset, image_size, steps=config.classifier_steps)
        extractors.append(JudgeExtractor(judge))
    return extractors


def extractor_names(dataset: Dataset, config: EvaluationConfig) -> list[str]:
    """Names of the extractors that would be loaded.

    Raises:
        ModelError: If weights that are named cannot be used.
    """
    names = (extractor_name(config.inception_weights), judge_kind(dataset))
    return [name for name in names if name is not None]


@lru_cache(maxsize=1)
def _inception(weights: InceptionWeights) -> nn.Module:
    """Once a process, so that extractors stay light enough to be sent to workers."""
    # A third less time on a CPU, for a millionth of the distance; bfloat16 moves it by a hundredth.
    return load_inception(weights.path).to(memory_format=torch.channels_last)
