"""Files and folders that appear whole or not at all, and the place of what can be made again."""

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["absolute", "cache_folder", "checksum", "is_url", "replace_folder", "whole_file"]


def is_url(where: str | Path) -> bool:
    """Whether it is a URL such as ``s3://bucket/folder``, and no path."""
    return isinstance(where, str) and "://" in where


def absolute(where: str | Path) -> str | Path:
    """A place that is the same from any working directory; a URL always is."""
    return where if is_url(where) else Path(where).absolute()


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary name to write a file under, in a folder made for it; renamed at the end.

    After an error nothing is left of it. The temporary name ends as the file's own does, and no
    two writers have the same.

    Raises:
        OSError: If the folder cannot be made, or the file not be renamed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def replace_folder(new: Path, out: Path) -> None:
    """Put a finished folder in its place; what stood there is deleted only once that is done.

    Until then the old folder lies beside ``out`` under a hidden name. It comes back if the new one
    cannot be renamed, and where even that fails it stays there.

    Args:
        new: The folder, on the same file system as ``out``.
        out: Its place, with an older folder or nothing.

    Raises:
        OSError: If a folder cannot be renamed, or ``out`` is a file.
    """
    if not os.path.lexists(out):
        new.rename(out)
        return
    if not out.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "Not a directory", str(out))
    old = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.old")
    out.rename(old)
    try:
        new.rename(out)
    except BaseException:
        old.rename(out)
        raise
    if old.is_symlink():
        old.unlink()
    else:
        shutil.rmtree(old, ignore_errors=True)


def cache_folder() -> Path:
    """Where judges, prepared pictures and fetched models are kept.

    The folder that ``MIXNMATCH_CACHE`` names, or ~/.cache/mixnmatch.
    """
    root = os.environ.get("MIXNMATCH_CACHE")
    return Path(root) if root else Path.home() / ".cache" / "mixnmatch"


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
