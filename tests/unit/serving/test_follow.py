"""What is asked to be served, and following an alias: here of a registry that is a dictionary."""

import re
import shutil
from pathlib import Path

import pytest

from mixnmatch.errors import InputError, ModelError
from mixnmatch_platform.commands.serve import read_replicas, read_token
from mixnmatch_platform.serving import follow
from mixnmatch_platform.serving.board import Board
from mixnmatch_platform.serving.follow import Follower
from mixnmatch_platform.serving.metrics import Metrics
from mixnmatch_platform.serving.models import Served, resolve


class Registry:
    """Bundles by version, the last one the champion; ``away`` is what asking it raises."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, first: Path) -> None:
        self.folders = [first]
        self.away: InputError | None = None
        monkeypatch.setattr(follow, "resolve", self.resolve)
        monkeypatch.setattr(Served, "folder", lambda served: self.folders[served.version - 1])

    def resolve(self, model: str, store: str) -> Served:
        if self.away:
            raise self.away
        return Served(name="birds", version=len(self.folders), source=model, store=store)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path) -> Registry:
    return Registry(monkeypatch, tiny_bundle)


@pytest.fixture
def wanted() -> list[Served]:
    return []


@pytest.fixture
def follower(registry: Registry, wanted: list[Served]) -> Follower:
    model = "models:/birds@champion"
    return Follower(model, "store", registry.resolve(model, "store"), wanted.append)


def test_a_new_version_is_wanted_once(
    registry: Registry,
    follower: Follower,
    wanted: list[Served],
    tiny_bundle: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    follower.look()
    assert wanted == []
    registry.folders.append(tiny_bundle)
    follower.look()
    follower.look()
    assert [served.version for served in wanted] == [2]
    line = "models:/birds@champion is birds version 2 now, it was birds version 1\n"
    assert capsys.readouterr().err == line
    registry.folders.pop()
    follower.look()
    assert [served.version for served in wanted] == [2, 1], "a rollback is followed as well"


def test_a_broken_version_is_said_once_and_the_old_one_stays(
    registry: Registry,
    follower: Follower,
    wanted: list[Served],
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken = shutil.copytree(tiny_bundle, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"damaged")
    registry.folders.append(broken)
    follower.look()
    follower.look()
    (line,) = capsys.readouterr().err.splitlines()
    assert "is damaged" in line
    assert line.endswith("birds version 1 stays")
    assert wanted == []
    # Its files may have been late.
    registry.folders[-1] = tiny_bundle
    follower.look()
    assert wanted == []
    monkeypatch.setattr(follow, "AGAIN_SECONDS", 0)
    follower._again = 0
    follower.look()
    assert [served.version for served in wanted] == [2]


@pytest.mark.parametrize("error", [RuntimeError, MemoryError])
def test_one_that_there_is_no_memory_for_does_not_end_the_following(
    error: type[Exception],
    registry: Registry,
    follower: Follower,
    wanted: list[Served],
    tiny_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def load(*_: object) -> None:
        raise error("no memory for 9 bytes\nat: some line")

    registry.folders.append(tiny_bundle)
    monkeypatch.setattr(Served, "load", load)
    follower.look()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("not followed: no memory for 9 bytes; birds version 1 stays")
    assert wanted == []


def test_a_store_that_is_away_is_said_once(
    registry: Registry, follower: Follower, wanted: list[Served], capsys: pytest.CaptureFixture[str]
) -> None:
    registry.away = InputError("the store is away")
    follower.look()
    follower.look()
    (line,) = capsys.readouterr().err.splitlines()
    assert "the store is away" in line
    registry.away = None
    follower.look()
    registry.away = InputError("the store is away")
    follower.look()
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert wanted == []


def test_a_folder_stands_for_itself(tiny_bundle: Path, tmp_path: Path) -> None:
    served = resolve(str(tiny_bundle), "store")
    assert (served.name, served.version, served.folder()) == ("bundle", None, tiny_bundle)
    with pytest.raises(ModelError, match="no such model folder"):
        resolve(str(tmp_path / "none"), "store")
    with pytest.raises(ModelError, match="write models:/NAME@ALIAS or models:/NAME/VERSION"):
        resolve("models:/birds", "store")


def test_the_board_adds_up_all_replicas_and_lists_those_that_report(
    monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path
) -> None:
    old, new = (Served(name="birds", version=version, source="", store="") for version in (1, 2))
    board = Board(old)
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    one, two = Metrics(), Metrics()
    one.requests.labels("/mix", "200").inc(3)
    one.painted.inc(4)
    two.requests.labels("/mix", "200").inc()
    two.requests.labels("/mix", "422").inc(2)
    assert board.report("one", old, one.told()) == old
    board.want(new)
    now = 140.0
    assert board.report("two", new, two.told()) == new
    assert board.serving() == {"two": new}
    assert list(board.metrics()) == ["two"]
    # Of whoever left, or was refused by a proxy while a replica still worked, nobody has it.
    two.requests.labels("/mix", "499").inc()
    board.report("two", new, two.told())
    board.report_proxy("proxy-1", 2, True)
    board.report_proxy("proxy-2", 3, True)
    assert board.totals() == {"2": 4, "4": 2, "painted": 4, "refused": 5}
    board.trouble("two", "no disk")
    assert board.troubles() == {"two": "no disk"}
    assert board.troubles() == {}


def test_the_board_knows_when_no_proxy_works_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board(Served(name="birds", version=1, source="", store=""))
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    assert not board.report_proxy("one", 0, True)
    assert not board.report_proxy("two", 0, True)
    board.end()
    assert board.report_proxy("one", 0, True)
    assert board.report_proxy("one", 0, False)
    assert not board.is_idle(), "the other one has not heard of it"
    now = 140.0
    assert board.is_idle(), "it is gone with its machine"
    board.report_proxy("two", 0, True)
    assert not board.is_idle()
    board.report_proxy("two", 0, False)
    assert board.is_idle()


def test_the_board_counts_replicas_that_have_found_room() -> None:
    wanted = Served(name="birds", version=1, source="", store="")
    board = Board(wanted)
    assert board.begun() == 0
    assert board.begin("one") == board.begin("two") == wanted
    assert board.begun() == 2


@pytest.mark.parametrize(("text", "numbers"), [("1", (1, 1)), ("3", (3, 3)), ("1-4", (1, 4))])
def test_replicas(text: str, numbers: tuple[int, int]) -> None:
    assert read_replicas(text) == numbers


@pytest.mark.parametrize("text", ["", "0", "x", "1-", "-1", "4-1", "1-2-3", "1.5", "0-2"])
def test_replicas_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="--replicas is"):
        read_replicas(text)


def test_the_token_is_of_the_file_else_of_the_environment_and_stays_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIXNMATCH_SERVE_TOKEN", "theirs")
    assert read_token(None) == "theirs"
    assert read_token(None) is None, "what Ray forwards has it no more"
    file = tmp_path / "token"
    file.write_text("secret\nnothing\n")
    assert read_token(file) == "secret"
    file.write_text("\n")
    with pytest.raises(InputError, match="the token is empty"):
        read_token(file)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("secret\u200b".encode(), r"'\u200b'"),
        ("sec…".encode(), r"'\u2026'"),
        (b"sec ret", "' '"),
        ("secret".encode("utf-16"), r"'\ufffd'"),
    ],
)
def test_a_token_that_no_header_carries(text: bytes, named: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_bytes(text)
    with pytest.raises(InputError, match=re.escape(f"token: the token has {named} in it: use")):
        read_token(file)
