"""``platform up``: Ray and MLflow on this machine."""

import argparse

from mixnmatch_platform.commands.options import add_home


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "up",
        help="start Ray and MLflow on this machine",
        description="Start a Ray cluster of this machine with its dashboard, and an MLflow server "
        "on the store of the runs, both on 127.0.0.1 and in the background. Training and sweeps "
        "with the same --home then run on that cluster; without it, each starts one of its own.",
        epilog="example: platform up --cpus 8",
    )
    add_home(parser)
    parser.add_argument("--cpus", type=float, metavar="N", help="of the cluster (default: all)")
    parser.add_argument("--gpus", type=float, metavar="N", help="of the cluster (default: all)")
    parser.add_argument("--dashboard-port", type=int, default=8265, help="default: 8265")
    parser.add_argument("--mlflow-port", type=int, default=5000, help="default: 5000")
    parser.add_argument("--ray-port", type=int, default=6379, help="default: 6379")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Start them."""
    from mixnmatch_platform.services import Ports, start

    ports = Ports(dashboard=args.dashboard_port, mlflow=args.mlflow_port, ray=args.ray_port)
    for service in start(args.home.absolute(), ports, cpus=args.cpus, gpus=args.gpus):
        print(f"{service.name:7} {service.url}")
    print("the dashboard asks for the token that `ray get-auth-token` prints")
    print("platform down ends both; platform status says what runs on them")
    return 0
