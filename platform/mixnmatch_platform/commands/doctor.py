"""``platform doctor``: is this machine ready?"""

import argparse
import dataclasses
import json

from mixnmatch.commands.options import folder_or_url
from mixnmatch_platform.commands.options import add_home


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "doctor",
        help="check this machine, and say how to mend what is wrong",
        description="Check versions, GPU, memory, disk, ports, the folder of the runs, the MLflow "
        "store, and, where they are named, a data set and a store of checkpoints. Exit status 1 if "
        "something must be mended.",
        epilog="example: platform doctor --data data/birds --checkpoints s3://bucket/birds",
    )
    add_home(parser)
    parser.add_argument("--data", type=folder_or_url, metavar="DATA", help="a data set to check")
    parser.add_argument("--checkpoints", metavar="URL", help="a store of checkpoints to check")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check."""
    from mixnmatch_platform.doctor import examine

    findings = examine(args.home.absolute(), args.data, args.checkpoints)
    bad = sum(finding.state == "bad" for finding in findings)
    if args.json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
        return int(bad > 0)
    for finding in findings:
        print(f"{finding.state:5} {finding.name:12} {finding.said}")
        if finding.mend:
            print(f"{'':18} → {finding.mend}")
    warned = sum(finding.state == "warn" for finding in findings)
    print(f"{len(findings)} checks: {bad} to mend, {warned} to know of")
    return int(bad > 0)
