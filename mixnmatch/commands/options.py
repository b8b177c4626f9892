"""Options that several commands share."""

import argparse
import json
import tomllib
from pathlib import Path
from typing import Any

from mixnmatch.config import LARGEST_SEED, RunConfig
from mixnmatch.errors import ConfigError, InputError
from mixnmatch.files import is_url
from mixnmatch.settings import from_dict, override, parse_assignment, to_dict

STAGES = {"1": (1,), "2": (2,), "both": (1, 2)}
CONFIG_NAME = "config.json"


def folder_or_url(text: str) -> Path | str:
    """Type of an argument; a path would lose one slash of a URL."""
    return text if is_url(text) else Path(text)


def check_range(option: str, value: int | float, least: int | float, most: int | float) -> None:
    """Refuse the value of an option that is out of range, both ends included.

    Raises:
        InputError: If it is.
    """
    if not least <= value <= most:
        shown = f"{value:g}" if isinstance(value, float) else value
        raise InputError(f"{option} is {shown}: it must be from {least} to {most}")


def check_seed(seed: int) -> None:
    """Refuse a ``--seed`` that is out of range.

    Raises:
        InputError: If it is.
    """
    check_range("--seed", seed, 0, LARGEST_SEED)


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """``--config`` and ``--set``."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="settings as JSON or TOML; those left out keep the published values",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one setting, for instance --set stage1.steps=5000 (may be given often)",
    )


def read_config(args: argparse.Namespace, saved: Path | None = None) -> RunConfig:
    """The configuration that the options ask for.

    Args:
        args: Parsed options of ``add_config_options``.
        saved: Configuration of the run to resume, used where it exists and there is no
            ``--config``.

    Raises:
        ConfigError: For a missing or unreadable file, an unknown key or a bad value.
    """
    path = args.config or (saved if saved is not None and saved.is_file() else None)
    config = RunConfig() if path is None else from_dict(RunConfig, _read_table(path))
    return override(config, dict(parse_assignment(text) for text in args.set))


def write_config(config: RunConfig, path: Path) -> None:
    """Keep a run's configuration beside it, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(to_dict(config), indent=2) + "\n")
    partial.replace(path)


def _read_table(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: configuration cannot be read ({error})") from error
    try:
        table = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{path}: not valid {path.suffix[1:] or 'JSON'} ({error})") from error
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: must be a table of settings")
    return table
