"""Where the states of a job's run are kept: in its folder, or below a URL."""

from pathlib import Path

from mixnmatch.config import RunConfig
from mixnmatch.data.places import Place
from mixnmatch.errors import InputError
from mixnmatch.files import is_url, whole_file
from mixnmatch.training.checkpoints import KeptStates, folder_checkpoints
from mixnmatch.training.stored import StoredCheckpoints

__all__ = ["job_states", "remember_url"]

URL_FILE = "checkpoints-url"


def job_states(out: Path, config: RunConfig, url: str | None = None) -> KeptStates:
    """The states of the run in a folder.

    Args:
        out: The folder.
        config: How many are kept.
        url: Below which those of all runs are kept, this one's under ``EXPERIMENT/RUN``; without it
            where the run was begun, which is its folder unless ``remember_url`` says otherwise.

    Raises:
        InputError: If the run keeps them elsewhere already, or ``url`` is none.
    """
    file = out / URL_FILE
    kept = file.read_text(encoding="utf-8").strip() if file.is_file() else None
    here = folder_checkpoints(out, config)
    if url is not None:
        asked = _of_run(url, out)
        place = kept or (str(here.folder) if here.latest() is not None else None)
        if place not in (None, asked):
            raise InputError(f"--checkpoints is {url}: {out} has its checkpoints in {place}")
        kept = asked
    return here if kept is None else StoredCheckpoints(Place(kept), config.checkpoint_keep)


def remember_url(out: Path, url: str | None) -> None:
    """Let whoever goes on with a run find its states without being told the URL again."""
    if url is not None:
        with whole_file(out / URL_FILE) as partial:
            partial.write_text(f"{_of_run(url, out)}\n", encoding="utf-8")


def _of_run(url: str, out: Path) -> str:
    if not is_url(url):
        raise InputError(f"--checkpoints is {url}: it must be a URL such as s3://bucket/folder")
    base, question, options = url.partition("?")
    return f"{base.rstrip('/')}/{out.parent.name}/{out.name}{question}{options}"
