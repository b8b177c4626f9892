"""``mixnmatch evaluate``: the figures of a model on a data set."""

import argparse
import json
from pathlib import Path


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "evaluate",
        help="measure a model on a data set",
        description="Measure disentanglement (on data with known factors) and the distance of "
        "generated pictures to real ones.",
        epilog="example: mixnmatch evaluate runs/demo/bundle data/factors --samples 2048",
    )
    parser.add_argument(
        "model", metavar="MODEL", help="a bundle's folder, or models:/NAME@champion"
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="a data set folder")
    parser.add_argument("--samples", type=int, help="pictures generated and mixes judged")
    parser.add_argument(
        "--inception-weights", metavar="FILE", help="FID Inception weights; adds the figure `fid`"
    )
    parser.add_argument("--seed", type=int, default=0, help="of samples and mixes")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure."""
    from mixnmatch.config import override
    from mixnmatch.data.store import open_dataset
    from mixnmatch.device import choose_device
    from mixnmatch.metrics.evaluate import evaluate
    from mixnmatch.mixer import Mixer

    bundle = Mixer.from_pretrained(args.model, choose_device(args.device)).bundle
    changes = {"samples": args.samples, "inception_weights": args.inception_weights}
    config = override(
        bundle.config.evaluation,
        {key: value for key, value in changes.items() if value is not None},
    )
    metrics = evaluate(bundle, open_dataset(args.data), config, seed=args.seed)
    if args.json:
        print(json.dumps(metrics, indent=2))
    else:
        width = max(map(len, metrics))
        for name, value in metrics.items():
            print(f"{name:{width}}  {value:.4g}")
    return 0
