"""``platform down``: end what ``platform up`` started."""

import argparse

from mixnmatch_platform.commands.options import add_home


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "down",
        help="end what platform up started",
        description="End the Ray cluster and the MLflow server that platform up started for these "
        "runs, and nothing else. Refused while something trains, unless --force is given: what "
        "trains then goes on from its last checkpoint when it is resumed.",
        epilog="example: platform down",
    )
    add_home(parser)
    parser.add_argument("--force", action="store_true", help="even while something trains")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """End them."""
    from mixnmatch.errors import InputError
    from mixnmatch_platform.folders import running_folders
    from mixnmatch_platform.services import end

    home = args.home.absolute()
    running = [str(folder.relative_to(home)) for folder in running_folders(home)]
    if running and not args.force:
        raise InputError(
            f"{', '.join(running)} is running: platform stop {running[0]} --wait first, or --force"
        )
    ended = end(home)
    print(f"ended {' and '.join(s.name for s in ended)}" if ended else "nothing was up")
    return 0
