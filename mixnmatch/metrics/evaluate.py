"""All measures of a model on a data set, as one table of named figures."""

from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from mixnmatch.bundle import ModelBundle
from mixnmatch.codes import sample_tied
from mixnmatch.config import EvaluationConfig
from mixnmatch.data.batches import evaluation_pictures
from mixnmatch.data.store import Dataset
from mixnmatch.errors import DataError
from mixnmatch.metrics.disentanglement import FACTORS, disentanglement
from mixnmatch.metrics.frechet import Gaussian, fit_gaussian, frechet_distance
from mixnmatch.metrics.inception import inception_features, load_inception
from mixnmatch.metrics.judge import Judge, chance_level, judge_kind, judge_rows, load_judge
from mixnmatch.metrics.masks import mask_contrast
from mixnmatch.mixer import Mixer

Features = Callable[[Float[Tensor, "B 3 S S"]], Float[Tensor, "B D"]]


def evaluate(
    bundle: ModelBundle, dataset: Dataset, config: EvaluationConfig, *, seed: int = 0
) -> dict[str, float]:
    """Measure a model.

    Args:
        bundle: The model, in eval mode, on any device.
        dataset: Real pictures; with factors, mixes of its test split are judged too.
        config: Sample counts.
        seed: Of generated samples and of the sources of mixes.

    Returns:
        Figures by name. ``frechet_<features>`` compares pictures generated from tied codes with
        real ones (centre crops of the training split): ``frechet_factors`` and ``frechet_labels``
        on features of a classifier of this data set's factors or labels, ``fid`` on Inception-v3
        with the FID weights and nothing else. ``judge/...`` is that classifier's own accuracy on
        ``judge/held_out`` real pictures, which says how far its features can be trusted, beside
        ``chance/...``, the probability that two real pictures agree. See ``mask_contrast`` and
        ``disentanglement`` for the others. ``evaluation/samples`` and ``evaluation/real`` are the
        numbers of pictures.
    """
    size = bundle.config.model.image_size
    random = torch.Generator().manual_seed(seed)
    rows = dataset.indices("train")
    chosen = torch.randperm(len(rows), generator=random)[: config.samples].numpy()
    real = evaluation_pictures(dataset, rows[chosen], size)
    metrics = {
        "evaluation/samples": float(config.samples),
        "evaluation/real": float(len(real.images)),
    }
    kind = judge_kind(dataset)
    judge = load_judge(dataset, size, steps=config.classifier_steps) if kind else None

    extractors: dict[str, Features] = {}
    if judge is not None:
        extractors[f"frechet_{kind}"] = judge.network.features
    if config.inception_weights is not None:
        inception = load_inception(Path(config.inception_weights))
        extractors["fid"] = lambda images: inception_features(inception, images)
    if extractors:
        generated = _generate(bundle, config, random)
        for name, features in extractors.items():
            clouds = [
                _gaussian(features, images, config.batch_size)
                for images in (real.images, generated)
            ]
            metrics[name] = frechet_distance(*clouds)

    metrics |= mask_contrast(bundle, real, config.batch_size)
    if judge is not None and kind == "factors":
        held_out = dataset.indices("test")
        if not len(held_out):
            raise DataError(f"{dataset.path}: has no pictures of split 'test' to mix")
        metrics |= disentanglement(
            Mixer(bundle),
            judge,
            evaluation_pictures(dataset, held_out, size),
            samples=config.samples,
            batch_size=config.batch_size,
            random=random,
        )
    elif judge is not None:
        metrics |= _label_judge(judge, dataset)
    return metrics


def metric_names(dataset: Dataset, config: EvaluationConfig) -> set[str]:
    """Names of the figures that ``evaluate`` gives for a model after both stages."""
    names = {"evaluation/samples", "evaluation/real", "mask_contrast", "mask_contrast_parent"}
    if kind := judge_kind(dataset):
        names.add(f"frechet_{kind}")
    if config.inception_weights is not None:
        names.add("fid")
    if kind == "factors":
        names |= {"judge/held_out", "disentanglement_accuracy", "reconstruction_accuracy"}
        names |= {"feature_disentanglement_accuracy", "chance/disentanglement_accuracy"}
        groups = ("accuracy", "feature_accuracy", "reconstruction_accuracy", "chance", "judge")
        names |= {f"{group}/{factor}" for group in groups for factor in FACTORS}
    elif kind == "labels":
        names |= {"judge/label", "judge/held_out", "chance/label"}
    return names


def _label_judge(judge: Judge, dataset: Dataset) -> dict[str, float]:
    labels = torch.tensor(dataset.column("label"))[judge_rows(dataset)]
    return {
        "judge/label": judge.accuracy["label"],
        "judge/held_out": float(judge.held_out),
        "chance/label": chance_level(labels),
    }


@torch.no_grad()
def _generate(
    bundle: ModelBundle, config: EvaluationConfig, random: torch.Generator
) -> Float[Tensor, "N 3 S S"]:
    """Pictures from tied codes, as the generator is trained on its own losses."""
    images = []
    for part in torch.arange(config.samples).split(config.batch_size):
        codes = sample_tied(bundle.config.model, len(part), random).to(bundle.device)
        images.append(bundle.generator(codes).child_image.cpu())
    return torch.cat(images)


@torch.no_grad()
def _gaussian(features: Features, images: Float[Tensor, "N 3 S S"], batch_size: int) -> Gaussian:
    values = torch.cat([features(part) for part in images.split(batch_size)])
    return fit_gaussian(values.double().numpy())
