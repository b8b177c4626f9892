"""Files at paths and URLs, data sets at URLs, and what no URL may hold."""

import dataclasses
import os
import pickle
import threading
from pathlib import Path

import pyarrow.fs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_data import MakeCub, encoded, plan_of

from mixnmatch.data import plan as plans
from mixnmatch.data.fetch import local_copy
from mixnmatch.data.info import INFO_NAME
from mixnmatch.data.ingest import PLAN_NAME, Job, ingest
from mixnmatch.data.places import FileMark, Place
from mixnmatch.data.plan import Plan, make_shard
from mixnmatch.data.shards import shard_name
from mixnmatch.data.store import open_dataset
from mixnmatch.data.urls import open_url
from mixnmatch.errors import DataError, RunError


@pytest.fixture
def memory(tmp_path: Path) -> Place:
    """An own folder in memory, which stands for any of fsspec's file systems."""
    return Place(f"memory://{tmp_path.name}/set")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIXNMATCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "datasets"


@pytest.mark.parametrize("kind", ["path", "file", "memory"])
def test_files_anywhere(kind: str, tmp_path: Path, memory: Place) -> None:
    where = {"path": tmp_path / "a b", "file": f"file://{tmp_path}/a%20b"}
    place = memory if kind == "memory" else Place(where[kind])
    assert not place.is_folder()
    place.write("two/b.txt", b"bb")
    place.write("a.txt", b"old")
    place.write("a.txt", b"a")
    place.write(".hidden/c", b"c")
    assert place.is_folder()
    assert place.has("a.txt")
    assert not place.has("two")
    assert not place.has("none")
    assert {path: mark.size for path, mark in place.files().items()} == {"a.txt": 1, "two/b.txt": 2}
    assert place.read("two/b.txt") == b"".join(place.blocks("two/b.txt")) == b"bb"
    with place.open("two/b.txt") as file:
        assert file.read_at(1, 1) == b"b"
    for missing in ("none", "two"):
        with pytest.raises(DataError, match=rf"{missing}: no such file"):
            place.read(missing)
    place.remove("a.txt")
    assert list(place.files()) == ["two/b.txt"]
    assert place.is_local == (kind != "memory")


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    for path in (root / "a/b/1", root / "c/2", other / "d/3", other / ".hidden/4"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    for link, to in {
        "a/b/up": "..",
        "a/b/self": ".",
        "root": str(root),
        "a/itself": "itself",
        "a/nothing": "nowhere",
        "c/other": "../../other",
        "c/file": "../a/b/1",
        "c/.secret": "../a",
    }.items():
        (root / link).symlink_to(to)
    (other / "d/back").symlink_to(root)
    os.mkfifo(root / "pipe")
    found = Place(root).files()
    assert list(found) == ["a/b/1", "c/2", "c/file", "c/other/d/3"]
    assert found["c/file"] == FileMark(5, (root / "a/b/1").stat().st_mtime_ns)
    # A folder that is linked twice is there twice: annotations may speak of either.
    (root / "e").symlink_to("c")
    assert [path for path in Place(root).files() if path.startswith("e/")] == [
        "e/2",
        "e/file",
        "e/other/d/3",
    ]


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xe9.jpg")).touch()
    with pytest.raises(DataError, match=r"a file's name is not UTF-8 \(b'\\xe9\.jpg'\): rename it"):
        Place(tmp_path).files()


def test_what_a_place_holds(tmp_path: Path, memory: Place) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    folder = Place(tmp_path / "a")
    for inside in ("a", "a/b", "link/b", "c/../a/b"):
        assert folder.holds(Place(tmp_path / inside))
    for outside in ("", "ab", "b"):
        assert not folder.holds(Place(tmp_path / outside))
    assert memory.holds(memory)
    assert memory.holds(Place(f"{memory.name}/b/"))
    assert not memory.holds(Place(f"{memory.name}b"))
    assert not memory.holds(folder)
    assert not folder.holds(memory)


def test_no_data_set_inside_its_source(make_cub: MakeCub, memory: Place) -> None:
    root = make_cub()
    plan = plan_of(root)
    for path in plan.files:
        memory.write(path, plan.place.read(path))
    for source in (plan, dataclasses.replace(plan, place=memory)):
        where = source.place.name
        for name in (where, f"{where}/set"):
            with pytest.raises(DataError, match=f"^{name}: is the source {where} or inside it"):
                ingest(source, Place(name))
        assert source.place.files().keys() == plan.files.keys()


@pytest.mark.parametrize("path", ["../a", "/etc/passwd", "a/../../b", "a\0b"])
def test_a_path_stays_inside(path: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must stay inside"):
        Place(tmp_path).read(path)


def test_what_is_in_memory_is_sent_to_nobody(memory: Place) -> None:
    with pytest.raises(DataError, match="no other process sees it"):
        pickle.dumps(memory)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense://x/y", "no such kind of storage"),
        ("s3:///folder", "names no bucket"),
        ("s3://b/c?regoin=x", "'regoin' must be one of region"),
        ("s3://b/c?endpoint_override=h:1&scheme=ftp", "scheme http or https"),
        ("s3://b/c?endpoint_override=http://h:1/path", "must be host:port"),
        ("file://host/folder", "must be a path of this machine"),
    ],
)
def test_urls_that_cannot_be_used(url: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        Place(url)


_SAFE = "s3cr3t"


@given(
    before=st.text("aZ9+/=", max_size=6),
    after=st.text("aZ9+/=", max_size=6),
    form=st.sampled_from(
        [
            "s3://AKIA:{}@bucket/folder",
            "s3://AKIA:{}",
            "sftp://user:{}@host/folder",
            "abfs://:{}@account.dfs.core.windows.net/folder",
            "s3://bucket/folder?access_key=AKIA&secret_key={}",
            "s3://bucket/folder?session_token={}",
            "abfs://container/folder?sig={}",
        ]
    ),
)
def test_secrets_in_a_url_are_refused_and_not_shown(form: str, before: str, after: str) -> None:
    with pytest.raises(DataError, match="holds a key or password") as raised:
        open_url(form.format(before + _SAFE + after))
    assert _SAFE not in str(raised.value)
    assert "AKIA" not in str(raised.value)


def test_an_endpoint_of_the_url_goes_before_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def endpoint(url: str) -> tuple[str, str]:
        system, base, name = open_url(url)
        assert (base, name) == ("b/c d", "s3://b/c d")
        assert isinstance(system, pyarrow.fs.S3FileSystem)
        _, (options,) = system.__reduce__()
        return options["scheme"], options["endpoint_override"]

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://all:1")
    assert endpoint("s3://b/c d") == ("http", "all:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://s3:2/")
    assert endpoint("s3://b/c d") == ("https", "s3:2")
    assert endpoint("s3://b/c d?endpoint_override=own:3&scheme=http") == ("http", "own:3")
    assert endpoint("s3://b/c d?endpoint_override=http://own:3") == ("http", "own:3")


def test_a_data_set_at_a_url_is_fetched_once(
    make_cub: MakeCub, memory: Place, cache: Path, tmp_path: Path
) -> None:
    plan = plan_of(make_cub())
    here = ingest(plan, Place(tmp_path / "here"))
    info = ingest(plan, memory)
    assert info.fingerprint == here.fingerprint
    assert list(memory.files()) == [INFO_NAME, shard_name(0)]
    content = memory.read(shard_name(0))
    assert content == (tmp_path / "here" / shard_name(0)).read_bytes()

    found = open_dataset(memory.name)
    assert found.info == info
    assert [record.id for record in found] == [3, 7, 20]
    assert list(cache.iterdir()) == [found.path]
    memory.remove(shard_name(0))  # it is not needed again
    assert open_dataset(memory.name).path == found.path

    # The same pictures with another description are another data set.
    memory.write(shard_name(0), content)
    ingest(plan, memory, licence="CC0", overwrite=True)
    assert open_dataset(memory.name).info.licence == "CC0"


def test_a_fetch_that_is_cut_off_goes_on(
    make_cub: MakeCub, memory: Place, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(plan_of(make_cub()), memory)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            open_dataset(memory.name)
    (folder,) = cache.iterdir()
    assert list(folder.iterdir()) == []
    assert len(open_dataset(memory.name)) == 3


def test_what_is_fetched_is_what_is_described(
    make_cub: MakeCub, memory: Place, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"not a data set, there is no dataset\.json"):
        local_copy(memory)
    ingest(plan_of(make_cub()), memory)
    content = memory.read(shard_name(0))
    for wrong, said in [
        (content[:-40], "damaged or truncated"),
        (b"", "damaged or truncated"),
        (None, "its 0 shards are not those"),
    ]:
        memory.remove(shard_name(0))
        if wrong is not None:
            memory.write(shard_name(0), wrong)
        with pytest.raises(DataError, match=said):
            open_dataset(memory.name)
        memory.write(shard_name(0), content)
    assert len(open_dataset(memory.name)) == 3
    memory.write(INFO_NAME, memory.read(INFO_NAME).replace(b"unknown", b"other"))
    monkeypatch.setenv("MIXNMATCH_CACHE", "/dev/null/cache")
    with pytest.raises(RunError, match="set MIXNMATCH_CACHE to a folder with room"):
        open_dataset(memory.name)


def test_a_data_set_that_is_replaced_while_it_is_fetched(
    make_cub: MakeCub, memory: Place, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(plan_of(make_cub()), memory)
    whole = Place.blocks

    def replaced(self: Place, path: str) -> object:
        memory.write(INFO_NAME, memory.read(INFO_NAME).replace(b"unknown", b"other"))
        return whole(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(Place, "blocks", replaced)
        with pytest.raises(RunError, match="was replaced while it was fetched"):
            open_dataset(memory.name)
    assert open_dataset(memory.name).info.licence == "other"


def test_overwriting_at_a_url(make_cub: MakeCub, memory: Place) -> None:
    first, other = plan_of(make_cub()), plan_of(make_cub("other"), objects="each")
    ingest(first, memory)
    memory.write(shard_name(7), b"of an older, larger one")
    memory.write("README.md", b"a person's")
    with pytest.raises(DataError, match="--overwrite replaces it"):
        ingest(other, memory)
    assert memory.has(INFO_NAME)
    with Job(other, memory, overwrite=True).started() as left:
        assert list(left) == [0]
        assert list(memory.files()) == ["README.md", PLAN_NAME]  # no data set from here on
    info = ingest(other, memory)  # its own unfinished work needs no --overwrite
    assert info.plan == other.digest
    assert list(memory.files()) == ["README.md", INFO_NAME, shard_name(0)]


def test_a_kill_while_an_old_data_set_is_removed(
    make_cub: MakeCub, memory: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it comes, the next run makes the new data set and takes no shard of the old one."""
    first, other = plan_of(make_cub()), plan_of(make_cub("other"), objects="each")
    expected = ingest(other, Place(f"{memory.name}-expected"))
    calls = ("write", "remove")
    for survived in range(6):
        out = Place(f"{memory.name}-{survived}")
        ingest(first, out)
        left = [survived]

        def killed(name: str, left: list[int] = left) -> object:
            whole = getattr(Place, name)

            def call(self: Place, *arguments: object) -> None:
                if not left[0]:
                    raise KeyboardInterrupt
                left[0] -= 1
                whole(self, *arguments)

            return call

        with monkeypatch.context() as patch:
            for name in calls:
                patch.setattr(Place, name, killed(name))
            with pytest.raises(KeyboardInterrupt):
                ingest(other, out, overwrite=True)
        again = ingest(other, out, overwrite=True)
        assert again.fingerprint == expected.fingerprint
        assert again.plan == other.digest


def test_what_is_no_data_set_is_not_touched(make_cub: MakeCub, memory: Place) -> None:
    memory.write("part-00000.parquet", b"a person's")
    with pytest.raises(DataError, match="exists and is not a data set"):
        ingest(plan_of(make_cub()), memory, overwrite=True)
    assert memory.read("part-00000.parquet") == b"a person's"


def test_two_jobs_at_one_url(make_cub: MakeCub, memory: Place) -> None:
    plan = plan_of(make_cub())
    job = Job(plan, memory)
    with job.started() as left:
        for shard in left:
            make_shard(plan, memory, shard)
        memory.write(PLAN_NAME, b"another's")
        with pytest.raises(RunError, match="another process is making another data set"):
            job.finish()
    assert not memory.has(INFO_NAME)


@pytest.fixture
def store(make_cub: MakeCub, memory: Place, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A plan of thirty pictures in what is taken for an object store; number 3 is damaged."""
    names = [f"{number:02}.jpg" for number in range(30)]
    pictures = {name: encoded(20 + number) for number, name in enumerate(names)}
    pictures[names[3]] = b"no picture"
    for name, content in pictures.items():
        memory.write(name, content)
    monkeypatch.setattr(Place, "is_store", property(lambda self: self.name == memory.name))
    return plan_of(memory.name)


def test_pictures_of_a_store_are_read_ahead(
    store: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, add = Place.read, plans._rows
    together, lock = threading.Barrier(plans.FETCHED_AHEAD), threading.Lock()
    begun, used, most = [], [0], [0]

    def read_counted(self: Place, path: str) -> bytes:
        with lock:
            begun.append(path)
            most[0] = max(most[0], len(begun) - used[0])
            first = len(begun) <= plans.FETCHED_AHEAD
        if first:
            together.wait(60)  # broken, an error, where they are not read at the same time
        return read(self, path)

    def rows_counted(plan: Plan, number: int, data: bytes) -> object:
        used[0] = number
        return add(plan, number, data)

    expected = Place(tmp_path / "expected")
    with monkeypatch.context() as patch:
        patch.setattr(Place, "is_store", False)
        make_shard(store, expected, 0)
    with monkeypatch.context() as patch:
        patch.setattr(Place, "read", read_counted)
        patch.setattr(plans, "_rows", rows_counted)
        make_shard(store, Place(tmp_path / "out"), 0)
    assert sorted(begun) == list(store.files)
    # One is in use while the others are waiting.
    assert most[0] <= plans.FETCHED_AHEAD + 1
    name = shard_name(0)
    assert (tmp_path / "out" / name).read_bytes() == expected.read(name)
    assert not any(thread.name.startswith("fetch") for thread in threading.enumerate())


def test_errors_of_a_store_come_in_the_order_of_its_pictures(
    store: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, read = Place(tmp_path / "out"), Place.read

    def failing(self: Place, path: str) -> bytes:
        if path == "05.jpg":
            raise RunError("05.jpg: the storage failed")
        return read(self, path)

    monkeypatch.setattr(Place, "read", failing)
    with pytest.raises(RunError, match=r"^05\.jpg: the storage failed$"):
        make_shard(store, out, 0)
    with pytest.raises(DataError, match=r"03\.jpg: not a picture"):
        make_shard(dataclasses.replace(store, strict=True), out, 0)
    assert not out.is_folder()


def test_a_storage_that_fails_is_no_bad_picture(
    make_cub: MakeCub, memory: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Place(memory.name + "-source")
    for path in (root := Place(make_cub())).files():
        source.write(path, root.read(path))
    plan = dataclasses.replace(plan_of(root.path), place=source)

    def fail(self: object, path: str) -> None:
        raise ConnectionResetError("gone\naway")

    monkeypatch.setattr(pyarrow.fs.FSSpecHandler, "open_input_file", fail)
    with pytest.raises(RunError, match=r"images/one/a\.jpg: the storage failed \(gone away\)"):
        make_shard(plan, memory, 0)
