"""The command line ``platform``: data and training on Ray, and promotion of what it made."""

import argparse
import importlib
import sys
from collections.abc import Sequence

from mixnmatch import __version__
from mixnmatch.cli import run_program

COMMANDS = ("ingest", "train", "evaluate", "promote", "champion", "stop", "sync", "reap")
"""Modules of ``mixnmatch_platform.commands``, in the order of the help."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; see ``mixnmatch.cli.main`` for the exit status."""
    return run_program(build_parser(), argv)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all sub-commands."""
    parser = argparse.ArgumentParser(
        prog="platform",
        description="Train and measure MixNMatch on Ray, recorded in MLflow; promote the best.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name in COMMANDS:
        importlib.import_module(f"mixnmatch_platform.commands.{name}").register(subparsers)
    return parser


if __name__ == "__main__":
    sys.exit(main())
