"""The command line ``platform``: data and training on Ray, and promotion of what it made."""

import argparse
import importlib
import sys
from collections.abc import Sequence

from mixnmatch import __version__
from mixnmatch.cli import run_program
from mixnmatch_platform.output import results_alone

COMMANDS = (
    *("ingest", "train", "sweep", "resume", "stop", "runs", "compare", "report", "logs"),
    *("evaluate", "promote", "rollback", "history", "champion", "export_model", "import_model"),
    *("serve", "up", "down", "status", "doctor", "sync", "reap"),
)
"""Modules of ``mixnmatch_platform.commands``, in the order of the help."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; see ``mixnmatch.cli.main`` for the exit status."""
    with results_alone():
        return run_program(build_parser(), argv)


def program() -> int:
    """The installed program: ``main``, and then nothing more on standard output."""
    status = main()
    sys.stdout.flush()
    sys.stdout = sys.stderr  # Ray prints what it kept back as it shuts down
    return status


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
    sys.exit(program())
