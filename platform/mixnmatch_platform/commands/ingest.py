"""``platform ingest``: photographs with boxes to a data set, on Ray Data."""

import argparse

from mixnmatch.commands.data.common import add_command
from mixnmatch.commands.data.ingest import add_source_options, make_dataset
from mixnmatch.commands.options import check_range

DESCRIPTION = """\
Read photographs and the boxes of their objects into a data set, on Ray workers.

The data set is the same, byte by byte, as that of `mixnmatch data ingest`. SRC and OUT may be URLs;
on a cluster of several machines they must be, or be on storage that all of them share. What is
interrupted goes on where it was when the same command is run again.

example:
  platform ingest s3://pictures/CUB_200_2011 s3://data/birds
"""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = add_command(
        subparsers, "ingest", "photographs with boxes → data set, on Ray workers", DESCRIPTION
    )
    add_source_options(parser)
    parser.add_argument(
        "--workers", type=int, metavar="N", help="tasks at a time (default: the cluster's CPUs)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Read photographs into a data set."""
    from functools import partial

    from mixnmatch_platform.ingest import make_on_ray

    if arguments.workers is not None:
        check_range("--workers", arguments.workers, 1, 100_000)
    return make_dataset(arguments, partial(make_on_ray, workers=arguments.workers))
