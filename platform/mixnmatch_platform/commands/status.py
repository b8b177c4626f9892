"""``platform status``: which services are up, and what trains."""

import argparse
import json

from mixnmatch_platform.commands.options import add_home


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "status",
        help="which services are up, and what trains",
        description="Say which services of platform up are alive and answer, which runs and sweeps "
        "train now, and how many records still wait for MLflow.",
        epilog="example: platform status --json",
    )
    add_home(parser)
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Say it."""
    from mixnmatch_platform.budget import elapsed_seconds
    from mixnmatch_platform.folders import run_folders, running_folders
    from mixnmatch_platform.outbox import Outbox
    from mixnmatch_platform.services import services
    from mixnmatch_platform.store import answers, tracking_uri

    home = args.home.absolute()
    up = [
        {"name": s.name, "url": s.url, "pid": s.pid, "answers": s.answers} for s in services(home)
    ]
    uri = tracking_uri(home)
    store = {"uri": uri, "answers": answers(uri) if home.is_dir() else False}
    running = [
        {"name": str(folder.relative_to(home)), "hours": round(elapsed_seconds(folder) / 3600, 2)}
        for folder in running_folders(home)
    ]
    waiting = sum(Outbox(folder).waiting() for folder in run_folders(home))
    if args.json:
        print(
            json.dumps(
                {"services": up, "store": store, "running": running, "waiting": waiting}, indent=2
            )
        )
        return 0
    for each in up:
        print(f"{each['name']:8} {each['url']}" + ("" if each["answers"] else " does not answer"))
    if not up:
        print("no services: platform up starts them; commands start a Ray of their own without")
    print(f"store    {uri}" + ("" if store["answers"] else " is not there, or does not answer"))
    print(f"records  {waiting} wait for MLflow" + ("; platform sync sends them" if waiting else ""))
    for entry in running:
        print(f"trains   {entry['name']}, for {entry['hours']:.2f} h so far")
    if not running:
        print("trains   nothing")
    return 0
