"""``platform resume``: go on with a run or a sweep."""

import argparse
import os
import shlex
import sys

from mixnmatch_platform.commands.options import add_home


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "resume",
        help="go on with a run or a sweep",
        description="Start the command of a run or sweep again, as it was given last and where it "
        "was given: it goes on from the last checkpoints, in the same MLflow runs, with the same "
        "trials. Options after the name are added to it and win, such as a larger budget.",
        epilog="example: platform resume birds-64 --max-hours 48",
    )
    add_home(parser)
    parser.add_argument("--dry-run", action="store_true", help="only say what would be run")
    parser.add_argument("name", metavar="NAME", help="run, EXPERIMENT/RUN, or sweep")
    parser.add_argument(
        "options", nargs=argparse.REMAINDER, metavar="OPTION", help="added to its command"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Become that command."""
    from mixnmatch.errors import InputError
    from mixnmatch_platform.folders import find_folder, is_running
    from mixnmatch_platform.session_log import noted_command

    folder = find_folder(args.home.absolute(), args.name)
    if is_running(folder):
        raise InputError(f"{folder} is running: platform logs {args.name} --follow shows it")
    arguments, where = noted_command(folder)
    command = [sys.executable, *arguments[1:], *args.options]
    print(f"cd {shlex.quote(str(where))} && {shlex.join(command)}", file=sys.stderr, flush=True)
    if args.dry_run:
        return 0
    os.chdir(where)
    return os.execv(command[0], command)  # signals and the exit status are its own
