#!/usr/bin/env python
"""What category counts do: two figures of small models on the demo's pictures, as a Pareto front.

    make demo                                     # draws data/demo first
    python experiments/sweep_factors.py --dry-run
    python experiments/sweep_factors.py

Sixteen trials, half an hour on two CPU cores. The data has 3 shapes with 2 textures each and 3
backgrounds; the models are told of 2 to 6 shapes with 1 to 4 textures each, and begin from three
sets of initial weights. What this taught is in docs/LOG.md.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

from mixnmatch.config import RunConfig  # noqa: E402
from mixnmatch.settings import override  # noqa: E402
from mixnmatch_platform.experiment import main  # noqa: E402
from mixnmatch_platform.sweep import Objective, SearchSpace, Sweep  # noqa: E402

SWEEP = Sweep(
    name="factors",
    data=ROOT / "data" / "demo",
    config=override(
        RunConfig(),
        {
            "model.image_size": 32,
            "model.super_categories": 3,
            "model.fine_categories": 6,
            "model.noise_dim": 4,
            "model.generator_width": 32,
            "model.discriminator_width": 32,
            "model.encoder_width": 16,
            "model.extractor_width": 16,
            "model.pair_width": 4,
            "stage1.steps": 600,
            "stage1.batch_size": 16,
            "stage1.ema_decay": 0.99,
            "stage2.steps": 100,
            "stage2.batch_size": 16,
            "evaluation.samples": 1024,
            "evaluation.classifier_steps": 250,
            "checkpoint_every_steps": 200,
            "sample_every_steps": 300,
        },
    ),
    space=SearchSpace(
        super_categories=(2, 3, 4, 6),
        fine_per_super=(1, 2, 4),
        # How much of a difference is luck: the same counts from other initial weights.
        choices={"seed": (0, 1, 2)},
    ),
    trials=16,
    concurrent=2,
    objectives=(
        Objective("disentanglement_accuracy", "max"),
        Objective("frechet_factors_1024", "min"),
    ),
)

if __name__ == "__main__":
    sys.exit(main(SWEEP))
