"""Files below a local folder or below a URL that pyarrow or fsspec understands."""

import errno
import os
import stat
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import unquote

import pyarrow as pa
from pyarrow import fs

from mixnmatch.data.info import one_line
from mixnmatch.data.urls import open_url
from mixnmatch.errors import DataError, MixNMatchError, RunError
from mixnmatch.files import is_url

_OBJECT_STORES = ("s3", "gcs", "abfs")
_BLOCK_BYTES = 8 * 2**20
_ONE_PROCESS = "memory://"


class FileMark(NamedTuple):
    """What changes when a file does."""

    size: int
    """Bytes."""
    modified: int
    """Nanoseconds; 0 where a file system does not say."""


class Place:
    """A folder to read from or to write to. It need not exist, and can be sent to other processes.

    What goes wrong with a storage at a URL is a ``RunError`` that names it, so that nobody takes it
    for a damaged picture; a missing file is one as it is locally.

    Args:
        where: A path, or a URL such as ``s3://bucket/folder``; see ``urls``.

    Raises:
        DataError: If no file system of that kind is known, or the URL holds a password.
        RunError: If the storage cannot be reached.
    """

    def __init__(self, where: str | Path) -> None:
        if isinstance(where, str) and where.startswith("file://"):
            where = _local_path(where)
        self.name = str(where)
        """As it was given but for a URL's options, for messages."""
        self.is_local = not is_url(where)
        if self.is_local:
            self._system: fs.FileSystem = fs.LocalFileSystem()
            self._base = str(Path(where).absolute())
        else:
            self._system, self._base, self.name = open_url(str(where))

    def __getstate__(self) -> dict[str, Any]:
        if self.name.startswith(_ONE_PROCESS):
            raise DataError(
                f"{self.name}: no other process sees it: take one worker, or another place"
            )
        return self.__dict__

    @property
    def is_store(self) -> bool:
        """Whether it is in an object store: slow to answer, but it answers many threads at once."""
        return self._system.type_name in _OBJECT_STORES

    @property
    def path(self) -> Path:
        """The local folder."""
        if not self.is_local:
            raise DataError(f"{self.name}: must be a local folder")
        return Path(self._base)

    def full(self, path: str) -> str:
        """The name of a file below it, for messages."""
        return f"{self.name.rstrip('/')}/{path}"

    def holds(self, other: "Place") -> bool:
        """Whether another place is this one or lies below it."""
        if self.is_local and other.is_local:
            return other.path.resolve().is_relative_to(self.path.resolve())
        same = self._system == other._system
        return same and f"{other._base}/".startswith(f"{self._base}/")

    def is_folder(self) -> bool:
        """Whether there is such a folder."""
        return bool(self._info("").type == fs.FileType.Directory)

    def has(self, path: str) -> bool:
        """Whether there is such a file."""
        return bool(self._info(path).type == fs.FileType.File)

    def files(self) -> Mapping[str, FileMark]:
        """All files below it, by their path with forward slashes, in ascending order.

        Hidden files, and what is in hidden folders, are left out. Local links are followed, but
        not to a folder that the link itself lies in.

        Raises:
            DataError: If a name is not UTF-8.
            OSError: If a folder cannot be read.
            RunError: If the storage fails.
        """
        return dict(sorted(self._local_files() if self.is_local else self._stored_files()))

    def read(self, path: str) -> bytes:
        """The content of a file.

        Args:
            path: Below it, with forward slashes.

        Raises:
            DataError: If the path leads outside, or there is no such file.
            OSError: If it cannot be read for another reason.
            RunError: If the storage fails.
        """
        relative = PurePosixPath(path)
        if relative.is_absolute() or ".." in relative.parts or "\0" in path:
            raise DataError(f"{path}: a file's path must stay inside {self.name}")
        if self.is_local and not self.has(path):  # a folder or a pipe
            raise DataError(f"{self.full(path)}: no such file")
        with self._failures(path), self.open(path) as file:
            return bytes(file.read())

    def blocks(self, path: str) -> Iterator[bytes]:
        """The content of a file, a few megabytes at a time; otherwise as ``read``."""
        with self._failures(path), self.open(path) as file:
            while block := file.read(_BLOCK_BYTES):
                yield block

    def write(self, path: str, content: bytes) -> None:
        """Write a file; it appears whole or not at all.

        Raises:
            DataError: If there is no such bucket.
            OSError: If it cannot be written.
            RunError: If the storage fails.
        """
        if self.is_local:
            target = Path(self._at(path))
            target.parent.mkdir(parents=True, exist_ok=True)
            # A name of its own: of two writers of the same file, none sees half of the other's.
            partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
            try:
                partial.write_bytes(content)
                partial.replace(target)
            finally:
                partial.unlink(missing_ok=True)
            return
        # Object stores show an object once all of it has arrived.
        target_name = self._at(path)
        with self._failures(path):
            if not self.is_store:
                self._system.create_dir(target_name.rpartition("/")[0], recursive=True)
            with self._system.open_output_stream(target_name) as file:
                file.write(content)

    def open(self, path: str) -> pa.NativeFile:
        """A file for random reads.

        Raises:
            DataError: If there is no such file.
            OSError: If it cannot be read for another reason.
            RunError: If the storage fails.
        """
        try:
            with self._failures(path):
                return self._system.open_input_file(self._at(path))
        except FileNotFoundError as error:
            raise DataError(f"{self.full(path)}: no such file") from error

    def move(self, path: str, to: str) -> None:
        """Give a file another name, in the place of a file that has it already."""
        with self._failures(path):
            self._system.move(self._at(path), self._at(to))

    def remove(self, path: str) -> None:
        """Remove a file."""
        with self._failures(path):
            self._system.delete_file(self._at(path))

    def _local_files(self) -> Iterator[tuple[str, FileMark]]:
        folders: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
        while folders:
            below, above = folders.pop()
            folder = self.path / below
            status = folder.stat()
            itself = (status.st_dev, status.st_ino)
            if itself in above:
                continue  # by a link, which leads round in a circle
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    path = f"{below}{entry.name}"
                    try:
                        path.encode()
                        status = entry.stat()
                    except UnicodeEncodeError as error:
                        raise DataError(
                            f"{self.name}: a file's name is not UTF-8 ({os.fsencode(path)!r}): "
                            "rename it"
                        ) from error
                    except OSError as error:
                        if error.errno in (errno.ENOENT, errno.ELOOP):
                            continue  # a link to nothing, or to itself
                        raise
                    if stat.S_ISREG(status.st_mode):
                        yield path, FileMark(status.st_size, status.st_mtime_ns)
                    elif stat.S_ISDIR(status.st_mode):
                        folders.append((f"{path}/", above | {itself}))

    def _stored_files(self) -> Iterator[tuple[str, FileMark]]:
        with self._failures():
            infos = self._system.get_file_info(fs.FileSelector(self._base, recursive=True))
        for info in infos:
            path = info.path.strip("/")[len(self._base.strip("/")) :].lstrip("/")
            if info.type == fs.FileType.File and not f"/{path}".count("/."):
                yield path, FileMark(info.size or 0, info.mtime_ns or 0)

    def _info(self, path: str) -> fs.FileInfo:
        with self._failures(path):
            return self._system.get_file_info(self._at(path))

    def _at(self, path: str) -> str:
        return f"{self._base}/{path}" if path else self._base

    @contextmanager
    def _failures(self, path: str = "") -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, MixNMatchError):
            raise
        except Exception as error:  # fsspec's systems raise what they like
            if self.is_local:
                raise
            if "NO_SUCH_BUCKET" in str(error):
                raise DataError(f"{self.name}: no such bucket") from error
            name = self.full(path) if path else self.name
            raise RunError(f"{name}: the storage failed ({one_line(error)})") from error


def _local_path(url: str) -> Path:
    host, slash, path = url.removeprefix("file://").partition("/")
    if host not in ("", "localhost") or not slash:
        raise DataError(f"{url}: must be a path of this machine, as in file:///folder")
    return Path("/" + unquote(path))
