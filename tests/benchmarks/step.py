"""Time a training step against its plain formulation, at the published configuration.

    python tests/benchmarks/step.py                  both stages, every precision
    python tests/benchmarks/step.py --ablate         one optimisation undone at a time
    python tests/benchmarks/step.py --small          a trial of seconds

Each variant lives in a process of its own, with its memory and its malloc to itself (ours keeps
what it freed, as in training; the plain step does not), and all take their steps in turn, on the
same random pictures and boxes, after a warm-up; the ratio is of medians. The peak memory of a
process holds some 600 MiB of torch's own on a CPU. The share of the peak is of the multiply-adds
that the best of a few large convolutions sustains, in the variant's precision, measured between the
rounds.

The gradients of ours and of the plain step are compared after one step from the same weights, batch
and random state. In float32 the largest difference is no fault by itself: a rounding that carries a
few units over the kink of a leaky ReLU moves small gradients by percents; hence float64 beside it.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "parity"))

from ablations import ABLATIONS
from measuring import (
    OURS,
    PLAIN,
    PRECISIONS,
    STAGES,
    VARIANTS,
    Setting,
    Taker,
    alone,
    fastest_convolution,
    gradient_differences,
)

from mixnmatch.config import ModelConfig, RunConfig
from mixnmatch.device import choose_device
from mixnmatch.settings import override

SMALL = ModelConfig(
    image_size=32,
    super_categories=4,
    fine_categories=12,
    noise_dim=10,
    generator_width=16,
    discriminator_width=16,
    encoder_width=16,
    pair_width=4,
    extractor_width=8,
)


def compare(setting: Setting, number: int, rounds: int) -> dict[str, Any]:
    """Every variant of one stage: rows of figures by name."""
    few = setting._replace(batch=min(4, setting.batch))  # float64 takes twice the memory
    gradients = {
        "float32": alone(gradient_differences, setting, number, torch.float32),
        "float64": alone(gradient_differences, few, number, torch.float64),
    }
    takers = {name: Taker(setting, number, name, name != PLAIN) for name in VARIANTS}
    counts = {name: taker.warm_up() for name, taker in takers.items()}
    times: dict[str, list[float]] = {name: [] for name in takers}
    peaks = dict.fromkeys(PRECISIONS, (0.0, ""))
    for done in range(rounds):
        for name in in_turn(takers, done):
            times[name].append(takers[name].seconds(done))
        for name, precision in PRECISIONS.items():
            peaks[name] = max(peaks[name], alone(fastest_convolution, setting, precision))
    rows = {}
    for name, values in times.items():
        median = statistics.median(values)
        rate = counts[name] / median
        rows[name] = {
            "seconds": median,
            "least_seconds": min(values),
            "ratio": statistics.median(times[PLAIN]) / median,
            "images_per_second": setting.batch / median,
            "multiply_adds": counts[name],
            "share_of_peak": rate / peaks[VARIANTS[name].precision][0],
            "peak_memory_mib": takers[name].peak_memory(),
        }
    return {
        "variants": rows,
        "gradient_differences": gradients,
        "peaks": {
            precision: {"multiply_adds_per_second": rate, "convolution": text}
            for precision, (rate, text) in peaks.items()
        },
    }


def ablate(setting: Setting, number: int, rounds: int) -> dict[str, Any]:
    """Our step, and with one optimisation undone at a time: rows of figures by name."""
    ours, forgetful = (Taker(setting, number, OURS, keep_freed) for keep_freed in (True, False))
    steps: dict[str, Callable[[int], float]] = {OURS: ours.seconds}
    for name, ablation in ABLATIONS.items():
        if number in ablation.stages:
            steps[name] = partial(ours.seconds, ablation=name)
    steps["malloc gives back what is freed"] = forgetful.seconds
    times: dict[str, list[float]] = {name: [] for name in steps}
    for done in range(-1, rounds):
        for name in in_turn(steps, done):
            taken = steps[name](done + 1)
            if done >= 0:
                times[name].append(taken)
    base = statistics.median(times[OURS])
    return {
        name: {
            "seconds": statistics.median(values),
            "least_seconds": min(values),
            "ratio": statistics.median(values) / base,
        }
        for name, values in times.items()
    }


def in_turn(names: dict[str, Any], done: int) -> list[str]:
    """Forwards and backwards by turns: what grows from one step to the next then hits all alike."""
    return list(names) if done % 2 == 0 else list(names)[::-1]


def table(heads: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [["", *heads], ["---"] * (len(heads) + 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def comparison_text(result: dict[str, Any]) -> str:
    """The comparison of one stage as a table and its notes."""
    heads = ["s/step", "least", "ratio", "images/s", "G mul-adds", "share of peak", "peak MiB"]
    rows = [
        [
            name,
            f"{row['seconds']:.3f}",
            f"{row['least_seconds']:.3f}",
            f"{row['ratio']:.2f}",
            f"{row['images_per_second']:.2f}",
            f"{row['multiply_adds'] / 1e9:.1f}",
            f"{row['share_of_peak']:.0%}",
            f"{row['peak_memory_mib']:.0f}",
        ]
        for name, row in result["variants"].items()
    ]
    notes = [
        f"Relative difference of gradients, ours to plain, {precision}: "
        f"median {found['median']:.1e}, largest {found['largest']:.1e} ({found['of']})"
        for precision, found in result["gradient_differences"].items()
    ]
    for precision, peak in result["peaks"].items():
        rate = peak["multiply_adds_per_second"] / 1e9
        notes.append(
            f"Best {precision} convolution: {rate:.0f} G mul-adds/s ({peak['convolution']})"
        )
    return table(heads, rows) + "\n\n" + "\n".join(notes)


def ablation_text(result: dict[str, Any]) -> str:
    """The ablations of one stage; a ratio under 1 is of an optimisation that loses."""
    rows = [
        [name, f"{row['seconds']:.3f}", f"{row['least_seconds']:.3f}", f"{row['ratio']:.2f}"]
        for name, row in result.items()
    ]
    return table(["s/step", "least", "times ours"], rows)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Time a training step against its plain form.")
    parser.add_argument("--stage", choices=["1", "2", "both"], default="both")
    parser.add_argument("--image-size", type=int, help="in pixels (default: 128)")
    parser.add_argument("--batch", type=int, help="pictures a step (default: 12)")
    parser.add_argument("--rounds", type=int, default=5, help="after a warm-up")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--small", action="store_true", help="32 px, narrow networks, batch 4")
    parser.add_argument("--ablate", action="store_true", help="one optimisation undone at a time")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    return parser.parse_args()


def main() -> None:
    """Print a table for each stage."""
    args = parse()
    changes = {"model.image_size": args.image_size} if args.image_size else {}
    config = override(RunConfig(model=SMALL if args.small else ModelConfig()), changes)
    batch = args.batch or (4 if args.small else 12)
    device = str(choose_device(args.device))
    setting = Setting(config, batch, device, args.threads)
    where = (
        torch.cuda.get_device_name(device)
        if device.startswith("cuda")
        else f"{args.threads} threads"
    )
    model = config.model
    title = (
        f"{model.image_size} px, batch {batch}, {model.super_categories}/{model.fine_categories} "
        f"categories, {device} ({where}), torch {torch.__version__}, {args.rounds} rounds"
    )
    measure, text = (ablate, ablation_text) if args.ablate else (compare, comparison_text)
    results = {}
    for number in STAGES if args.stage == "both" else [int(args.stage)]:
        results[number] = measure(setting, number, args.rounds)
        if not args.json:
            print(f"Stage {number}: {title}\n\n{text(results[number])}\n", flush=True)
    if args.json:
        print(json.dumps({"setting": title, "stages": results}, indent=2))


if __name__ == "__main__":
    main()
