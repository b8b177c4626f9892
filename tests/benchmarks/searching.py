"""Is the search better than chance? TPE with halving against random search, at the same budget.

    python tests/benchmarks/searching.py --seeds 10

A trial is a curve that costs nothing: a figure that rises with the pictures seen to a height that
its settings give, each reading with noise. The budget is counted in pictures, as training is. What
is compared is the true height of the settings that each search would promote.
"""

import argparse
import math
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

from mixnmatch_platform.space import Halving, Objective, SearchSpace  # noqa: E402
from mixnmatch_platform.study import Study  # noqa: E402

SPACE = SearchSpace(
    super_categories=(2, 3, 4, 6, 8),
    fine_per_super=(1, 2, 4),
    weights={
        "encode_p": (1, 100), "encode_c": (1, 100),
        "parent_code": (0.1, 10), "child_code": (0.1, 10),
    },
)  # fmt: skip
BEST = {"weights.encode_p": 15, "weights.encode_c": 6, "weights.parent_code": 2,
        "weights.child_code": 0.7}  # fmt: skip
WHOLE = 9000
"""Pictures of a trial that is not stopped."""
HALVING = Halving(first_images=1000, factor=3)
RUNGS = (1000, 3000, 9000)
NOISE = 0.01
CHANCE = 0.27


def height(settings: Mapping[str, Any]) -> float:
    """What a trial would reach without noise: from chance to 0.8."""
    loss = abs(math.log2(settings["model.super_categories"] / 4)) * 0.15
    loss += abs(math.log2(settings["fine_per_super"] / 2)) * 0.1
    loss += sum(0.4 * math.log10(settings[key] / best) ** 2 for key, best in BEST.items())
    return CHANCE + 0.53 * math.exp(-loss)


def reading(settings: Mapping[str, Any], images: int, noise: np.random.Generator) -> float:
    """The figure after so many pictures."""
    rise = 1 - math.exp(-3 * images / WHOLE)
    return CHANCE + (height(settings) - CHANCE) * rise + NOISE * noise.standard_normal()


def with_study(halving: Halving | None) -> Callable[[int, int], tuple[float, int]]:
    """The search of our sweeps."""

    def search(seed: int, budget: int) -> tuple[float, int]:
        noise = np.random.default_rng(seed)
        with tempfile.TemporaryDirectory() as folder:
            study = Study(
                Path(folder) / "study",
                space=SPACE,
                objectives=[Objective("accuracy", "max")],
                trials=budget // WHOLE if halving is None else budget // RUNGS[0],
                seed=seed,
                halving=halving,
            )
            spent = begun = 0
            while (proposal := study.next()) is not None:
                seen = value = 0.0
                for images in RUNGS if halving else (WHOLE,):
                    spent += int(images - seen)
                    seen, value = images, reading(proposal.settings, images, noise)
                    early = halving is not None and images < WHOLE
                    if early and study.stop_early(proposal.number, images, value):
                        break
                else:
                    study.complete(proposal.number, {"accuracy": value})
                begun += 1
                if spent >= budget:
                    break
            ((best, _), *_) = study.best()
        return height(best.settings), begun

    return search


def at_random(seed: int, budget: int) -> tuple[float, int]:
    """Whole trials with settings drawn from the same space."""
    noise = np.random.default_rng(seed)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    tried = []
    for _ in range(budget // WHOLE):
        trial = study.ask(SPACE.distributions())
        tried.append((reading(trial.params, WHOLE, noise), height(trial.params)))
    return max(tried)[1], len(tried)


def main() -> int:
    """Print the median of each search, and in how many seeds it beat chance's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--budget", type=int, default=30, help="in whole trials")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    searches = {
        "random": at_random,
        "TPE": with_study(None),
        "TPE with halving": with_study(HALVING),
    }
    found: dict[str, list[tuple[float, int]]] = {name: [] for name in searches}
    for seed in range(args.seeds):
        for name, search in searches.items():
            found[name].append(search(seed, args.budget * WHOLE))
    print(f"highest possible {CHANCE + 0.53:.3f}; budget {args.budget} whole trials")
    for name, results in found.items():
        heights = [height for height, _ in results]
        wins = sum(h > r for h, (r, _) in zip(heights, found["random"], strict=True))
        print(
            f"{name:17} median {statistics.median(heights):.3f} "
            f"({min(heights):.3f} to {max(heights):.3f}), "
            f"{statistics.median(n for _, n in results):g} trials begun, "
            f"better than random in {wins} of {args.seeds} seeds"
        )
    medians = {name: statistics.median(h for h, _ in results) for name, results in found.items()}
    return 0 if medians["TPE with halving"] > medians["random"] else 1


if __name__ == "__main__":
    sys.exit(main())
