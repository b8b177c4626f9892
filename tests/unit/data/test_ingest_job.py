"""From a plan to a folder: the same bytes whoever makes them, whatever happens on the way."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from made_data import MakeCub, encoded, plan_of

from mixnmatch.data import ingest as ingests
from mixnmatch.data.info import INFO_NAME
from mixnmatch.data.ingest import PLAN_NAME, Job, ingest
from mixnmatch.data.places import Place
from mixnmatch.data.pool import make_in_pool
from mixnmatch.data.shards import shard_name, write_shard
from mixnmatch.data.store import open_dataset
from mixnmatch.errors import DataError, RunError

PICTURES = 600  # three shards

# Waits in the second shard until a file "go" is there, and leaves its process's number. Worker
# processes import the script, too.
WAITING = """
import os, pathlib, signal, sys, time
from mixnmatch import cli
from mixnmatch.data import pool

make = pool.make_shard
here = pathlib.Path(__file__).parent

def make_slowly(plan, out, shard):
    if shard == 1:
        (here / "pid.partial").write_text(str(os.getpid()))
        (here / "pid.partial").rename(here / "pid")
        while not (here / "go").exists():
            time.sleep(0.005)
    return make(plan, out, shard)

pool.make_shard = make_slowly
if __name__ == "__main__":
    # A shell gives what it runs in the background no interrupts, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(cli.main(["data", "ingest", *sys.argv[1:]]))
"""


def fill(root: Path, count: int) -> Path:
    """A CUB folder of small pictures, each of other bytes; numbers 7 and 300 are none."""
    picture = encoded(16, 12)
    images, boxes = [], []
    (root / "images").mkdir(parents=True)
    for number in range(count):
        content = b"no picture" if number in (7, 300) else picture + number.to_bytes(4, "big")
        (root / "images" / f"{number}.jpg").write_bytes(content)
        images.append(f"{number + 1} {number}.jpg\n")
        boxes.append(f"{number + 1} 1 2 {3 + number % 7} 4\n")
    (root / "images.txt").write_text("".join(images))
    (root / "bounding_boxes.txt").write_text("".join(boxes))
    return root


def files_of(folder: Path, *, but: str | None = None) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != but}


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("source") / "birds", PICTURES)


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same pictures, read at one go by one process."""
    out = tmp_path_factory.mktemp("undisturbed") / "set"
    info = ingest(plan_of(source), Place(out))
    assert (info.count, len(info.rejects)) == (PICTURES - 2, 2)
    assert left_in(out) == [INFO_NAME, *map(shard_name, range(3))]
    return out


