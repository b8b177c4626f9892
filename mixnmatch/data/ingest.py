"""From a plan to a data set folder, in this process or in several.

Finished shards lie in a folder beside the data set, under a hidden name (``.OUT.ingest``), until
all are there; then they get ``dataset.json`` and the folder is renamed. Whoever is killed on the
way goes on from there when the same job is run again. Where that never happens, the hidden folder
stays: another job for the same place empties it first, and it may be deleted by hand. Where the
source is at fault it is deleted at once, as only another job can succeed then.

At a URL there is no renaming: shards are written to their place, and what has no ``dataset.json``
is no data set.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mixnmatch.data.info import INFO_NAME, DatasetInfo
from mixnmatch.data.places import Place
from mixnmatch.data.plan import Plan
from mixnmatch.data.pool import make_in_pool, quietly
from mixnmatch.data.shards import is_shard_name, read_summary, shard_name
from mixnmatch.data.store import check_free, describe
from mixnmatch.errors import DataError, RunError
from mixnmatch.files import replace_folder

__all__ = ["PLAN_NAME", "Job", "Maker", "Progress", "check_apart", "ingest", "quietly"]

PLAN_NAME = "plan.txt"
"""Beside unfinished shards: the digest of their plan."""
Progress = Callable[[int], object]
"""Told of pictures that are done."""
Maker = Callable[[Plan, Place, Sequence[int]], Iterator[int]]
"""Makes shards of a plan in a place; gives the number of pictures of each one that is done."""


class Job:
    """One ingestion: what is left to do, and its end.

    Args:
        plan: What to read.
        out: Where the data set is to be.
        overwrite: Replace an existing data set.

    Raises:
        DataError: If ``out`` cannot be a data set's folder, or is that of a strict plan's source
            with pictures left out.
    """

    def __init__(self, plan: Plan, out: Place, *, overwrite: bool = False) -> None:
        if out.is_local and not out.path.name:
            raise DataError(f"{out.name}: must be a folder of its own")
        check_apart(plan.place, out)
        self.plan, self.out, self.overwrite = plan, out, overwrite
        self.finished = self._finished_before()
        """What the data set says of itself, where this job was done before."""
        self.work = out
        """Where the shards are written."""
        if out.is_local:
            self.work = Place(out.path.with_name(f".{out.path.name}.ingest"))

    @contextmanager
    def started(self) -> Iterator[Sequence[int]]:
        """Shards that are left to be made, while no other process may work at the same.

        Raises:
            DataError: If ``out`` is in the way or holds the source, or another process is at work.
        """
        with ExitStack() as stack:
            if self.out.is_local:
                self._check_local()
                self.work.path.mkdir(parents=True, exist_ok=True)
                stack.enter_context(_alone(self.work.path))
            else:
                self._check_url()
            try:
                yield self._begin()
            except DataError:
                if self.out.is_local:
                    shutil.rmtree(self.work.path, ignore_errors=True)
                raise

    def run(
        self,
        make: Maker,
        *,
        licence: str = "unknown",
        command: str = "",
        progress: Progress = lambda _: None,
    ) -> DatasetInfo:
        """All of it: what is left is made, and the data set put in its place.

        Args:
            make: Makes the shards, in any order.
            licence: Terms of the pictures.
            command: Command line, for the record.
            progress: Told of pictures that are done, those of an earlier run included.

        Raises:
            DataError: If ``out`` is in the way, or as ``finish``.
            RunError: As ``finish``.
        """
        count = len(self.plan.listing.entries)
        if self.finished is not None and self.finished.licence == licence:
            progress(count)
            return self.finished
        with self.started() as left:
            progress(count - sum(len(self.plan.shard_entries(shard)) for shard in left))
            for done in make(self.plan, self.work, left):
                progress(done)
            return self.finish(licence=licence, command=command)

    def finish(self, *, licence: str = "unknown", command: str = "") -> DatasetInfo:
        """Describe the shards and put the data set in its place.

        Raises:
            DataError: If no picture can be used, or two have the same id.
            RunError: If ``out`` or another process has come in the way meanwhile.
        """
        plan = self.plan
        info = describe(
            (pq.ParquetFile(self.work.open(shard_name(shard))) for shard in range(plan.shards)),
            kind=plan.listing.kind,
            licence=licence,
            labels=len(plan.listing.class_names) or None,
            parts=tuple(plan.listing.part_names),
            source=plan.place.name,
            command=command,
            plan=plan.digest,
        )
        if self._planned() != plan.digest:
            # Not a DataError, at which the work would be removed: it is the other's.
            raise RunError(f"{self.out.name}: another process is making another data set there")
        self.work.write(INFO_NAME, info.to_json().encode())
        self.work.remove(PLAN_NAME)
        if self.out.is_local:
            try:
                check_free(self.out.path, self.overwrite)
            except DataError as error:
                self.work.write(PLAN_NAME, plan.digest.encode())
                raise RunError(f"{error}; it came meanwhile, and the work is kept") from error
            replace_folder(self.work.path, self.out.path)
        return info

    def _finished_before(self) -> DatasetInfo | None:
        if not self.out.has(INFO_NAME):
            return None
        try:
            text = self.out.read(INFO_NAME).decode()
            info = DatasetInfo.from_json(text, Path(self.out.full(INFO_NAME)))
        except (DataError, UnicodeDecodeError):
            return None  # of another version, or damaged
        if info.plan != self.plan.digest:
            return None
        if self.plan.strict and info.rejects and not self.overwrite:
            raise DataError(
                f"{self.out.name}: exists already, made of the same pictures with "
                f"{len(info.rejects)} left out, which --strict does not allow: see {INFO_NAME}"
            )
        shards = range(self.plan.shards)
        return info if all(self._has_shard(self.out, shard) for shard in shards) else None

    def _begin(self) -> Sequence[int]:
        there = self.work.files() if self.work.is_folder() else {}
        same = PLAN_NAME in there and self._planned() == self.plan.digest
        if not self.out.is_local and INFO_NAME in there:
            same = False  # those are the shards of the data set that is to be replaced
        if not same:
            # What has a plan is ours to go on with, even if this ends half-way.
            self.work.write(PLAN_NAME, b"")
            for path in there:  # dataset.json is the first: the others are no data set without it
                if path == INFO_NAME or is_shard_name(path):
                    self.work.remove(path)
            self.work.write(PLAN_NAME, self.plan.digest.encode())
        if self.out.is_local:
            for part in self.work.path.glob(".*.partial"):  # of a writer that was killed
                part.unlink()
        shards = range(self.plan.shards)
        return [s for s in shards if not (same and self._has_shard(self.work, s, pages=True))]

    def _check_local(self) -> None:
        out, source = self.out, self.plan.place
        check_free(out.path, self.overwrite)
        if out.holds(source):
            raise DataError(f"{out.name}: holds the source {source.name}, so it is not replaced")

    def _check_url(self) -> None:
        there = self.out.files() if self.out.is_folder() else {}
        if INFO_NAME in there:
            if not self.overwrite:
                raise DataError(f"{self.out.name}: exists already (--overwrite replaces it)")
        elif there and PLAN_NAME not in there:
            raise DataError(f"{self.out.name}: exists and is not a data set, so it is not replaced")

    def _planned(self) -> str:
        return self.work.read(PLAN_NAME).decode(errors="replace")

    def _has_shard(self, place: Place, shard: int, *, pages: bool = False) -> bool:
        """Whether there is such a shard of this plan, by its footer and perhaps all its pages."""
        name = shard_name(shard)
        if not place.has(name):
            return False
        try:
            with (
                place.open(name) as file,
                pq.ParquetFile(file, page_checksum_verification=True) as parquet,
            ):
                summary = read_summary(parquet)
                for group in range(parquet.metadata.num_row_groups if pages else 0):
                    parquet.read_row_group(group)  # which compares checksums
        except (pa.ArrowException, OSError, ValueError):
            return False
        if self.plan.strict and summary.rejects:
            return False
        return self.plan.shard_ids(shard).issuperset(summary.ids)


def ingest(
    plan: Plan,
    out: Place,
    *,
    workers: int = 1,
    overwrite: bool = False,
    licence: str = "unknown",
    command: str = "",
    progress: Progress = lambda _: None,
) -> DatasetInfo:
    """Read a source into a data set; after a kill, the same call goes on where it was.

    Args:
        plan: What to read.
        out: Where the data set is to be.
        workers: Processes; the data set is the same for any number.
        overwrite: Replace an existing data set.
        licence: Terms of the pictures.
        command: Command line, for the record.
        progress: Told of pictures that are done, those of an earlier call included.

    Raises:
        DataError: If ``out`` is in the way, no picture can be used, or the plan is strict and one
            cannot.
        RunError: If a worker is killed.
    """
    job = Job(plan, out, overwrite=overwrite)
    make = partial(make_in_pool, workers=workers)
    return job.run(make, licence=licence, command=command, progress=progress)


def check_apart(source: Place, out: Place) -> None:
    """Refuse a place for a data set inside its own source.

    Raises:
        DataError: If its files would be read as the source's when the job is run again.
    """
    if source.holds(out):
        raise DataError(
            f"{out.name}: is the source {source.name} or inside it, and would be read with it the "
            "next time: it must be elsewhere"
        )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes of this machine from the same work.

    Raises:
        DataError: If one is at it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    # The folder itself is locked, so that no file is left behind.
    opened = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"{folder}: another process is making the same data set") from error
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(opened)
