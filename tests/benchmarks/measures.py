"""Which way each measure of quality moves when real pictures are spoilt in known ways.

    python tests/benchmarks/measures.py --count 1000

Held-out drawn pictures stand for generated ones; the first row is what perfect pictures get.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from mixnmatch.data.batches import EvaluationSet, evaluation_pictures
from mixnmatch.data.factors import FactorSpec, draw_factor_dataset
from mixnmatch.data.store import open_dataset, write_dataset
from mixnmatch.metrics.coverage import coverage
from mixnmatch.metrics.distances import feature_figures
from mixnmatch.metrics.diversity import similarity
from mixnmatch.metrics.extractors import JudgeExtractor
from mixnmatch.metrics.judge import load_judge

Spoilt = tuple[str, Tensor, Tensor]
"""What was done, pictures, their textures."""
SIDE = 32
SHAPES, TEXTURES_PER_SHAPE = 2, 4
COLUMNS = {
    "frechet_factors": "frechet",
    "kid_factors": "KID",
    "precision_factors": "precision",
    "recall_factors": "recall",
    "coverage/kl_uniform_texture": "KL",
    "coverage/modes_texture": "modes",
    "authenticity_factors": "authentic",
    "ms_ssim": "MS-SSIM",
}


def spoilt(count: int, training: EvaluationSet, pool: EvaluationSet) -> Iterator[Spoilt]:
    """Pictures by what was done to them, with their textures.

    Args:
        count: Pictures of each kind.
        training: Real ones that the others are compared with.
        pool: Others, at least four times ``count``.
    """
    assert pool.factors is not None
    assert training.factors is not None
    textures = pool.factors["texture"]
    images, shown = pool.images[:count], textures[:count]
    yield "none", images, shown
    for sigma in (0.05, 0.1, 0.2):
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
        yield f"noise σ {sigma}", (images + sigma * noise).clamp(-1, 1), shown
    for sigma in (1.0, 2.0):
        yield f"blur σ {sigma:g} px", gaussian_blur(images, 6 * int(sigma) + 1, sigma), shown
    for divisor, name in ((2, "half"), (4, "a quarter")):
        # Every other one, so that no shape is missing.
        few = (textures % divisor == 0).nonzero().flatten()[:count]
        yield f"{name} of the textures", pool.images[few], textures[few]
    first = torch.stack([(shown == texture).nonzero()[0, 0] for texture in shown])
    yield "one picture a texture", images[first], shown
    yield "memorised", training.images[:count], training.factors["texture"][:count]


def measure(count: int, folder: Path, *, judge_steps: int = 600) -> dict[str, dict[str, float]]:
    """Figures of all kinds of spoilt pictures, by what was done to them.

    Args:
        count: Pictures of each kind.
        folder: For the data set.
        judge_steps: How long the judge is taught.
    """
    spec = FactorSpec(
        count=7 * count,
        side=64,
        shapes=SHAPES,
        textures_per_shape=TEXTURES_PER_SHAPE,
        judge_count=max(300, count),
    )
    records = draw_factor_dataset(spec, workers=1)
    write_dataset(records, folder, kind="factors", factors=spec.cardinalities)
    dataset = open_dataset(folder)
    judge = load_judge(dataset, SIDE, steps=judge_steps)
    rows = dataset.indices()[: spec.count]
    training, pool, held_out = (
        evaluation_pictures(dataset, part, SIDE)
        for part in np.split(rows, [int(1.5 * count), 6 * count])
    )
    extractor = JudgeExtractor(judge)

    def features(images: Tensor) -> np.ndarray:
        parts = images.split(64)
        cpu = torch.device("cpu")
        return np.concatenate([extractor.features(part, cpu)["features"] for part in parts])

    real, others = features(training.images), features(held_out.images)
    table = {}
    for name, images, textures in spoilt(count, training, pool):
        answers = torch.cat([judge.classify(part)["texture"] for part in images.split(64)])
        figures = feature_figures("factors", features(images), real, others)
        figures |= coverage(answers.numpy(), spec.textures, "texture")
        suffix = f"_{count // 1000}k" if count % 1000 == 0 else f"_{count}"
        table[name] = {key.removesuffix(suffix): figure.value for key, figure in figures.items()}
        table[name]["ms_ssim"] = within_textures(images, textures)
    return table


def within_textures(images: Tensor, textures: Tensor) -> float:
    """MS-SSIM of pairs of one texture."""
    order = textures.argsort(stable=True)
    same = (textures[order][:-1] == textures[order][1:]).nonzero().flatten()[::2]
    return float(similarity(images[order[same]], images[order[same + 1]]).mean())


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000, help="pictures (%(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="measures-") as folder:
        table = measure(options.count, Path(folder) / "set")
    print(f"| spoilt by | {' | '.join(COLUMNS.values())} |")
    print(f"|---|{'---:|' * len(COLUMNS)}")
    for name, figures in table.items():
        print(f"| {name} | {' | '.join(f'{figures[key]:.3g}' for key in COLUMNS)} |")


if __name__ == "__main__":
    main()