class Run:
    """A process that has begun to read, and waits."""

    def __init__(self, folder: Path, source: Path, *options: str) -> None:
        self.out = folder / "set"
        self.work = folder / ".set.ingest"
        self.folder = folder
        script = folder / "waiting.py"
        script.write_text(WAITING)
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(source), str(self.out), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.wait(lambda: (self.work / shard_name(0)).exists() and (folder / "pid").exists())
        self.waiting = int((folder / "pid").read_text())

    def wait(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < end, "waited for a minute"
            time.sleep(0.005)

    def goes_on(self) -> None:
        (self.folder / "go").touch()

    def ended(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err

    def kill(self) -> None:
        for number in (self.process.pid, self.waiting):
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        self.process.wait(timeout=60)


def is_running(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.fixture
def start(tmp_path: Path, source: Path) -> Iterator[Callable[..., Run]]:
    runs = []

    def begin(*options: str) -> Run:
        runs.append(Run(tmp_path, source, *options))
        return runs[-1]

    yield begin
    for run in runs:
        run.kill()


def end_as_undisturbed(run: Run, source: Path, undisturbed: Path) -> None:
    """What is left of a run: nothing that looks like a data set, and enough to go on from."""
    assert not run.out.exists()
    with pytest.raises(DataError, match=r"no dataset\.json"):
        open_dataset(run.work)
    before = (run.work / shard_name(0)).stat().st_mtime_ns
    info = ingest(plan_of(source), Place(run.out))
    assert (run.out / shard_name(0)).stat().st_mtime_ns == before, "the first shard is kept"
    assert files_of(run.out) == files_of(undisturbed)
    assert open_dataset(run.out).info == info
    assert not run.work.exists()


def test_a_killed_ingestion_goes_on_to_the_same_bytes(
    start: Callable[..., Run], source: Path, undisturbed: Path
) -> None:
    run = start("--workers", "1")
    with pytest.raises(DataError, match="another process is making the same data set"):
        ingest(plan_of(source), Place(run.out))
    run.process.send_signal(signal.SIGKILL)
    assert run.ended()[0] == -signal.SIGKILL
    end_as_undisturbed(run, source, undisturbed)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_end_with_the_process_that_started_them(
    start: Callable[..., Run], source: Path, undisturbed: Path
) -> None:
    run = start("--workers", "2")
    assert run.waiting != run.process.pid
    run.process.send_signal(signal.SIGKILL)
    run.process.wait(timeout=60)
    run.wait(lambda: not is_running(run.waiting))
    end_as_undisturbed(run, source, undisturbed)


def test_a_killed_worker_ends_in_one_line(
    start: Callable[..., Run], source: Path, undisturbed: Path
) -> None:
    run = start("--workers", "2")
    os.kill(run.waiting, signal.SIGKILL)
    status, _, err = run.ended()
    assert status == 1
    assert err.splitlines()[1:] == [
        "mixnmatch: error: a worker process was killed, perhaps for want of memory: run the same "
        "command again, with fewer --workers, to go on"
    ]
    end_as_undisturbed(run, source, undisturbed)


def test_an_interrupt_ends_in_one_line(
    start: Callable[..., Run], source: Path, undisturbed: Path
) -> None:
    run = start("--workers", "2")
    os.killpg(run.process.pid, signal.SIGINT)  # as a terminal does
    run.goes_on()
    status, _, err = run.ended()
    assert (status, err.splitlines()[1:]) == (130, ["mixnmatch: error: interrupted"])
    end_as_undisturbed(run, source, undisturbed)


def test_two_workers_write_the_same_bytes(source: Path, undisturbed: Path, tmp_path: Path) -> None:
    told: list[int] = []
    plan = plan_of(source)
    info = ingest(plan, Place(tmp_path / "set"), workers=2, progress=told.append)
    assert files_of(tmp_path / "set") == files_of(undisturbed)
    assert [reject.source for reject in info.rejects] == ["images/7.jpg", "images/300.jpg"]
    assert (told[0], sum(told)) == (0, PICTURES)
    assert left_in(tmp_path) == ["set"]


# In one process


@pytest.fixture
def job(source: Path, undisturbed: Path, tmp_path: Path) -> SimpleNamespace:
    """A job of which the first two of three shards are done."""
    plan, out, work = plan_of(source), Place(tmp_path / "set"), tmp_path / ".set.ingest"
    assert left_of(plan, out) == [0, 1, 2]
    for shard in range(2):
        shutil.copy(undisturbed / shard_name(shard), work)
    return SimpleNamespace(plan=plan, out=out, work=work)


def left_of(plan: object, out: Place) -> list[int]:
    with Job(plan, out).started() as left:  # type: ignore[arg-type]
        return list(left)


def test_what_is_done_is_not_done_again(job: SimpleNamespace, undisturbed: Path) -> None:
    told: list[int] = []
    assert left_of(job.plan, job.out) == [2]
    ingest(job.plan, job.out, progress=told.append)
    assert told == [512, PICTURES - 512]
    assert files_of(job.out.path) == files_of(undisturbed)


def test_damaged_shards_are_made_again(job: SimpleNamespace, undisturbed: Path) -> None:
    shard = job.work / shard_name(1)
    whole = shard.read_bytes()
    for damaged in (
        b"",
        whole[:-1],
        whole[:4096],
        b"PAR1" + bytes(100) + b"PAR1",
        whole[:3000] + b"\0\0\0\0" + whole[3004:],  # a page, not the footer
    ):
        shard.write_bytes(damaged)
        assert left_of(job.plan, job.out) == [1, 2]
    (job.work / f".{shard_name(1)}.1234.partial").write_bytes(b"half a shard")
    ingest(job.plan, job.out)
    assert files_of(job.out.path) == files_of(undisturbed)


def test_foreign_shards_are_made_again(job: SimpleNamespace, undisturbed: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": [1]}), job.work / shard_name(0))
    others = [replace(record, id=record.id + 10**6) for record in open_dataset(undisturbed)]
    write_shard(others[:9], str(job.work / shard_name(1)))
    assert left_of(job.plan, job.out) == [0, 1, 2]
    ingest(job.plan, job.out)
    assert files_of(job.out.path) == files_of(undisturbed)


def test_another_job_begins_anew(job: SimpleNamespace, source: Path) -> None:
    assert left_of(plan_of(source, objects="each"), job.out) == [0, 1, 2]
    assert left_in(job.work) == [PLAN_NAME], "what was done is of no use"


def test_a_changed_picture_begins_anew(tmp_path: Path) -> None:
    root = fill(tmp_path / "birds", 300)
    out = Place(tmp_path / "set")
    with Job(plan_of(root), out).started():
        list(make_in_pool(plan_of(root), Place(tmp_path / ".set.ingest"), [0], workers=1))
    assert left_of(plan_of(root), out) == [1]
    (root / "images/9.jpg").write_bytes(encoded(20, 20))
    first = ingest(plan_of(root), out)
    assert open_dataset(out.path)[8].width == 20, "number 7 is left out"
    (root / "images/9.jpg").unlink()
    with pytest.raises(DataError, match="exists already"):
        ingest(plan_of(root), out)
    assert ingest(plan_of(root), out, overwrite=True).fingerprint != first.fingerprint
    assert left_in(tmp_path) == ["birds", "set"]


def test_a_job_done_before_is_left_as_it_is(undisturbed: Path, source: Path) -> None:
    def state() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in undisturbed.iterdir()}

    before, told = state(), list[int]()
    again = ingest(plan_of(source), Place(undisturbed), overwrite=True, progress=told.append)
    assert again == open_dataset(undisturbed).info
    assert (state(), told, left_in(undisturbed.parent)) == (before, [PICTURES], ["set"])


def test_a_damaged_data_set_is_not_taken_for_done(job: SimpleNamespace) -> None:
    first = ingest(job.plan, job.out)
    shard = job.out.path / shard_name(1)
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(DataError, match="exists already"):
        ingest(job.plan, job.out)
    assert ingest(job.plan, job.out, overwrite=True) == first
    assert len(open_dataset(job.out.path)) == first.count


def test_a_strict_job_takes_nothing_that_left_pictures_out(job: SimpleNamespace) -> None:
    strict = replace(job.plan, strict=True)
    with pytest.raises(DataError, match=r"images/7\.jpg: not a picture"):
        ingest(strict, job.out)
    assert not job.out.path.exists()
    assert not job.work.exists(), "only another source can be read now"
    ingest(job.plan, job.out)
    said = (
        r"exists already, made of the same pictures with 2 left out, which --strict does not allow"
    )
    with pytest.raises(DataError, match=said):
        ingest(strict, job.out)
    with pytest.raises(DataError, match=r"images/7\.jpg: not a picture"):
        ingest(strict, job.out, overwrite=True)
    assert open_dataset(job.out.path).info.count == PICTURES - 2


def test_a_source_without_a_usable_picture_is_refused(make_cub: MakeCub, tmp_path: Path) -> None:
    root = make_cub(bounding_boxes__txt="99 1 1 2 2\n")
    with pytest.raises(DataError, match=r"no picture can be used .*no box for its id 3"):
        ingest(plan_of(root), Place(tmp_path / "set"))
    assert left_in(tmp_path) == ["cub"]


def test_what_is_in_the_way_is_kept(make_cub: MakeCub, tmp_path: Path) -> None:
    plan = plan_of(make_cub())
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis.txt").write_text("dear")
    (tmp_path / "file").write_text("dear")
    for name in ("home", "file"):
        with pytest.raises(DataError, match=f"{name}: exists and is not a data set"):
            ingest(plan, Place(tmp_path / name), overwrite=True)
    assert left_in(tmp_path) == ["cub", "file", "home"]
    assert (tmp_path / "home/thesis.txt").read_text() == "dear"


def test_a_data_set_around_the_source_is_not_replaced(make_cub: MakeCub, tmp_path: Path) -> None:
    root = make_cub("set/cub")
    plan = plan_of(root)
    for name, content in files_of(ingested(plan, tmp_path / "other")).items():
        (tmp_path / "set" / name).write_bytes(content)
    (root / "classes.txt").unlink()
    with pytest.raises(DataError, match=r"holds the source .*cub, so it is not replaced"):
        ingest(plan_of(root), Place(tmp_path / "set"), overwrite=True)
    assert (root / "images.txt").exists()


def ingested(plan: object, out: Path) -> Path:
    ingest(plan, Place(out))  # type: ignore[arg-type]
    return out


def test_what_comes_in_the_way_meanwhile_costs_no_work(
    job: SimpleNamespace, undisturbed: Path
) -> None:
    def get_in_the_way(_: int) -> None:
        job.out.path.mkdir(exist_ok=True)
        (job.out.path / "thesis.txt").write_text("dear")

    with pytest.raises(RunError, match=r"not a data set, .*came meanwhile, and the work is kept"):
        ingest(job.plan, job.out, progress=get_in_the_way)
    assert left_in(job.out.path) == ["thesis.txt"]
    (job.out.path / "thesis.txt").unlink()
    assert left_of(job.plan, job.out) == []
    ingest(job.plan, job.out)
    assert files_of(job.out.path) == files_of(undisturbed)


def test_a_full_disk_leaves_no_data_set(
    job: SimpleNamespace, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.name.startswith(f".{shard_name(2)}") or path.name.startswith(f".{INFO_NAME}"):
            write(path, data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        return write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left"):
            ingest(job.plan, job.out)
    assert not job.out.path.exists()
    assert left_in(job.work) == [shard_name(0), shard_name(1), PLAN_NAME]
    ingest(job.plan, job.out)
    assert files_of(job.out.path) == files_of(undisturbed)


def test_a_kill_just_before_the_end_goes_on(
    job: SimpleNamespace, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ingests, "replace_folder", killed)
        with pytest.raises(KeyboardInterrupt):
            ingest(job.plan, job.out)
    assert not job.out.path.exists()
    ingest(job.plan, job.out)
    assert files_of(job.out.path) == files_of(undisturbed)


def test_duplicates_are_reported(tmp_path: Path) -> None:
    root = fill(tmp_path / "birds", 6)
    for number in (1, 4):
        (root / f"images/{number}.jpg").write_bytes((root / "images/0.jpg").read_bytes())
    info = ingest(plan_of(root), Place(tmp_path / "set"))
    assert info.duplicates == (("images/0.jpg", "images/1.jpg", "images/4.jpg"),)
    assert info.count == 6
