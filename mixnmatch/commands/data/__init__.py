"""``mixnmatch data``: make data sets from photographs or by drawing, check and look at them."""

import argparse
import importlib

COMMANDS = ("ingest", "synthesize", "check", "view", "export")
"""Modules of this package, in the order of the help."""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``data`` and its sub-commands to the command line."""
    parser = subparsers.add_parser("data", help="make, check and look at data sets")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name in COMMANDS:
        importlib.import_module(f"mixnmatch.commands.data.{name}").register(commands)
