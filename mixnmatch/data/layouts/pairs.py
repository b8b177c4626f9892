"""Which picture an annotation file of its own speaks of, where names and folders disagree."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath

from mixnmatch.data.layouts.listing import PICTURE_SUFFIXES

Where = tuple[str, ...]
"""Folders of a file, less those that only tell pictures from annotations."""
_ROLES = {"annotations", "annotation", "xml", "xmls", "labels", "jpegimages", "images", "image"}


def where(path: str) -> Where:
    """``train/images/a.jpg`` and ``train/annotations/a.xml`` are at the same place."""
    return tuple(part for part in PurePosixPath(path).parts[:-1] if part.lower() not in _ROLES)


def pictures_below(files: Iterable[str], folder: str | None) -> list[str]:
    """Those of the files that are pictures.

    Args:
        files: Paths.
        folder: Where they must be; anywhere by default.
    """
    below = f"{folder.strip('/')}/" if folder and folder.strip("/") else ""
    return [
        path for path in files if path.startswith(below) and path.lower().endswith(PICTURE_SUFFIXES)
    ]


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
    index = _Index(pictures)
    order = sorted(named, key=lambda path: (not named[path], _stem(named[path]) != _stem(path)))
    found: dict[str, str] = {}
    problems: dict[str, str] = {}
    owners: dict[str, str] = {}
    for near in (True, False):
        for path in order:
            if path in found:
                continue
            problem = f"its picture {named[path] or _stem(path)!r} is not there"
            for picks in index.candidates(named[path], path, near):
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
    def __init__(self, pictures: Iterable[str]) -> None:
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for path in pictures:
            self._by_name[PurePosixPath(path).name.lower()].append(path)
            self._by_stem[_stem(path)].append(path)

    def candidates(self, name: str, path: str, near: bool) -> Iterator[list[str]]:
        """Pictures that may be meant, the likeliest first; more than one where it cannot be told.

        Args:
            name: That the annotation gives.
            path: Of the annotation.
            near: Only those at the same place.
        """
        base = _base(name)
        for table, key in (
            (self._by_name, base),
            (self._by_stem, base),  # a name without a suffix
            (self._by_stem, _stem(name)),
            (self._by_stem, _stem(path)),
        ):
            picks = table.get(key, [])
            beside = [pick for pick in picks if _folder(pick) == _folder(path)]
            if near:
                picks = beside or [pick for pick in picks if where(pick) == where(path)]
            if picks:
                yield picks


def _base(name: str) -> str:
    """File name without folders, which may be of Windows."""
    return name.replace("\\", "/").rpartition("/")[2].lower()


def _stem(name: str) -> str:
    return PurePosixPath(_base(name)).stem


def _folder(path: str) -> str:
    return path.rpartition("/")[0]
