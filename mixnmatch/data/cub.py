"""Reading the layout of CUB-200-2011: text files joined by picture id, and a folder of pictures."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from mixnmatch.data.pictures import check_box, decode_picture
from mixnmatch.data.records import Box, Record, Reject, Split
from mixnmatch.errors import DataError

OnReject = Callable[[Reject], None]


class CubIndex(NamedTuple):
    """The text files of a CUB folder, each by picture id except ``class_names``."""

    root: Path
    """The folder."""
    paths: Mapping[int, str]
    """Picture files below ``images/``."""
    boxes: Mapping[int, str]
    """Lines of ``bounding_boxes.txt`` after the id."""
    labels: Mapping[int, int]
    """Class index from 0; empty where classes are not given."""
    class_names: tuple[str, ...]
    """By class index."""
    splits: Mapping[int, Split]
    """Pictures that are not in it are for training."""


def read_index(root: Path | str) -> CubIndex:
    """Read the text files of a CUB folder.

    Classes are numbered from 0 in the order of their ids, because subsets have gaps.

    Raises:
        DataError: If the folder, ``images.txt`` or ``bounding_boxes.txt`` is missing, or a line
            of any file cannot be understood.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(
            f"{root}: no such folder; it must hold images.txt, bounding_boxes.txt and images/"
        )
    paths = _read_table(root / "images.txt")
    boxes = _read_table(root / "bounding_boxes.txt")
    class_ids = _read_integers(root / "image_class_labels.txt")
    names = _read_table(root / "classes.txt", optional=True)
    order = sorted(names.keys() | set(class_ids.values()))
    position = {class_id: index for index, class_id in enumerate(order)}
    splits: dict[int, Split] = {
        key: "train" if flag else "test"
        for key, flag in _read_integers(root / "train_test_split.txt").items()
    }
    return CubIndex(
        root=root,
        paths=paths,
        boxes=boxes,
        labels={key: position[class_id] for key, class_id in class_ids.items()},
        class_names=tuple(names.get(class_id, str(class_id)) for class_id in order),
        splits=splits,
    )


def read_cub(source: Path | str | CubIndex, on_reject: OnReject | None = None) -> Iterator[Record]:
    """Read the pictures of a CUB folder in the order of ``images.txt``; their bytes are kept.

    Args:
        source: The folder, or its index.
        on_reject: Told of each bad picture, which is then left out; without it a bad one raises.

    Raises:
        DataError: As ``read_index``; and, without ``on_reject``, for a picture that is missing or
            corrupt, or whose box is missing, degenerate or outside.
    """
    index = source if isinstance(source, CubIndex) else read_index(source)
    return _records(index, on_reject)


def _records(index: CubIndex, on_reject: OnReject | None) -> Iterator[Record]:
    for picture_id, path in index.paths.items():
        try:
            record = _read_record(index, picture_id, path)
        except DataError as error:
            if on_reject is None:
                raise
            on_reject(Reject(path, str(error)))
        else:
            yield record


def _read_record(index: CubIndex, picture_id: int, path: str) -> Record:
    if picture_id not in index.boxes:
        raise DataError(f"{path}: bounding_boxes.txt has no box for its id {picture_id}")
    relative = PurePosixPath(path)
    if relative.is_absolute() or ".." in relative.parts:
        raise DataError(f"{path}: a picture's path must stay inside images/")
    file = index.root / "images" / relative
    try:
        data = file.read_bytes()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise DataError(f"{file}: picture {picture_id} is missing") from error
    image = decode_picture(data, str(file))
    label = index.labels.get(picture_id)
    return Record(
        id=picture_id,
        source=path,
        image=data,
        width=image.width,
        height=image.height,
        box=check_box(_parse_box(index.boxes[picture_id], path), *image.size, str(file)),
        label=label,
        class_name=None if label is None else index.class_names[label],
        split=index.splits.get(picture_id, "train"),
    )


def _parse_box(text: str, path: str) -> Box:
    try:
        x, y, width, height = map(float, text.split())
    except ValueError as error:
        raise DataError(f"{path}: box {text!r} is not four numbers: x y width height") from error
    return Box(x, y, width, height)


def _read_table(file: Path, *, optional: bool = False) -> dict[int, str]:
    if not file.is_file():
        if optional:
            return {}
        raise DataError(f"{file}: missing; the CUB layout needs it")
    table: dict[int, str] = {}
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 text ({error})") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        key, _, value = line.strip().partition(" ")
        if not key.isdecimal() or not value.strip():
            raise DataError(f"{file}:{number}: {line!r} is not an id and a value")
        if int(key) in table:
            raise DataError(f"{file}:{number}: id {key} is there twice")
        table[int(key)] = value.strip()
    return table


def _read_integers(file: Path) -> dict[int, int]:
    table = _read_table(file, optional=True)
    try:
        return {key: int(value) for key, value in table.items()}
    except ValueError as error:
        raise DataError(f"{file}: values must be whole numbers ({error})") from error
