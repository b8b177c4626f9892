"""``mixnmatch evaluate``: the figures of a model on a data set."""

import argparse
import json

from mixnmatch.commands.options import check_range, check_seed, folder_or_url


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
    parser.add_argument("data", type=folder_or_url, metavar="DATA", help="a data set folder or URL")
    parser.add_argument("--samples", type=int, help="pictures generated and mixes judged")
    parser.add_argument(
        "--inception-weights",
        metavar="FILE",
        help="FID Inception weights; adds the figure `fid`. `none` leaves it out, for a model that "
        "was trained elsewhere and names a file that is not here",
    )
    parser.add_argument("--seed", type=int, default=0, help="of samples and mixes")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure."""
    from mixnmatch.data.store import open_dataset
    from mixnmatch.device import choose_device
    from mixnmatch.metrics.evaluate import evaluate
    from mixnmatch.mixer import Mixer
    from mixnmatch.settings import override

    check_seed(args.seed)
    if args.samples is not None:
        check_range("--samples", args.samples, 8, 100_000)
    bundle = Mixer.from_pretrained(args.model, choose_device(args.device)).bundle
    changes: dict[str, int | str | None] = {}
    if args.samples is not None:
        changes["samples"] = args.samples
    if args.inception_weights is not None:
        path = args.inception_weights
        changes["inception_weights"] = None if path == "none" else path
    config = override(bundle.config.evaluation, changes)
    metrics = evaluate(bundle, open_dataset(args.data), config, seed=args.seed)
    if args.json:
        print(json.dumps(metrics, indent=2))
    else:
        width = max(map(len, metrics))
        for name, value in metrics.items():
            print(f"{name:{width}}  {value:.4g}")
    return 0
