"""``platform logs``: what a run or a sweep has said."""

import argparse
import time
from collections import deque

from mixnmatch_platform.commands.options import add_home

POLL_SECONDS = 0.5


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "logs",
        help="show what a run or a sweep has said",
        description="Show the log of a run or sweep: what its driver and its workers said, each "
        "line with its time (UTC), of all sessions. A trial's lines are in its sweep's log.",
        epilog="example: platform logs demo --follow",
    )
    parser.add_argument("name", metavar="NAME", help="run, EXPERIMENT/RUN, or sweep")
    add_home(parser)
    parser.add_argument("--lines", type=int, metavar="N", help="only the last N")
    parser.add_argument(
        "--follow", action="store_true", help="go on until what runs there has ended"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show it."""
    from mixnmatch.commands.options import check_range
    from mixnmatch.errors import InputError
    from mixnmatch_platform.folders import find_folder, is_running
    from mixnmatch_platform.session_log import LOG

    if args.lines is not None:
        check_range("--lines", args.lines, 1, 10**9)
    folder = find_folder(args.home.absolute(), args.name)
    only = None
    if not (folder / LOG).is_file() and (folder.parent / LOG).is_file():
        folder, only = folder.parent, folder.name
    if not (folder / LOG).is_file():
        raise InputError(f"{folder} has no {LOG}: nothing has run there under platform yet")
    with (folder / LOG).open(encoding="utf-8", errors="replace") as file:
        for line in deque((text for text in file if only is None or only in text), args.lines):
            print(line, end="")
        while args.follow and is_running(folder):
            time.sleep(POLL_SECONDS)
            for line in file:
                if only is None or only in line:
                    print(line, end="", flush=True)
    return 0
