"""``mixnmatch data export``: pictures of a data set as files."""

import argparse
from pathlib import Path

from mixnmatch.commands.data.common import add_command, report
from mixnmatch.commands.options import folder_or_url

DESCRIPTION = """\
Write pictures of a data set as PNG files, cut to their objects as evaluation sees them.

They are named by number and class, and ready for `mixnmatch mix`.

example:
  mixnmatch data export data/factors pictures --count 12 --split test
"""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = add_command(commands, "export", "write pictures of a data set as files", DESCRIPTION)
    parser.add_argument("data", metavar="DATA", type=folder_or_url, help="data set folder or URL")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write, new or empty")
    parser.add_argument("--count", type=int, default=12, help="most pictures (%(default)s)")
    parser.add_argument(
        "--split",
        choices=["train", "test", "judge", "all"],
        default="test",
        help="part to choose from (%(default)s)",
    )
    parser.add_argument("--side", type=int, default=128, help="of the files, pixels (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice (%(default)s)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write pictures of a data set as files."""
    from mixnmatch.data.export import export_pictures
    from mixnmatch.data.store import open_dataset
    from mixnmatch.data.words import counted

    files, available = export_pictures(
        open_dataset(arguments.data),
        arguments.out,
        count=arguments.count,
        side=arguments.side,
        split=None if arguments.split == "all" else arguments.split,
        seed=arguments.seed,
    )
    of_split = "" if arguments.split == "all" else f" of split {arguments.split}"
    report(
        arguments,
        {
            "out": str(arguments.out),
            "files": [file.name for file in files],
            "available": available,
        },
        f"{arguments.out}: {len(files)} of {counted(available, 'picture')}{of_split}, "
        f"{arguments.side}x{arguments.side} px",
    )
    return 0
