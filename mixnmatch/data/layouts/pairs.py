"""Which picture an annotation file of its own speaks of, where names and folders disagree."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath

from mixnmatch.data.layouts.listing import Entry

Where = tuple[str, ...]
"""Folders of a file, less those that only tell pictures from annotations."""
_Key = tuple[Where | None, str]
_ROLES = {"annotations", "annotation", "xml", "xmls", "labels", "jpegimages", "images", "image"}


def where(path: str) -> Where:
    """``train/images/a.jpg`` and ``train/annotations/a.xml`` are at the same place."""
    return tuple(part for part in PurePosixPath(path).parts[:-1] if part.lower() not in _ROLES)


def folder_of(path: str) -> str:
    """Of a file; empty where it is in none."""
    return path.rpartition("/")[0]


def without_annotation(pictures: Iterable[str], used: Iterable[str], what: str) -> list[str]:
    """A note of the pictures that nothing is known of.

    Args:
        pictures: That are there.
        used: That are annotated.
        what: Is missing for the others.
    """
    left = sorted(set(pictures).difference(used))
    if not left:
        return []
    return [f"pictures without {what}, left out: {len(left)}, such as {left[0]}"]


def not_listed(entries: Iterable[Entry], what: str) -> list[str]:
    """A note of the pictures that no list of a split has, where there are such lists.

    Args:
        entries: Of all pictures.
        what: Which lists do not have them.
    """
    free = [entry.path for entry in entries if entry.split is None and not entry.problem]
    if not free:
        return []
    return [f"pictures in {what}, taken for training: {len(free)}, such as {free[0]}"]


def pair(
    named: Mapping[str, str], pictures: Iterable[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Find the picture of each annotation file; none is given to two of them.

    Pictures near their annotation go before those in other folders, annotations that are called
    like the picture they name before others, and the name that an annotation gives goes before
    its own.

    Args:
        named: The file name of its picture that each annotation gives, by the annotation's path.
        pictures: Paths of the pictures.

    Returns:
        The picture, or why there is none, by the annotation's path.
    """
    pictures = list(pictures)
    order = sorted(named, key=lambda path: (not named[path], _stem(named[path]) != _stem(path)))
    found: dict[str, str] = {}
    problems: dict[str, str] = {}
    owners: dict[str, str] = {}
    for near in (True, False):
        left = [path for path in order if path not in found]
        index = _Index(pictures if left else (), near)
        for path in left:
            problem = f"its picture {named[path] or _stem(path)!r} is not there"
            for picks in index.candidates(named[path], path):
                if len(picks) > 1:
                    problem = f"its picture may be {' or '.join(picks[:3])}: rename one of them"
                    break
                if picks[0] not in owners:
                    found[path], owners[picks[0]] = picks[0], path
                    break
                problem = f"{picks[0]}, its picture, is annotated by {owners[picks[0]]}, too"
            problems[path] = problem
    return found, {path: problem for path, problem in problems.items() if path not in found}


class _Index:
    """Pictures by name and, where ``near``, by place: thousands of one name cost no search.

    Args:
        pictures: Paths.
        near: Whether only those at the same place as their annotation are meant.
    """

    def __init__(self, pictures: Iterable[str], near: bool) -> None:
        self._near = near
        self._by_name: dict[_Key, list[str]] = defaultdict(list)
        self._by_stem: dict[_Key, list[str]] = defaultdict(list)
        for path in pictures:
            at = self._place(path)
            self._by_name[at, PurePosixPath(path).name.lower()].append(path)
            self._by_stem[at, _stem(path)].append(path)

    def candidates(self, name: str, path: str) -> Iterator[list[str]]:
        """Pictures that may be meant, the likeliest first; more than one where it cannot be told.

        Args:
            name: That the annotation gives.
            path: Of the annotation.
        """
        base, at = _base(name), self._place(path)
        for table, key in (
            (self._by_name, base),
            (self._by_stem, base),  # a name without a suffix
            (self._by_stem, _stem(name)),
            (self._by_stem, _stem(path)),
        ):
            picks = table.get((at, key), [])
            if self._near:
                folder = folder_of(path)
                picks = [pick for pick in picks if folder_of(pick) == folder] or picks
            if picks:
                yield picks

    def _place(self, path: str) -> Where | None:
        return where(path) if self._near else None


def _base(name: str) -> str:
    """File name without folders, which may be of Windows."""
    return name.replace("\\", "/").rpartition("/")[2].lower()


def _stem(name: str) -> str:
    return PurePosixPath(_base(name)).stem
