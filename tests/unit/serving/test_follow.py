"""What is asked to be served, and following an alias: here of a registry that is a dictionary."""

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
    assert board.totals() == {"2": 4, "4": 2, "painted": 4}
    board.trouble("two", "no disk")
    assert board.troubles() == {"two": "no disk"}
    assert board.troubles() == {}


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
