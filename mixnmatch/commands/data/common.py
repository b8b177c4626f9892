"""What the commands of ``mixnmatch data`` have in common."""

import argparse
import json
from typing import Any

from mixnmatch.data.info import DatasetInfo
from mixnmatch.data.words import counted


def add_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    text: str,
    description: str,
) -> argparse.ArgumentParser:
    """A sub-command with ``--json``.

    Args:
        commands: Of ``mixnmatch data``.
        name: Of the command.
        text: For the list of commands.
        description: For the command's own help; it ends with an example.
    """
    parser = commands.add_parser(
        name,
        help=text,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    return parser


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """``--overwrite``."""
    parser.add_argument(
        "--overwrite", action="store_true", help="replace OUT if it is a data set already"
    )


def summarise(
    arguments: argparse.Namespace,
    info: DatasetInfo,
    *,
    rows: str = "pictures",
    seconds: float | None = None,
) -> None:
    """Print what has become of a data set.

    Args:
        arguments: With ``out`` and ``json``.
        info: Of the data set.
        rows: What a row is, in the plural.
        seconds: That it took.
    """
    splits = ", ".join(f"{count} {name}" for name, count in (info.splits or {}).items())
    parts = [counted(info.count, rows.removesuffix("s"), rows) + (f" ({splits})" if splits else "")]
    if info.labels:
        parts.append(counted(info.labels, "class", "classes"))
    if info.remarks:
        parts.append(f"{info.remarks} with remarks")
    if info.duplicates:
        parts.append(f"{len(info.duplicates)} there more than once")
    if info.rejects:
        parts.append(f"{len(info.rejects)} bad left out, see dataset.json")
    took = "" if seconds is None else f"{seconds:.1f} s; "
    text = f"{arguments.out}: {', '.join(parts)}; {took}fingerprint {info.fingerprint[:12]}"
    summary = {"out": str(arguments.out), **json.loads(info.to_json())}
    if seconds is not None:
        summary["seconds"] = seconds
    report(arguments, summary, text)


def report(arguments: argparse.Namespace, summary: dict[str, Any], text: str) -> None:
    """Print a summary: as JSON where that is wanted, else as a line."""
    print(json.dumps(summary) if arguments.json else text)


def printable(line: str) -> str:
    """Without the control characters that a file name may have."""
    return "".join(character if character.isprintable() else "�" for character in line)
