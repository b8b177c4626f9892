"""Which file an index means by a picture's name, and which split the folders of a path tell of."""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from mixnmatch.data.layouts.listing import files_below, split_of
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
        self._folder = folder
        self._paths = set(files_below(paths, folder))
        # All that end alike are together, however many have the same name.
        self._backwards = sorted(_backwards(f"/{path}") for path in self._paths)

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
            fitting = self._ending(tail)
            if len(fitting) > 1:
                more = " and others" if len(fitting) > _SHOWN else ""
                raise ValueError(f"may be any of {', '.join(fitting[:_SHOWN])}{more}")
            if fitting:
                return fitting[0]
        within = f", in {self._folder}" if self._folder else ""
        raise ValueError(f"no such file below the source{within}")

    def _ending(self, tail: str) -> list[str]:
        """Files that end like this; of many, one more than is shown."""
        end = _backwards(f"/{tail}")
        start = bisect_left(self._backwards, end)
        found = self._backwards[start : start + _SHOWN + 1]
        return sorted(_backwards(path)[1:] for path in found if path.startswith(end))


def named(paths: Iterable[str], name: str) -> str | None:
    """The first file of a name, in any folder."""
    return next((path for path in paths if path.rpartition("/")[2] == name), None)


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


def _backwards(path: str) -> str:
    """``b.jpg/a/`` for ``/a/b.jpg``, and the other way round."""
    return "/".join(reversed(path.split("/")))


def _tails(name: str) -> Iterator[str]:
    """Paths that a name may stand for, the longest first."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    ours = [part for part in parts if part.strip("/") and part != ".." and not part.endswith(":")]
    yield "/".join(ours)
    if len(ours) < len(parts):
        for start in range(1, len(ours)):
            yield "/".join(ours[start:])
