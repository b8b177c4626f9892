"""``mixnmatch train``: both stages in this process, with files alone."""

import argparse
import fnmatch
import json
from collections.abc import Mapping
from pathlib import Path

from mixnmatch.commands.options import (
    CONFIG_NAME,
    STAGES,
    add_config_options,
    folder_or_url,
    read_config,
    write_config,
)
from mixnmatch.metrics.report import finite_or_null

HEADLINES = (
    "disentanglement_accuracy",
    "feature_disentanglement_accuracy",
    "frechet_*",
    "fid*",
    "mask_contrast",
)
"""Figures of a summary line, where they were measured; a star stands for what they depend on."""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "train",
        help="train a model in this process (no Ray, no MLflow)",
        description="Train generator and encoders (stage 1), then the shape extractor (stage 2). "
        "Run again with the same --out to go on from the last checkpoint; SIGTERM saves one more "
        "and ends the run with exit status 143.",
        epilog="example: mixnmatch train data/birds --out runs/birds "
        "--set model.image_size=64 --set stage1.steps=20000",
    )
    parser.add_argument("data", type=folder_or_url, metavar="DATA", help="a data set folder or URL")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of the run")
    parser.add_argument("--stage", choices=STAGES, default="both", help="default: both")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--dry-run", action="store_true", help="check everything, then stop")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    add_config_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train."""
    from mixnmatch.data.store import open_dataset
    from mixnmatch.device import choose_device
    from mixnmatch.recorder import FolderRecorder
    from mixnmatch.training.checkpoints import check_same_run, folder_checkpoints
    from mixnmatch.training.run import Run, Worker, check, train
    from mixnmatch.training.signals import OnNotice, listening
    from mixnmatch.training.size import kept_line

    config = read_config(args, args.out / CONFIG_NAME)
    dataset = open_dataset(args.data)
    worker = Worker(device=choose_device(args.device))
    stages = STAGES[args.stage]
    check(config, dataset, stages, args.out)
    checkpoints = folder_checkpoints(args.out, config)
    # Before the configuration is written, so that a refused one does not take the run's place.
    if (state := checkpoints.load()) is not None:
        check_same_run(state, config, fingerprint=dataset.info.fingerprint, stages=stages)
        del state
    if args.dry_run:
        print(
            f"would train stage {args.stage} on {len(dataset)} pictures of {args.data}, "
            f"{config.stage1.steps if 1 in stages else 0} + "
            f"{config.stage2.steps if 2 in stages else 0} steps on {worker.device}, "
            f"into {args.out}; {kept_line(config)}"
        )
        return 0
    write_config(config, args.out / CONFIG_NAME)
    with listening():
        metrics = train(
            Run(
                config=config,
                dataset=dataset,
                out=args.out,
                recorder=FolderRecorder(args.out),
                checkpoints=checkpoints,
                worker=worker,
                supervisor=OnNotice(),
            ),
            stages,
        )
    if args.json:
        print(json.dumps(finite_or_null(metrics), indent=2))
    else:
        print(summary(args.out, metrics))
    return 0


def summary(out: Path, metrics: Mapping[str, float]) -> str:
    """One line on a finished run: its model and the figures that people ask for first."""
    names = [name for headline in HEADLINES for name in fnmatch.filter(metrics, headline)]
    figures = [f"{name} {metrics[name]:.3g}" for name in names]
    return f"trained {out / 'bundle'}: {', '.join(figures)}"
