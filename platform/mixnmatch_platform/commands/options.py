"""Options that several commands have."""

import argparse
from pathlib import Path

from mixnmatch_platform.store import home_folder

__all__ = ["add_home"]


def add_home(parser: argparse.ArgumentParser) -> None:
    """Add ``--home``."""
    parser.add_argument(
        "--home", type=Path, default=home_folder(), help="folder of the runs (default: runs)"
    )
