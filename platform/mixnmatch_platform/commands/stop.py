"""``platform stop``: end a run or a sweep with its state saved."""

import argparse
import time

from mixnmatch_platform.commands.options import add_home

POLL_SECONDS = 0.5


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "stop",
        help="end a run or a sweep, saved",
        description="Ask what runs under a name to save a checkpoint and end; the same command as "
        "before goes on with it. NAME is a run, EXPERIMENT/RUN, or a sweep with all its trials.",
        epilog="example: platform stop birds-64 --wait",
    )
    parser.add_argument("name", metavar="NAME", help="run, EXPERIMENT/RUN, or sweep")
    add_home(parser)
    parser.add_argument(
        "--wait",
        type=float,
        metavar="SECONDS",
        nargs="?",
        const=600.0,
        default=0.0,
        help="wait for its end (default: do not; without a number: ten minutes at the most)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Ask for a stop, and wait for it."""
    from mixnmatch.errors import RunError
    from mixnmatch_platform.folders import find_folder, is_running
    from mixnmatch_platform.stopping import request_stop

    folder = find_folder(args.home.absolute(), args.name, running=True)
    request_stop(folder, "platform stop")
    deadline = time.monotonic() + args.wait
    while is_running(folder):
        if time.monotonic() >= deadline:
            if args.wait:
                raise RunError(f"{folder} was asked to stop, and runs on after {args.wait:g} s")
            print(f"{folder} was asked to stop: it saves after its step, then ends")
            return 0
        time.sleep(POLL_SECONDS)
    print(f"{folder} has stopped: platform resume {args.name} goes on with it")
    return 0
