"""What a data set says of itself: the file ``dataset.json``."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from mixnmatch.data.records import Reject
from mixnmatch.errors import DataError

FORMAT_VERSION = 2
INFO_NAME = "dataset.json"

Kind = Literal["cub", "dogs", "cars", "voc", "coco", "yolo", "csv", "folder", "factors"]
"""Layout that pictures were read from; "factors" are drawn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetInfo:
    """What ``dataset.json`` says of the whole data set."""

    format_version: int = FORMAT_VERSION
    """Version of the folder's layout."""
    kind: Kind
    """Layout that it was read from, or "factors" for drawn pictures."""
    count: int
    """Number of rows: pictures, or objects where each of a picture's is one."""
    fingerprint: str
    """SHA-256 over the rows' content, in hexadecimal; independent of shards."""
    splits: Mapping[str, int] | None = None
    """Number of rows of each split."""
    remarks: int = 0
    """Number of rows with a remark."""
    licence: str = "unknown"
    """Terms of the pictures."""
    factors: Mapping[str, int] | None = None
    """Number of categories of background, shape, texture and pose, where they are known."""
    labels: int | None = None
    """Number of classes, where pictures are labelled."""
    parts: Sequence[str] = ()
    """Names of the keypoints, by index."""
    source: str = ""
    """Folder or URL that it was made from."""
    command: str = ""
    """Command line that made it."""
    plan: str | None = None
    """Checksum of what was to be read and how, to know the same job again."""
    rejects: Sequence[Reject] = ()
    """What was left out."""
    duplicates: Sequence[Sequence[str]] = ()
    """Sources of pictures whose bytes are the same, a group each."""

    def to_json(self) -> str:
        """The text of ``dataset.json``."""
        table = asdict(self) | {"rejects": [reject._asdict() for reject in self.rejects]}
        return json.dumps(table, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, path: Path) -> "DatasetInfo":
        """Read ``dataset.json``.

        Args:
            text: Its content.
            path: Its name, for messages.

        Raises:
            DataError: If it is no JSON of this format, or of a newer version.
        """
        try:
            table = json.loads(text)
            version = table["format_version"]
            if version != FORMAT_VERSION:
                age = "a newer program wrote it" if version > FORMAT_VERSION else "make it again"
                raise DataError(
                    f"{path}: format_version is {version}; this program reads {FORMAT_VERSION}: "
                    f"{age}"
                )
            table["rejects"] = tuple(Reject(**item) for item in table["rejects"])
            table["parts"] = tuple(table["parts"])
            table["duplicates"] = tuple(tuple(group) for group in table["duplicates"])
            return cls(**{item.name: table[item.name] for item in fields(cls)})
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise DataError(f"{path}: not a data set description ({one_line(error)})") from error


def one_line(error: BaseException) -> str:
    """The message of an error that others raised, for the end of one of ours."""
    return " ".join(str(error).split())
