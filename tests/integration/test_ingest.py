"""Data sets on S3-style storage and on Ray: the same bytes as from one process and a folder."""

import json
import logging
import os
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import boto3
import psutil
import pytest
from moto.server import ThreadedMotoServer
from PIL import Image

from mixnmatch import cli
from mixnmatch.data.info import INFO_NAME, DatasetInfo
from mixnmatch.data.ingest import PLAN_NAME, Job, ingest
from mixnmatch.data.layouts.known import read_source
from mixnmatch.data.layouts.listing import LayoutOptions
from mixnmatch.data.places import Place
from mixnmatch.data.plan import Plan, make_shard
from mixnmatch.data.shards import shard_name
from mixnmatch.data.store import open_dataset
from mixnmatch.errors import DataError, RunError
from mixnmatch_platform.cli import main
from mixnmatch_platform.ingest import make_on_ray

pytestmark = pytest.mark.integration
PICTURES = 300  # two shards
KEY, SECRET = "AKIATEST", "tests-own-secret"


def make_cub(root: Path, pictures: int = PICTURES, bad: int = 0) -> Path:
    """A CUB folder of small pictures, of which nine differ; the last ``bad`` ones are damaged."""
    (root / "images").mkdir(parents=True)
    for number in range(9):
        picture = Image.new("RGB", (20 + number, 16), (20 * number, 90, 40))
        picture.save(root / f"{number}.png")
    (root / "9.png").write_bytes(b"\x89PNG")
    images, boxes = [], []
    for row in range(pictures):
        kind = row % 9 if row < pictures - bad else 9
        (root / "images" / f"{row}.png").hardlink_to(root / f"{kind}.png")
        images.append(f"{row + 1} {row}.png\n")
        boxes.append(f"{row + 1} {row % 5} 2 {10 + row % 3}.5 9\n")
    (root / "images.txt").write_text("".join(images))
    (root / "bounding_boxes.txt").write_text("".join(boxes))
    return root


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cub(tmp_path_factory.mktemp("source") / "cub")


@pytest.fixture
def small_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of three shards, for tests in this process alone."""
    monkeypatch.setattr("mixnmatch.data.plan.SHARD_ENTRIES", 9)
    return make_cub(tmp_path / "small", 22)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it tells of every request
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    yield f"{host}:{port}"
    moto.stop()


@pytest.fixture
def bucket(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of an empty bucket, whose endpoint and credentials are in the environment."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{server}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    name = tmp_path.name.replace("_", "-").lower()[-40:].strip("-")
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}"


def plan_of(where: Path | str, **options: bool) -> Plan:
    place = Place(where)
    listing = read_source(place, "cub", LayoutOptions())
    return Plan(place=place, listing=listing, files=place.files(), **options)


def contents(place: Place) -> dict[str, bytes]:
    """All shards."""
    return {path: place.read(path) for path in place.files() if path != INFO_NAME}


def info_of(place: Place) -> DatasetInfo:
    return DatasetInfo.from_json(place.read(INFO_NAME).decode(), Path(place.name))


def upload(folder: Path, url: str) -> str:
    here, there = Place(folder), Place(url)
    for path in here.files():
        there.write(path, here.read(path))
    return url


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a command that failed, behind what it said of its source."""
    error = capsys.readouterr().err
    assert "Traceback" not in error
    lines = [line for line in error.splitlines() if ": error: " in line]
    assert len(lines) == 1, error
    assert error.endswith(lines[0] + "\n")
    return lines[0]


def test_from_and_to_s3(small_source: Path, bucket: str, tmp_path: Path) -> None:
    there = upload(small_source, f"{bucket}/a folder/cub")
    expected = ingest(plan_of(small_source), Place(tmp_path / "expected"))
    shards = contents(Place(tmp_path / "expected"))
    assert len(shards) == 3
    for plan, out in [
        (plan_of(small_source), Place(f"{bucket}/one")),
        (plan_of(there), Place(f"{bucket}/deep/er/two")),
        (plan_of(there), Place(tmp_path / "set")),
    ]:
        info = ingest(plan, out)
        assert info.fingerprint == expected.fingerprint
        assert contents(out) == shards
        assert ingest(plan, out) == info  # done already
    assert info.source == there


def test_no_data_set_inside_its_source(small_source: Path, bucket: str) -> None:
    plan = plan_of(upload(small_source, f"{bucket}/cub"))
    for name in (f"{bucket}/cub", f"{bucket}/cub/set/"):
        with pytest.raises(DataError, match=f"is the source {bucket}/cub or inside it"):
            ingest(plan, Place(name))
    assert ingest(plan, Place(f"{bucket}/cub-set")).count == 22


