import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from random_inception import save_random_inception
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from mixnmatch.errors import ModelError
from mixnmatch.metrics.inception import inception_features, load_inception


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_inception(tmp_path_factory.mktemp("inception") / "weights.pth")


def test_features_are_torch_fidelitys(weights: Path) -> None:
    network = load_inception(weights)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    features, logits = inception_features(network, pixels.float() / 127.5 - 1)
    assert not torch.equal(features[0], features[1])
    reference = FeatureExtractorInceptionV3(
        "inception-v3-compat",
        ["2048", "logits_unbiased"],
        feature_extractor_weights_path=str(weights),
    )
    expected = reference(pixels)
    assert torch.equal(features, expected[0])
    assert torch.equal(logits, expected[1])


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "empty", "tensor", "dict", "pickle"])
def test_other_files_are_not_inception(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    if kind == "folder":
        path.mkdir()
    elif kind in ("text", "empty"):
        path.write_text("hello" if kind == "text" else "")
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Bomb(tmp_path / "made")))
    elif kind != "missing":
        torch.save(torch.zeros(3) if kind == "tensor" else {"weight": torch.zeros(3)}, path)
    with pytest.raises(ModelError) as caught:
        load_inception(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "FID Inception weights" in message
    assert "\n" not in message
    assert not (tmp_path / "made").exists()
