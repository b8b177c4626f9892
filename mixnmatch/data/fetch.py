"""A data set at a URL: its shards are fetched once and then opened like any local folder.

They are kept in the cache, ``datasets/KEY``, where KEY stands for the content of ``dataset.json``.
That file is written last, so a fetch that is cut off leaves no data set and goes on from the shards
that are there. Nothing is deleted by itself: remove the folder ``datasets`` to free the space.
"""

import hashlib
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from mixnmatch.data.info import INFO_NAME, DatasetInfo, one_line
from mixnmatch.data.places import Place
from mixnmatch.data.shards import fingerprint_of, is_shard_name, read_summary
from mixnmatch.errors import DataError, RunError
from mixnmatch.files import cache_folder


def local_copy(place: Place) -> Path:
    """The folder of a data set on this machine; one that is elsewhere is fetched, once.

    Args:
        place: Where the data set is.

    Raises:
        DataError: If there is no data set, or it is damaged.
        RunError: If the storage fails, the data set is replaced meanwhile, or there is no room.
    """
    if place.is_local:
        return place.path
    text = _read_info(place)
    info = DatasetInfo.from_json(text.decode(errors="replace"), Path(place.full(INFO_NAME)))
    folder = cache_folder() / "datasets" / hashlib.sha256(text).hexdigest()[:32]
    if (folder / INFO_NAME).is_file():
        return folder
    sizes = {name: mark.size for name, mark in place.files().items() if is_shard_name(name)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _fetch(place, sizes, folder)
        if _read_info(place) != text:
            raise RunError(f"{place.name}: was replaced while it was fetched: try again")
        _check(place, info, [folder / name for name in sizes])
        Place(folder).write(INFO_NAME, text)
    except OSError as error:
        raise RunError(
            f"{folder}: {place.name} cannot be kept there ({error.strerror or one_line(error)}): "
            "set MIXNMATCH_CACHE to a folder with room"
        ) from error
    return folder


def _read_info(place: Place) -> bytes:
    if not place.has(INFO_NAME):
        raise DataError(f"{place.name}: not a data set, there is no {INFO_NAME}")
    return place.read(INFO_NAME)


def _fetch(place: Place, sizes: Mapping[str, int], folder: Path) -> None:
    """Copy files that are not there yet, each of which appears whole."""
    total = sum(sizes.values())
    print(f"fetching {place.name} ({total / 1e6:.1f} MB) into {folder}", file=sys.stderr)
    # None: only where stderr is a terminal.
    with tqdm(total=total, unit="B", unit_scale=True, disable=None) as bar:
        for name, size in sizes.items():
            target = folder / name
            if not (target.is_file() and target.stat().st_size == size):
                partial = folder / f".{name}.{uuid.uuid4().hex[:8]}"
                try:
                    with partial.open("wb") as file:
                        for block in place.blocks(name):
                            file.write(block)
                    partial.replace(target)
                finally:
                    partial.unlink(missing_ok=True)
            bar.update(size)


def _check(place: Place, info: DatasetInfo, shards: list[Path]) -> None:
    """Refuse, and remove, shards that are not all those of the data set.

    Pages have checksums of their own, which are verified when they are read.
    """
    try:
        summaries = []
        for path in shards:
            with pq.ParquetFile(path) as shard:
                summaries.append(read_summary(shard))
        fault = None
        if fingerprint_of(summaries) != info.fingerprint:
            fault = f"its {len(shards)} shards are not those that {INFO_NAME} tells of"
    except (pa.ArrowException, OSError, ValueError) as error:
        fault = f"damaged or truncated ({one_line(error)})"
    if fault is not None:
        for path in shards:
            path.unlink(missing_ok=True)
        raise DataError(f"{place.name}: {fault}")
