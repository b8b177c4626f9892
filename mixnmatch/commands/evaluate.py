"""``mixnmatch evaluate``: the figures of a model on a data set."""

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixnmatch.commands.options import check_range, check_seed, folder_or_url
from mixnmatch.config import MEASURES, EvaluationConfig
from mixnmatch.errors import InputError
from mixnmatch.metrics.protocol import PROTOCOLS, PUBLISHED, SHARED
from mixnmatch.metrics.report import GROUPS, as_json, table_lines, time_line

if TYPE_CHECKING:
    from mixnmatch.bundle import ModelBundle
    from mixnmatch.data.store import Dataset
    from mixnmatch.metrics.evaluate import Evaluation, Runner

_LISTED = "\n".join(f"  {name:10} {GROUPS[name]}" for name in MEASURES)
DESCRIPTION = f"""\
Measure a model on a data set. Groups of figures:

{_LISTED}

The table has for each figure its value, its 95 % interval, what chance would give, and the number
of cases it is measured on; ↑ and ↓ say where better is. Beside chance, ≈ means that the interval
holds it, ✗ that the figure is worse. Figures that depend on the number of samples have it in their
names (fid_5k); fid without one is of 30,000.
"""
_EPILOG = """\
examples:
  mixnmatch evaluate runs/demo/bundle data/demo --page evaluation.html
  mixnmatch evaluate models:/mixnmatch-demo@champion data/demo --metrics factors,masks --json
  mixnmatch evaluate runs/birds/bundle data/birds --protocol paper --inception-weights download
"""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "evaluate",
        help="measure a model on a data set",
        description=DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(parser)
    parser.set_defaults(run=run)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the platform's command has as well."""
    parser.add_argument(
        "model", metavar="MODEL", help="a bundle's folder, or models:/NAME@champion"
    )
    parser.add_argument("data", type=folder_or_url, metavar="DATA", help="a data set folder or URL")
    parser.add_argument(
        "--metrics",
        default="all",
        metavar="GROUPS",
        help="groups of figures, separated by commas; those that the data set knows too little for "
        "are left out (default: all)",
    )
    parser.add_argument(
        "--protocol",
        action=_ProtocolAction,
        metavar="NAME",
        help=f"{', '.join(PROTOCOLS)}: how much is measured; `list` says more and ends",
    )
    parser.add_argument(
        "--samples",
        type=int,
        metavar="N",
        help="pictures generated and mixes judged (default: the protocol's, else the model's own)",
    )
    parser.add_argument(
        "--inception-weights",
        metavar="auto|download|none|FILE",
        help="FID Inception weights, which `fid` needs: `auto` looks for them where they may lie, "
        "`download` fetches them, `none` leaves it out (default: what the model was trained with, "
        "else auto)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of samples and mixes")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument(
        "--page", type=Path, metavar="FILE.html", help="page with the pictures behind the figures"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print figures (with interval, chance and count), protocol and seconds as JSON",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be measured, and measure nothing"
    )


def run(args: argparse.Namespace) -> int:
    """Measure in this process."""
    from mixnmatch.metrics.evaluate import observe_here

    return measure(args, lambda: observe_here)


def measure(args: argparse.Namespace, make_runner: "Callable[[], Runner]") -> int:
    """Measure what the options say, and show it.

    Args:
        args: Of ``add_options``.
        make_runner: Called once it is known that there is something to measure.
    """
    from mixnmatch.data.store import open_dataset
    from mixnmatch.device import choose_device
    from mixnmatch.metrics.evaluate import evaluate
    from mixnmatch.metrics.measure import Subject
    from mixnmatch.mixer import Mixer

    _check(args)
    bundle = Mixer.from_pretrained(args.model, choose_device(args.device)).bundle
    config = _config(args, bundle)
    dataset = open_dataset(args.data)
    if args.dry_run:
        return _dry_run(args, bundle, dataset, config)
    subject = Subject(bundle=bundle, dataset=dataset, config=config, seed=args.seed)
    with contextlib.redirect_stdout(sys.stderr):  # what a runner says is no result
        evaluation = evaluate(subject, runner=make_runner(), exhibits=args.page is not None)
    if args.json:
        where = {"model": args.model, "data": str(args.data)}
        print(json.dumps(where | as_json(evaluation), indent=2, allow_nan=False))
    else:
        print("\n".join(table_lines(evaluation)))
    measured = tuple(dict.fromkeys(evaluation.groups.values()))
    for line in _remarks(config, measured, set(evaluation.figures)):
        print(line, file=sys.stderr)
    print(time_line(evaluation.seconds), file=sys.stderr)
    if args.page is not None:  # last, so that figures are not lost where it cannot be written
        _write_page(args, evaluation)
        print(f"wrote {args.page}", file=sys.stderr)
    return 0


