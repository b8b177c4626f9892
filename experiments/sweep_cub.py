#!/usr/bin/env python
"""Birds at 128 px, as published: category counts, weights and stability searched on GPUs.

    mixnmatch data ingest CUB_200_2011 data/birds
    python experiments/sweep_cub.py --dry-run
    ray job submit --working-dir . -- python experiments/sweep_cub.py

Each trial is an eighth of the published training: 75 epochs of stage 1 and 50 of stage 2. The
published model, at full length, has an FID of 11.25 by its authors and 18.8 to 32 by others. The
FID Inception weights are downloaded, or are in the file that MIXNMATCH_INCEPTION_WEIGHTS names.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

from mixnmatch.config import RunConfig  # noqa: E402
from mixnmatch.settings import override  # noqa: E402
from mixnmatch_platform.experiment import main  # noqa: E402
from mixnmatch_platform.sweep import Halving, Objective, SearchSpace, Sweep  # noqa: E402

SWEEP = Sweep(
    name="cub",
    data=ROOT / "data" / "birds",
    config=override(
        RunConfig(),
        {
            "stage1.steps": 72_000,
            "stage2.steps": 49_000,
            "evaluation.samples": 5000,
            "evaluation.every_steps": 8000,
            "evaluation.every_samples": 2000,
            "evaluation.inception_weights": "download",
            "checkpoint_every_steps": 2000,
        },
    ),
    space=SearchSpace(
        super_categories=(10, 20, 40),
        fine_per_super=(5, 10),
        weights={
            "background_real": (3.0, 30.0),
            "encode_z": (1.0, 20.0),
            "encode_p": (3.0, 30.0),
            "encode_c": (3.0, 30.0),
        },
        # 12,000 pictures are few for a GAN: its discriminator may learn them by heart.
        choices={
            "stage1.augment": ("", "color,translation"),
            "weights.child_r1": (0.0, 1.0, 10.0),
        },
    ),
    trials=24,
    concurrent=4,
    workers=1,
    cpus_per_worker=4,
    gpus_per_worker=1,
    objectives=(Objective("fid_5k", "min"),),
    # A ninth of stage 1 for all, a third for the better third; stage 2 for a third of those.
    halving=Halving(first_images=8_000 * 12, factor=3, metric="fid_2k"),
)

if __name__ == "__main__":
    sys.exit(main(SWEEP))
