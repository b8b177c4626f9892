"""Which file an index means by a picture's name, and which split the folders of a path tell of."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from mixnmatch.data.layouts.listing import split_of
from mixnmatch.data.records import Split

_WORD = re.compile("[a-z]+")
_SHOWN = 3


class Lookup:
    """Finds files by names as people write them: with folders, without, or of another machine.

    Args:
        paths: Of all files.
        folder: Where pictures must be; anywhere by default.
    """

    def __init__(self, paths: Iterable[str], folder: str | None = None) -> None:
        self._folder = None if folder is None else folder.strip("/")
        below = f"{self._folder}/" if self._folder else ""
        self._paths = {path for path in paths if path.startswith(below)}
        self._by_name: dict[str, list[str]] = defaultdict(list)
        for path in sorted(self._paths):
            self._by_name[path.rpartition("/")[2]].append(path)

    def find(self, name: str, folders: Iterable[str]) -> str:
        """The file that is meant.

        It is looked for in the given folders, in their order, and then anywhere, where it must be
        the only one. Of an absolute path, which is another machine's, leading folders are dropped
        until the rest fits.

        Args:
            name: A path or the end of one, with slashes of either kind.
            folders: To look in first, below the source; "" is the source itself.

        Raises:
            ValueError: If there is no such file, or several fit.
        """
        where = list(folders) if self._folder is None else [self._folder]
        for tail in _tails(name):
            for folder in where:
                path = f"{folder}/{tail}" if folder else tail
                if path in self._paths:
                    return path
            fitting = [
                path
                for path in self._by_name.get(tail.rpartition("/")[2], ())
                if path == tail or path.endswith(f"/{tail}")
            ]
            if len(fitting) > 1:
                more = " and others" if len(fitting) > _SHOWN else ""
                raise ValueError(f"may be any of {', '.join(fitting[:_SHOWN])}{more}")
            if fitting:
                return fitting[0]
        raise ValueError("no such file below the source" + self._where())

    def _where(self) -> str:
        return f", in {self._folder}" if self._folder else ""


def split_within(path: str) -> Split | None:
    """The split that the innermost folder with a word such as "train" or "val" in its name tells.

    Args:
        path: Of folders only, such as ``images/train2017``.
    """
    for part in reversed(PurePosixPath(path).parts):
        for word in _WORD.findall(part.lower()):
            if (split := split_of(word)) is not None:
                return split
    return None


def _tails(name: str) -> Iterator[str]:
    """Paths that a name may stand for, the longest first."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    ours = [part for part in parts if part.strip("/") and part != ".." and not part.endswith(":")]
    yield "/".join(ours)
    if len(ours) < len(parts):
        for start in range(1, len(ours)):
            yield "/".join(ours[start:])