class _ProtocolAction(argparse.Action):
    """Keeps a protocol's name; for ``list`` prints them all and ends, as ``--help`` does."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        if values == "list":
            print("\n".join(_protocol_lines()))
            parser.exit()
        setattr(namespace, self.dest, values)


def _protocol_lines() -> Iterator[str]:
    width = max(map(len, PROTOCOLS))
    yield f"{'':{width}}  samples  for"
    for name, protocol in PROTOCOLS.items():
        yield f"{name:{width}}  {protocol.samples:7,}  {protocol.purpose}"
    for title, lines in (("all of them:", SHARED), ("the published protocol:", PUBLISHED)):
        yield ""
        yield title
        yield from (f"  {line}" for line in lines)


def _check(args: argparse.Namespace) -> None:
    """Refuse options before anything is loaded."""
    check_seed(args.seed)
    if args.samples is not None:
        check_range("--samples", args.samples, 8, 100_000)
    if args.protocol is not None and args.protocol not in PROTOCOLS:
        names = ", ".join(PROTOCOLS)
        raise InputError(f"--protocol is {args.protocol!r}: it must be one of {names}, or list")
    asked = [name.strip() for name in args.metrics.split(",")]
    if asked != ["all"] and not set(asked) <= set(MEASURES):
        raise InputError(
            f"--metrics is {args.metrics!r}: it must be all, or some of {', '.join(MEASURES)} "
            "separated by commas"
        )
    if args.page is not None and args.page.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--page is {args.page}: name it .html")


def _config(args: argparse.Namespace, bundle: "ModelBundle") -> EvaluationConfig:
    """What the model was measured with in training, changed by the options."""
    from mixnmatch.settings import override

    config = bundle.config.evaluation
    samples = PROTOCOLS[args.protocol].samples if args.protocol else config.samples
    weights = args.inception_weights or config.inception_weights or "auto"
    return override(
        config,
        {
            "metrics": args.metrics,
            "samples": args.samples or samples,
            "inception_weights": None if weights == "none" else weights,
        },
    )


def _write_page(args: argparse.Namespace, evaluation: "Evaluation") -> None:
    from mixnmatch.metrics.page import evaluation_page
    from mixnmatch.sheets import written_whole

    text = evaluation_page(evaluation, model=args.model, data=str(args.data))
    with written_whole(args.page) as partial:
        partial.write_text(text, encoding="utf-8")


def _dry_run(
    args: argparse.Namespace, bundle: "ModelBundle", dataset: "Dataset", config: EvaluationConfig
) -> int:
    """Say what would be measured, and which networks would be taught for it."""
    from mixnmatch.metrics.evaluate import applicable, oracle_files

    names = {
        kind.group: sorted(kind.names(dataset, config)) for kind in applicable(dataset, config)
    }
    steps = {"classifier": config.classifier_steps, "localiser": config.localiser_steps}
    oracles = {
        name: {"file": str(file), "cached": file.is_file(), "steps": steps[name]}
        for name, file in oracle_files(dataset, bundle.config.model.image_size, config).items()
    }
    if args.json:
        would = {"would_measure": names, "samples": config.samples, "oracles": oracles}
        print(json.dumps(would, indent=2))
        return 0
    print(f"would measure on {config.samples:,} samples, of a model with a shape extractor:")
    for group, figures in names.items():
        print(f"{group}\n" + "\n".join(f"  {name}" for name in figures))
    for name, oracle in oracles.items():
        if oracle["cached"]:
            print(f"the {name} is in the cache: {oracle['file']}")
        else:
            print(f"the {name} would be taught, {oracle['steps']:,} steps: {oracle['file']}")
    for line in _remarks(config, tuple(names), {each for some in names.values() for each in some}):
        print(line, file=sys.stderr)
    return 0


def _remarks(config: EvaluationConfig, measured: tuple[str, ...], names: set[str]) -> Iterator[str]:
    """Why something that may be missed is not there."""
    from mixnmatch.metrics.figures import sized
    from mixnmatch.metrics.weights import VARIABLE, extractor_name, hub_file

    left_out = [name for name in config.groups if name not in measured]
    if left_out:
        yield f"left out, as the data set knows too little for it: {', '.join(left_out)}"
    if "quality" not in config.groups or sized("fid", config.samples) in names:
        return
    setting = config.inception_weights
    if setting is None:
        yield "fid is not measured: --inception-weights is none"
    elif name := extractor_name(setting):
        yield f"fid is not measured: the weights are not those of the FID, but {name}"
    else:
        yield (
            f"fid is not measured: {VARIABLE} names no weights for it, and there are none at "
            f"{hub_file()}; --inception-weights download fetches them, FILE names them"
        )
