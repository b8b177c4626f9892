"""``platform sweep``: run an experiment file."""

import argparse
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mixnmatch_platform.sweep import Sweep

EXPERIMENTS = Path("experiments")


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "sweep",
        help="run an experiment file",
        description="Run the sweep of an experiment file, or go on with it: the same as running "
        "the file itself. A NAME stands for experiments/NAME.py or experiments/sweep_NAME.py.",
        epilog="example: platform sweep demo --dry-run (platform sweep demo --help: its options)",
    )
    parser.add_argument("experiment", metavar="FILE|NAME", help="the experiment")
    parser.add_argument(
        "options", nargs=argparse.REMAINDER, metavar="OPTION", help="of the experiment"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run it."""
    from mixnmatch_platform.experiment import main

    return main(load_sweep(find_file(args.experiment)), args.options)


def find_file(experiment: str) -> Path:
    """The file that a path or a name stands for.

    Raises:
        InputError: If there is none.
    """
    from mixnmatch.errors import InputError

    named = [EXPERIMENTS / f"{prefix}{experiment}.py" for prefix in ("", "sweep_")]
    for file in (Path(experiment), *named):
        if file.is_file():
            return file
    known = ", ".join(sorted(file.stem.removeprefix("sweep_") for file in EXPERIMENTS.glob("*.py")))
    raise InputError(
        f"no experiment {experiment}: there is {known or 'none'} in {EXPERIMENTS.absolute()}"
    )


def load_sweep(file: Path) -> "Sweep":
    """The sweep that an experiment file calls SWEEP.

    Raises:
        InputError: If it cannot be executed or has none.
    """
    from mixnmatch.errors import InputError, MixNMatchError
    from mixnmatch_platform.sweep import Sweep

    spec = importlib.util.spec_from_file_location("experiment", file.absolute())
    if spec is None or spec.loader is None:
        raise InputError(f"{file} is no Python file: name an experiment such as experiments/x.py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except MixNMatchError as error:
        raise InputError(f"{file}: {error}") from error
    except Exception as error:  # whatever a file of the user's does
        raise InputError(f"{file} cannot be run: {type(error).__name__}: {error}") from error
    sweep = getattr(module, "SWEEP", None)
    if not isinstance(sweep, Sweep):
        raise InputError(f"{file} has no SWEEP = Sweep(…), which an experiment file must have")
    return sweep
