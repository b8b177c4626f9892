"""Disentanglement accuracy: do mixes show of each source picture what was taken from it?"""

import torch
from jaxtyping import Int
from torch import Tensor

from mixnmatch.data.batches import EvaluationSet
from mixnmatch.metrics.judge import Judge, chance_level, targets_of
from mixnmatch.mixer import Mixer, Mode

FACTORS = ("background", "pose", "shape", "texture")
"""What a mix takes, each from a picture of its own."""

Sources = dict[str, Int[Tensor, "N"]]
"""For each factor, the pictures that it is taken from."""


def disentanglement(
    mixer: Mixer,
    judge: Judge,
    pictures: EvaluationSet,
    *,
    samples: int,
    batch_size: int,
    random: torch.Generator,
) -> dict[str, float]:
    """Mix four random pictures many times, and let the judge name the factors of each mix.

    Args:
        mixer: The model.
        judge: Taught the factors on real pictures.
        pictures: Real pictures with known factors, to mix.
        samples: Number of mixes.
        batch_size: Mixes at a time.
        random: Chooses the sources of each mix.

    Returns:
        * ``accuracy/<factor>``: share of code-mode mixes that show the factor of its source, and
          their mean ``disentanglement_accuracy``;
        * ``feature_accuracy/<factor>`` and ``feature_disentanglement_accuracy``: the same of
          feature mode, where the pose comes with the shape, once there is a shape extractor;
        * ``reconstruction_accuracy/<factor>`` and their mean: of pictures mixed with themselves;
        * ``chance/<factor>``: probability that two random pictures agree, and its mean over
          factors;
        * ``judge/<factor>``: the judge's own accuracy on held-out real pictures, ``judge/held_out``
          of them.
    """
    truth = targets_of(pictures, "factors")
    count = len(pictures.images)
    mixed = dict(zip(FACTORS, torch.randint(count, (4, samples), generator=random), strict=True))
    same = dict.fromkeys(FACTORS, torch.randperm(count, generator=random)[:samples])

    def accuracy(sources: Sources, mode: Mode) -> dict[str, float]:
        right = dict.fromkeys(FACTORS, 0)
        for part in torch.arange(len(sources["pose"])).split(batch_size):
            images = {name: pictures.images[rows[part]] for name, rows in sources.items()}
            answers = judge.classify(mixer.mix_tensors(**images, mode=mode))
            for name in FACTORS:
                right[name] += int((answers[name] == truth[name][sources[name][part]]).sum())
        return {name: hits / len(sources["pose"]) for name, hits in right.items()}

    metrics: dict[str, float] = {}
    code = accuracy(mixed, "code")
    metrics |= _named("accuracy", code, mean="disentanglement_accuracy")
    if mixer.bundle.extractor is not None:
        feature = accuracy({**mixed, "pose": mixed["shape"]}, "feature")
        metrics |= _named("feature_accuracy", feature, mean="feature_disentanglement_accuracy")
    again = accuracy(same, "code")
    metrics |= _named("reconstruction_accuracy", again, mean="reconstruction_accuracy")
    chance = {name: chance_level(truth[name]) for name in FACTORS}
    metrics |= _named("chance", chance, mean="chance/disentanglement_accuracy")
    metrics |= {f"judge/{name}": judge.accuracy[name] for name in FACTORS}
    return metrics | {"judge/held_out": float(judge.held_out)}


def _named(prefix: str, values: dict[str, float], *, mean: str) -> dict[str, float]:
    named = {f"{prefix}/{name}": value for name, value in values.items()}
    return named | {mean: sum(values.values()) / len(values)}
