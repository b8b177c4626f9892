"""``platform evaluate``: the figures of a model on a data set, measured by Ray workers."""

import argparse

from mixnmatch.commands.evaluate import DESCRIPTION, add_options, measure
from mixnmatch.commands.options import check_range
from mixnmatch.errors import InputError

_EPILOG = """\
The figures are those of `mixnmatch evaluate`, up to rounding. On a cluster of several machines DATA
must be a URL or on storage that all of them share; so must a FILE of Inception weights.

example:
  platform evaluate models:/birds@champion s3://data/birds --protocol 5k --page evaluation.html
"""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "evaluate",
        help="measure a model on a data set, on Ray workers",
        description=DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(parser)
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="tasks at a time (default: the cluster's CPUs, or GPUs with --device cuda)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure."""
    from mixnmatch.device import choose_device
    from mixnmatch_platform.evaluate import RayRunner

    if args.workers is not None:
        check_range("--workers", args.workers, 1, 100_000)
    if args.device.startswith("cuda:"):
        raise InputError(
            f"--device is {args.device}: workers have the GPU that Ray gives them: write cuda"
        )
    use_gpu = choose_device(args.device).type == "cuda"
    return measure(args, lambda: RayRunner(args.workers, use_gpu=use_gpu))
