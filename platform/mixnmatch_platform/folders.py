"""The folders of runs and sweeps below a home folder, by name and by whether something runs."""

from collections.abc import Iterator
from pathlib import Path

from mixnmatch.errors import InputError
from mixnmatch_platform.budget import in_session
from mixnmatch_platform.locks import is_held
from mixnmatch_platform.outbox import OUTBOX

__all__ = ["find_folder", "is_running", "run_folders", "running_folders"]


def is_running(folder: Path) -> bool:
    """Whether a driver or a worker works on the run or sweep in a folder now."""
    return in_session(folder) or is_held(folder)


def run_folders(home: Path) -> Iterator[Path]:
    """Folders of runs and of sweeps, a sweep before its trials."""
    for depth in ("*/", "*/*/"):
        yield from sorted(file.parent for file in home.glob(f"{depth}{OUTBOX}"))


def running_folders(home: Path) -> list[Path]:
    """Those in which something runs; not the trials of a sweep that runs."""
    found: list[Path] = []
    for folder in run_folders(home):
        if folder.parent not in found and is_running(folder):
            found.append(folder)
    return found


def find_folder(home: Path, name: str, *, running: bool = False) -> Path:
    """The one folder of a run, EXPERIMENT/RUN, or sweep.

    Args:
        home: Folder of the runs.
        name: Its name.
        running: Whether only one in which something runs will do.

    Raises:
        InputError: If there is none or more than one.
    """
    if name.startswith("/") or ".." in Path(name).parts or not name.strip("./"):
        raise InputError(f"{name!r} is no name of a run or sweep")
    there = [folder for folder in (home / name, *home.glob(f"*/{name}")) if folder.is_dir()]
    found = [folder for folder in there if is_running(folder)] if running else there
    if len(found) > 1:
        names = " or ".join(str(folder.relative_to(home)) for folder in found)
        raise InputError(f"{name} {'runs' if running else 'is there'} more than once: say {names}")
    if not found and running:
        known = "it is not running" if there else f"there is none in {home}"
        raise InputError(f"no run or sweep {name} runs: {known}")
    if not found:
        known = ", ".join(str(folder.relative_to(home)) for folder in list(run_folders(home))[:8])
        raise InputError(f"no run or sweep {name} in {home}: there is {known or 'none'}")
    return found[0]
