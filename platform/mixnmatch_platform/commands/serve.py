"""``platform serve``: a model over HTTP, with a page to mix pictures."""

import argparse
import os
import sys
from pathlib import Path

from mixnmatch_platform.commands.options import add_home

TOKEN = "MIXNMATCH_SERVE_TOKEN"
_EPILOG = f"""\
An alias is followed: when it moves, replicas load the new version while they answer with the old
one, and no request fails. A version that cannot be loaded is said, and the old one stays.

The page is at /, the routes are /mix, /vary, /encode, /animate, /about, /gallery/ID, /healthz and
/metrics (Prometheus), their description is /openapi.json. The token is the first line of
--token-file, or {TOKEN}. The cluster of `platform up` is used if there is one, else one
of this command's own.

example:
  platform serve models:/birds@champion --replicas 1-4 --port 8000
"""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "serve",
        help="serve a model over HTTP, with a page to mix pictures",
        description="Serve a model on Ray: requests that come together are painted together.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model", metavar="MODEL", help="models:/NAME@ALIAS, models:/NAME/VERSION or a folder"
    )
    add_home(parser)
    parser.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="default: 8000")
    parser.add_argument(
        "--replicas", default="1", metavar="N|N-M", help="processes that paint (default: 1)"
    )
    parser.add_argument(
        "--cpus-per-replica", type=float, default=1.0, metavar="N", help="default: 1"
    )
    parser.add_argument(
        "--gpus-per-replica", type=float, default=0.0, metavar="N", help="up to 1 (default: 0)"
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        default=16,
        metavar="N",
        help="pictures that go through the model at once (default: 16)",
    )
    parser.add_argument(
        "--queue",
        type=int,
        default=256,
        metavar="N",
        help="requests that may wait; others are refused with 503 (default: 256)",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="for a request, with its waiting; then it is refused with 504 (default: 60)",
    )
    parser.add_argument(
        "--follow-every",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="between two looks at an alias (default: 10)",
    )
    parser.add_argument(
        "--gallery",
        type=Path,
        metavar="DATA",
        help="data set of the pictures to choose from (default: that of the model's run, where "
        "it is on this machine)",
    )
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help="what clients must know, in its first line"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be served")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve."""
    from mixnmatch.commands.options import check_range
    from mixnmatch_platform.serving.plan import Plan, describe, prepare
    from mixnmatch_platform.serving.server import serve_until_told
    from mixnmatch_platform.store import tracking_uri

    check_range("--port", args.port, 1, 65535)
    check_range("--batch-size", args.batch_size, 1, 1024)
    check_range("--queue", args.queue, 1, 100_000)
    check_range("--timeout", args.timeout, 1, 3600)
    check_range("--follow-every", args.follow_every, 1, 86_400)
    plan = Plan(
        model=args.model,
        store=tracking_uri(args.home),
        home=args.home.absolute(),
        gallery=args.gallery,
        host=args.host,
        port=args.port,
        replicas=read_replicas(args.replicas),
        cpus_per_replica=args.cpus_per_replica,
        gpus_per_replica=args.gpus_per_replica,
        batch_size=args.batch_size,
        queue=args.queue,
        timeout_seconds=args.timeout,
        follow_seconds=args.follow_every,
        token=read_token(args.token_file),
    )
    prepared = prepare(plan)
    if plan.is_public:
        known = "only who knows the token" if plan.token else "anybody"
        print(f"warning: {plan.host} lets {known} in from other machines", file=sys.stderr)
    if args.dry_run:
        print(describe(prepared))
    else:
        serve_until_told(prepared)
    return 0


def read_replicas(text: str) -> tuple[int, int]:
    """The fewest and the most of ``N`` or ``N-M``.

    Raises:
        InputError: If it is neither, or out of range.
    """
    from mixnmatch.errors import InputError

    fewest, dash, most = text.partition("-")
    if not fewest.isdecimal() or (dash and not most.isdecimal()):
        raise InputError(f"--replicas is {text!r}: write a number, or the fewest and most as 1-4")
    numbers = int(fewest), int(most or fewest)
    if not 1 <= numbers[0] <= numbers[1] <= 1000:
        raise InputError(f"--replicas is {text!r}: they must be from 1 to 1000, the fewest first")
    return numbers


def read_token(file: Path | None) -> str | None:
    """The token of a file's first line, else of the environment, where workers do not get it.

    Raises:
        InputError: If it is empty, or has what a header cannot carry.
    """
    from mixnmatch.errors import InputError

    token = os.environ.pop(TOKEN, None)
    if file is not None:
        text = file.read_text(encoding="utf-8", errors="replace")
        token = next(iter(text.splitlines()), "")
    if token is None:
        return None
    token = token.strip()
    if not token:
        raise InputError(f"{file or TOKEN}: the token is empty")
    for letter in token:
        if not "!" <= letter <= "~":
            raise InputError(
                f"{file or TOKEN}: the token has {letter!a} in it: "
                "use letters, digits and signs of ASCII only, without spaces"
            )
    return token