def test_s3_is_a_place_like_others(bucket: str) -> None:
    assert Place(bucket).is_folder()
    assert Place(bucket).is_store
    assert not Place(f"{bucket}-none").is_folder()
    place = Place(f"{bucket}/folder/")
    assert not place.is_folder()
    place.write("in/a", b"a")
    place.write("in/a", b"aa")
    place.write("in/.b", b"hidden")
    place.write("with space+%41", b"c")
    assert place.is_folder()
    assert Place(f"{bucket}/folder/in").is_folder()
    assert not Place(f"{bucket}/folder/i").is_folder()
    assert {path: mark.size for path, mark in place.files().items()} == {
        "in/a": 2,
        "with space+%41": 1,
    }
    assert all(mark.modified for mark in place.files().values())
    assert place.full("in/a") == f"{bucket}/folder/in/a"
    place.remove("in/a")
    assert not place.has("in/a")
    assert list(place.files()) == ["with space+%41"]


def test_an_endpoint_in_the_url(
    source: Path, server: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    url = f"{bucket}/set?endpoint_override={server}&scheme=http"
    arguments = ["data", "ingest", str(source), url, "--format", "cub", "--workers", "2"]
    assert cli.main(arguments) == 0
    info = info_of(Place(url))
    assert Place(url).full(INFO_NAME) == f"{bucket}/set/{INFO_NAME}"
    assert open_dataset(url).info == info


def test_an_ingestion_to_s3_goes_on(small_source: Path, bucket: str, tmp_path: Path) -> None:
    plan, out = plan_of(small_source), Place(f"{bucket}/set")
    with Job(plan, out).started() as left:
        assert list(left) == [0, 1, 2]
        make_shard(plan, out, 0)
        out.write(shard_name(1), b"half of it")
    with Job(plan, out).started() as left:
        assert list(left) == [1, 2]
        make_shard(plan, out, 1)
    told: list[int] = []
    info = ingest(plan, out, progress=told.append)
    assert told == [18, 4]
    assert info.fingerprint == ingest(plan, Place(tmp_path / "one")).fingerprint
    assert contents(out) == contents(Place(tmp_path / "one"))
    assert not out.has(PLAN_NAME)


def test_commands_take_urls(
    source: Path, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"{bucket}/set"
    ingest(plan_of(source), Place(url))
    assert cli.main(["data", "export", url, str(tmp_path / "out"), "--split", "all"]) == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == 12
    for program, command in [
        (cli.main, ["train", url, "--out", str(tmp_path / "run"), "--dry-run"]),
        (main, ["train", url, "--name", "x", "--home", str(tmp_path / "runs"), "--dry-run"]),
    ]:
        assert program(command) == 0, capsys.readouterr().err
    assert f"{PICTURES} pictures of {url}" in capsys.readouterr().out


def test_one_line_for_a_storage_that_cannot_be_used(
    source: Path,
    server: str,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ingest(plan_of(source), Place(f"{bucket}/set"))
    here = str(source)
    for command, status, said in [
        (["ingest", here, f"{bucket}-none/set", "--workers", "1"], 2, "-none/set: no such bucket"),
        (["ingest", f"{bucket}-none/cub", str(tmp_path / "out")], 2, "cub: no such folder"),
        (["ingest", here, f"{bucket}/set", "--format", "folder"], 2, "--overwrite replaces it"),
        (["export", f"{bucket}/none", str(tmp_path / "out")], 2, "none: not a data set"),
        (["export", f"s3://u:{SECRET}@b/x", str(tmp_path / "out")], 2, "key or password"),
    ]:
        assert cli.main(["data", *command]) == status, command
        assert said in (line := error_line(capsys))
        assert SECRET not in line
    with everything_denied(server):
        assert cli.main(["data", "ingest", here, f"{bucket}/other"]) == 1
    assert "other" in (line := error_line(capsys))
    assert "ACCESS_DENIED" in line or "403" in line or "credential" in line.lower()

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    start = time.monotonic()
    assert cli.main(["data", "ingest", f"{bucket}/cub", str(tmp_path / "out")]) == 1
    assert time.monotonic() - start < 60
    assert f"{bucket}/cub: the storage failed" in error_line(capsys)
    assert not list(tmp_path.iterdir())


@contextmanager
def everything_denied(server: str) -> Iterator[None]:
    """For a while the server checks credentials, and ours are of nobody."""

    def allow(count: str) -> None:
        url = f"http://{server}/moto-api/reset-auth"
        request = urllib.request.Request(url, count.encode(), {"Content-Type": "text/plain"})
        urllib.request.urlopen(request).close()

    allow("0")
    try:
        yield
    finally:
        allow("inf")


def test_ray_writes_the_same_bytes(
    ray_cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make_cub(tmp_path / "cub", bad=2)
    one, rays = Place(tmp_path / "one"), Place(tmp_path / "rays")
    options = ["--format", "cub", "--licence", "ours"]
    assert cli.main(["data", "ingest", str(source), one.name, "--workers", "1", *options]) == 0
    command = ["ingest", str(source), rays.name, *options]
    assert main([*command, "--dry-run"]) == 0
    assert not rays.is_folder()
    capsys.readouterr()
    assert main([*command, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["count"] == PICTURES - 2
    assert "left out: " in captured.err
    assert "Ray" not in captured.err
    assert contents(rays) == contents(one)
    texts = [json.loads(place.read(INFO_NAME)) for place in (one, rays)]
    assert "mixnmatch" not in texts[1].pop("command")
    texts[0].pop("command")
    assert texts[0] == texts[1]
    assert main(command) == 0  # done already
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cub", "one", "rays"]


def test_ray_between_buckets(
    ray_cluster: None,
    source: Path,
    bucket: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its workers were started without the endpoint and the credentials of this process."""
    there = upload(source, f"{bucket}/cub")
    assert main(["ingest", there, f"{bucket}/set", "--workers", "2"]) == 0
    out = Place(f"{bucket}/set")
    ingest(plan_of(source), Place(tmp_path / "one"))
    assert contents(out) == contents(Place(tmp_path / "one"))
    captured = capsys.readouterr()
    text = out.read(INFO_NAME).decode() + captured.out + captured.err
    assert KEY not in text
    assert SECRET not in text


def test_ray_stops_at_a_bad_picture(
    ray_cluster: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = make_cub(tmp_path / "cub", bad=1)
    arguments = [str(source), str(tmp_path / "set"), "--strict"]
    assert cli.main(["data", "ingest", *arguments, "--workers", "1"]) == 2
    said = error_line(capfd).partition(": error: ")[2]
    assert main(["ingest", *arguments]) == 2
    assert error_line(capfd) == f"platform: error: {said}"
    assert not (tmp_path / "set").exists()


def test_ray_goes_on_without_a_worker(ray_cluster: None, tmp_path: Path) -> None:
    plan = plan_of(make_cub(tmp_path / "cub", pictures=256 * 30))
    killed: list[int] = []
    over = threading.Event()

    def kill() -> None:
        while not killed and not over.wait(0.02):
            killed.extend(_kill_one("_make_row"))

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        info = Job(plan, Place(tmp_path / "rays")).run(partial(make_on_ray, workers=2))
    finally:
        over.set()
        thread.join()
    assert killed
    assert info.count == 256 * 30
    assert info.fingerprint == ingest(plan, Place(tmp_path / "one")).fingerprint
    assert contents(Place(tmp_path / "rays")) == contents(Place(tmp_path / "one"))


def _kill_one(task: str) -> Iterator[int]:
    """Kill -9 a worker of this process's cluster that is at a task; its number."""
    for process in psutil.Process().children(recursive=True):
        try:
            if task in process.cmdline()[0]:
                process.kill()
                yield process.pid
                return
        except (psutil.Error, IndexError):
            continue


def test_ray_gives_up_on_workers_that_always_die(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mixnmatch_platform.ingest.STALLED_SECONDS", 3)
    plan = plan_of(make_cub(tmp_path / "cub"))
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.01):
            list(_kill_one("_make_row"))

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        with pytest.raises(RunError, match=r"no progress .* run the same command again") as raised:
            Job(plan, Place(tmp_path / "set")).run(partial(make_on_ray, workers=1))
    finally:
        over.set()
        thread.join()
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("workers", ["0", "-1"])
def test_a_number_of_workers_that_is_none(workers: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ingest", "src", "out", "--workers", workers]) == 2
    assert f"--workers is {workers}" in error_line(capsys)


@pytest.mark.parametrize("unseen", ["src", "out"])
def test_ray_takes_no_folder_of_another_machine(
    ray_cluster: None, tmp_path: Path, unseen: str
) -> None:
    """As a machine without shared storage sees it: the folder is there for the driver alone."""
    plan, out = plan_of(make_cub(tmp_path / "cub")), Place(tmp_path / "work")

    def make(plan: Plan, out: Place, shards: Callable[[], int]) -> Iterator[int]:
        if unseen == "src":
            (tmp_path / "cub" / "images" / "3.png").unlink()
        else:
            out.remove(PLAN_NAME)
        return make_on_ray(plan, out, shards)

    with pytest.raises(RunError, match="must be on storage that all machines share") as raised:
        Job(plan, out).run(make)
    assert ("images/3.png" if unseen == "src" else ".work.ingest") in str(raised.value)
