"""``platform train``: a run on Ray Train, recorded in MLflow."""

import argparse
import contextlib
import json
import re
import sys

from mixnmatch.commands.options import (
    CONFIG_NAME,
    STAGES,
    add_config_options,
    folder_or_url,
    read_config,
)
from mixnmatch_platform.commands.options import add_home


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "train",
        help="train on Ray workers, recorded in MLflow",
        description="Train stage 1, stage 2 or both in one worker group. A worker that dies is "
        "started again from the last checkpoint; run again with the same --name to go on after the "
        "whole command died. SIGTERM, `platform stop` and a spent budget save one more checkpoint "
        "and end it with exit status 143.",
        epilog="example: platform train data/birds --name birds-64 --workers 2 "
        "--set model.image_size=64",
    )
    parser.add_argument("data", type=folder_or_url, metavar="DATA", help="a data set folder or URL")
    parser.add_argument("--name", required=True, metavar="RUN", help="name of the run")
    parser.add_argument("--experiment", default="train", help="MLflow experiment (default: train)")
    add_home(parser)
    parser.add_argument("--stage", choices=STAGES, default="both", help="default: both")
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="data-parallel Ray workers; 0 trains in this process "
        "(default: 0 for both stages on CPU, else 1)",
    )
    parser.add_argument(
        "--gpu",
        dest="gpus_per_worker",
        action="store_const",
        const=1.0,
        default=0.0,
        help="one GPU a worker, NCCL between them",
    )
    parser.add_argument(
        "--gpus-per-worker",
        type=float,
        metavar="N",
        help="a fraction, where several runs of small models share a GPU",
    )
    parser.add_argument(
        "--cpus-per-worker",
        type=float,
        metavar="N",
        default=1.0,
        help="CPUs of a worker (default: 1)",
    )
    parser.add_argument(
        "--checkpoints",
        metavar="URL",
        help="object store for the checkpoints, such as s3://bucket/folder (default: in the run's "
        "folder)",
    )
    parser.add_argument(
        "--max-hours",
        type=float,
        metavar="H",
        help="end, saved, once all sessions of the run have taken this long",
    )
    parser.add_argument(
        "--max-device-hours",
        type=float,
        metavar="H",
        help="end, saved, once its workers have taken this many hours together",
    )
    parser.add_argument("--dry-run", action="store_true", help="check everything, then stop")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    add_config_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train."""
    from mixnmatch.commands.options import write_config
    from mixnmatch.commands.train import summary
    from mixnmatch.data.store import open_dataset
    from mixnmatch.errors import InputError
    from mixnmatch.files import absolute
    from mixnmatch.metrics.report import finite_or_null
    from mixnmatch.training.checkpoints import check_same_run
    from mixnmatch.training.run import check
    from mixnmatch.training.signals import listening
    from mixnmatch.training.size import kept_line
    from mixnmatch_platform.attempts import forget_attempts
    from mixnmatch_platform.budget import Budget, session
    from mixnmatch_platform.cluster import connect
    from mixnmatch_platform.job import start_job
    from mixnmatch_platform.placing import check_placeable, worker_bundle
    from mixnmatch_platform.states import job_states, remember_url
    from mixnmatch_platform.tracking import Tracking
    from mixnmatch_platform.trainers import run_job

    stages = STAGES[args.stage]
    default = 0 if stages == (1, 2) and not args.gpus_per_worker else 1
    workers = default if args.workers is None else args.workers
    if workers < 0:
        raise InputError(f"--workers is {workers}: it must be at least 0")
    for option in ("name", "experiment"):
        if re.fullmatch(r"[\w][\w .-]*", value := getattr(args, option)) is None:
            raise InputError(
                f"--{option} {value!r}: take letters, digits, spaces, '_', '-' and '.'"
            )
    budget = Budget(max_hours=args.max_hours, max_device_hours=args.max_device_hours)
    home = args.home.absolute()
    out = home / args.experiment / args.name
    config = read_config(args, out / CONFIG_NAME)
    dataset = open_dataset(args.data)
    check(config, dataset, stages, out, world_size=max(1, workers))
    # Before anything is reopened or written, so that a refusal leaves the finished run as it was.
    if (state := job_states(out, config, args.checkpoints).load()) is not None:
        check_same_run(state, config, fingerprint=dataset.info.fingerprint, stages=stages)
        del state
    bundle = worker_bundle(
        gpus_per_worker=args.gpus_per_worker, cpus_per_worker=args.cpus_per_worker
    )
    tracking = Tracking.at(home, args.experiment)
    tracking.check()
    where = f"{workers} worker(s) of {args.cpus_per_worker:g} CPU" if workers else "this process"
    if args.gpus_per_worker:
        where += f" with {args.gpus_per_worker:g} GPU each"
    if args.dry_run:
        print(
            f"would train stage {args.stage} of {args.name} in {where}, into {out} and "
            f"experiment {args.experiment} of {tracking.uri}; {kept_line(config)}"
        )
        return 0
    if workers:
        check_placeable(bundle, workers, grows=connect(home=home).grows)
    # Listening after Ray, which has handlers of its own; what it says on stdout is no result.
    with listening(), session(out, budget), contextlib.redirect_stdout(sys.stderr):
        forget_attempts(out)
        job = start_job(
            tracking,
            name=args.name,
            config=config,
            data=absolute(args.data),
            out=out,
            stages=stages,
        )
        write_config(config, out / CONFIG_NAME)
        remember_url(out, args.checkpoints)
        metrics = run_job(
            job,
            workers=workers,
            gpus_per_worker=args.gpus_per_worker,
            cpus_per_worker=args.cpus_per_worker,
        )
    print(json.dumps(finite_or_null(metrics), indent=2) if args.json else summary(out, metrics))
    return 0
