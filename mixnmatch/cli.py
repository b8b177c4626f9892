"""The command line ``mixnmatch``: it finds the sub-command, and turns errors into one line."""

import argparse
import importlib
import sys
import warnings
from collections.abc import Sequence

from mixnmatch import __version__
from mixnmatch.errors import MixNMatchError, without_passwords

COMMANDS = (
    "data",
    "train",
    "evaluate",
    "mix",
    "vary",
    "walk",
    "animate",
    "sketch",
    "sheet",
    "convert",
)
"""Modules of ``mixnmatch.commands``, in the order of the help."""

INTERRUPTED = 130
FAILED = 1
BAD_PATH = 2
_BAD_PATHS = (
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Arguments after the program's name; those of the process by default.

    Returns:
        Exit status: 0, 1 for work that failed, 2 for unusable input, 130 when interrupted.
    """
    return run_program(build_parser(), argv)


def run_program(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    """Run the command that the arguments name, and turn errors that have a reason into one line.

    Args:
        parser: Whose commands set ``run``, a function of the arguments.
        argv: Arguments after the program's name; those of the process by default.

    Returns:
        Exit status; see ``main``.
    """
    arguments = parser.parse_args(argv)
    try:
        with warnings.catch_warnings():
            # What matters of a picture's damage is in our own errors, one line each.
            warnings.filterwarnings("ignore", module=r"PIL\.")
            return int(arguments.run(arguments))
    except MixNMatchError as error:
        return _complain(parser.prog, str(error), error.exit_status)
    except OSError as error:
        return _complain(
            parser.prog, _describe(error), BAD_PATH if isinstance(error, _BAD_PATHS) else FAILED
        )
    except KeyboardInterrupt:
        return _complain(parser.prog, "interrupted", INTERRUPTED)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all sub-commands; each sets ``run``, a function of the arguments."""
    parser = argparse.ArgumentParser(
        prog="mixnmatch",
        description="MixNMatch: train, evaluate and mix shape, texture, pose and background.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name in COMMANDS:
        importlib.import_module(f"mixnmatch.commands.{name}").register(subparsers)
    return parser


def _describe(error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {reason}" if error.filename else reason


def _complain(program: str, message: str, status: int) -> int:
    line = without_passwords(" ".join(message.split()))
    print(f"{program}: error: {line}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
