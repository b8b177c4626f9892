import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mixnmatch.errors import InputError, RunError
from mixnmatch_platform.promotion import decisions
from mixnmatch_platform.promotion.decisions import Turn, take_turn
from mixnmatch_platform.promotion.history import history
from mixnmatch_platform.promotion.request import Promotion
from mixnmatch_platform.registry import named_version
from mixnmatch_platform.tracking import Tracking

pytestmark = pytest.mark.integration

ACCURACY = "disentanglement_accuracy"
AT_ONCE = 16


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(decisions, "BEAT_SECONDS", 0.2)


def crown(client: MlflowClient, name: str = "demo") -> int:
    with take_turn(client, name, source="x", run_id=None, tags={}, description="") as turn:
        turn.crown()
    return turn.version


@pytest.mark.usefixtures("no_smoke")
def test_of_many_promotions_at_once_the_best_one_wins(
    tracking: Tracking,
    client: MlflowClient,
    train: Callable[..., str],
    run_promote: Callable[..., Promotion],
) -> None:
    values = {f"run-{n:02}": 0.3 + 0.02 * (7 * n % AT_ONCE) for n in range(AT_ONCE)}
    for name, value in values.items():
        train(name, {ACCURACY: value}, reach=0.001)
    start = threading.Barrier(AT_ONCE)

    def promote(name: str) -> str:
        start.wait()
        try:
            return run_promote(run=name).outcome
        except InputError as error:
            return str(error)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = dict(zip(values, pool.map(promote, values), strict=True))

    entries = history(tracking.uri, "demo")
    promoted = {name for name, outcome in outcomes.items() if outcome == "promoted"}
    assert {entry.run_name for entry in entries} == promoted
    refused = [outcome for name, outcome in outcomes.items() if name not in promoted]
    assert all("gate better than the champion" in said for said in refused)
    # Each one was judged beside the one before it, and none slipped in between.
    best = [entry.value for entry in entries]
    assert best == sorted(best)
    assert best[-1] == max(values.values())
    numbers = [entry.version for entry in entries]
    assert [entry.replaced for entry in entries] == [None, *numbers[:-1]]
    assert [entry.version for entry in entries if "champion" in entry.aliases] == [numbers[-1]]
    # And nothing is left that waits.
    assert len(client.search_model_versions("name = 'demo'")) == len(entries)


def test_a_decision_waits_for_earlier_ones(client: MlflowClient) -> None:
    order = []
    counts: list[int] = []

    def second() -> None:
        with take_turn(
            client, "demo", source="x", run_id=None, tags={}, description="", waiting=counts.append
        ):
            order.append("second")

    with take_turn(client, "demo", source="x", run_id=None, tags={}, description="") as turn:
        thread = threading.Thread(target=second)
        thread.start()
        while not counts:
            thread.join(0.05)
        order.append("first")
        turn.crown()
    thread.join(20)
    assert order == ["first", "second"]
    assert counts == [1]


def test_what_is_not_decided_leaves_nothing(client: MlflowClient) -> None:
    first = crown(client)
    with (
        pytest.raises(KeyError),
        take_turn(client, "demo", source="x", run_id=None, tags={}, description=""),
    ):
        raise KeyError
    assert [int(v.version) for v in client.search_model_versions("name = 'demo'")] == [first]
    assert crown(client) == first + 2  # numbers are never used twice


@pytest.mark.parametrize("had_set_the_alias", [False, True])
def test_a_dead_process_holds_nobody_up(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, had_set_the_alias: bool
) -> None:
    monkeypatch.setattr(decisions, "PATIENCE_SECONDS", 0.5)
    client.create_registered_model("demo")
    waiting = {"mixnmatch.state": "waiting", "mixnmatch.pulse": "7"}
    dead = client.create_model_version("demo", "x", tags=waiting, await_creation_for=0)
    if had_set_the_alias:
        client.set_registered_model_alias("demo", "champion", dead.version)
    assert crown(client) == 2
    left = {int(v.version): v.tags for v in client.search_model_versions("name = 'demo'")}
    assert sorted(left) == ([1, 2] if had_set_the_alias else [2])
    assert left[2]["mixnmatch.replaced"] == ("1" if had_set_the_alias else "")
    if not had_set_the_alias:  # it wakes up, and has lost its right
        with pytest.raises(Exception, match="not found"):
            Turn(client, "demo", 1).crown()
        assert int(client.get_registered_model("demo").aliases["champion"]) == 2


def break_calls(
    patch: pytest.MonkeyPatch,
    method: str,
    value: str,
    error: BaseException,
    *,
    times: int = 1,
    after: bool = False,
) -> None:
    """Let calls with a value fail, or do their work and only their answers be lost."""
    whole, left = getattr(MlflowClient, method), [times]

    def broken(client: MlflowClient, *arguments: str) -> None:
        fails = value in arguments and left[0] > 0
        if after or not fails:
            whole(client, *arguments)
        if fails:
            left[0] -= 1
            raise error

    patch.setattr(MlflowClient, method, broken)


def states(client: MlflowClient) -> dict[int, str]:
    versions = client.search_model_versions("name = 'demo'")
    return {int(version.version): version.tags["mixnmatch.state"] for version in versions}


AWAY = MlflowException("the store is away")
ALIAS, TAG = "set_registered_model_alias", "set_model_version_tag"


@pytest.mark.parametrize(
    ("method", "value", "error", "after"),
    [
        (ALIAS, "champion", KeyboardInterrupt(), True),
        (ALIAS, "champion", AWAY, True),
        (ALIAS, "previous", KeyboardInterrupt(), False),
        (ALIAS, "previous", AWAY, False),
        (TAG, "champion", KeyboardInterrupt(), False),
        (TAG, "champion", AWAY, False),
    ],
)
def test_whatever_fails_after_the_alias_there_is_a_champion(
    tracking: Tracking,
    client: MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    value: str,
    error: BaseException,
    after: bool,
) -> None:
    monkeypatch.setattr(decisions, "PATIENCE_SECONDS", 0.5)
    crown(client)
    stays_away = error is AWAY and not after
    with monkeypatch.context() as patch:
        break_calls(patch, method, value, error, times=9 if stays_away else 1, after=after)
        with pytest.raises((type(error), RunError)) as caught:
            crown(client)
    if stays_away:
        assert str(caught.value).startswith("demo v2 is champion now, but was not marked so: ")
    assert states(client) == {1: "champion", 2: "waiting" if stays_away else "champion"}
    # Who uses it sees no difference, and whoever decides next completes the history.
    for uri in ("models:/demo@champion", "models:/demo/2", "models:/demo"):
        assert int(named_version(uri, tracking.uri).version) == 2
    assert crown(client) == 3
    assert states(client) == dict.fromkeys((1, 2, 3), "champion")
    assert [entry.replaced for entry in history(tracking.uri, "demo")] == [None, 1, 2]
    aliases = client.get_registered_model("demo").aliases
    assert {alias: int(version) for alias, version in aliases.items()} == {
        "champion": 3,
        "previous": 2,
    }


def test_an_alias_that_may_be_on_its_way_is_left_to_the_next(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions, "PATIENCE_SECONDS", 0.5)
    crown(client)
    with monkeypatch.context() as patch:
        break_calls(patch, ALIAS, "champion", KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            crown(client)
    assert states(client) == {1: "champion", 2: "waiting"}
    assert crown(client) == 3
    assert states(client) == {1: "champion", 3: "champion"}


@pytest.mark.parametrize("stays_away", [False, True])
def test_an_interrupted_candidate_stays(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, stays_away: bool
) -> None:
    monkeypatch.setattr(decisions, "PATIENCE_SECONDS", 0.5)
    crown(client)
    with monkeypatch.context() as patch:
        break_calls(patch, TAG, "candidate", AWAY, times=9 if stays_away else 1)
        with (
            pytest.raises(RunError, match="demo v2 is candidate now, but was not marked so"),
            take_turn(client, "demo", source="x", run_id=None, tags={}, description="") as turn,
        ):
            turn.put_up()
    assert states(client)[2] == ("waiting" if stays_away else "candidate")
    crown(client)
    assert states(client) == {1: "champion", 2: "candidate", 3: "champion"}
    assert int(client.get_registered_model("demo").aliases["candidate"]) == 2


@pytest.mark.parametrize("previous_is_there", [False, True])
def test_what_a_killed_process_left_to_do_is_done(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, previous_is_there: bool
) -> None:
    monkeypatch.setattr(decisions, "PATIENCE_SECONDS", 0.5)
    crown(client)
    crown(client)
    tags = {"mixnmatch.state": "waiting", "mixnmatch.replaced": "2"}
    client.create_model_version("demo", "x", tags=tags, await_creation_for=0)
    client.set_registered_model_alias("demo", "champion", "3")
    if not previous_is_there:
        client.delete_model_version("demo", "2")
    with (
        pytest.raises(KeyError),
        take_turn(client, "demo", source="x", run_id=None, tags={}, description=""),
    ):
        raise KeyError
    assert states(client)[3] == "champion"
    aliases = client.get_registered_model("demo").aliases
    assert int(aliases["previous"]) == (2 if previous_is_there else 1)


def test_a_process_that_was_taken_for_dead_says_so(client: MlflowClient) -> None:
    with take_turn(client, "demo", source="x", run_id=None, tags={}, description="") as turn:
        said: list[BaseException] = []

        def second() -> None:
            try:
                crown(client)
            except RunError as error:
                said.append(error)

        thread = threading.Thread(target=second)
        thread.start()
        while len(versions := client.search_model_versions("name = 'demo'")) < 2:
            thread.join(0.05)
        client.delete_model_version("demo", str(max(int(v.version) for v in versions)))
        thread.join(20)
        turn.crown()
    assert "was deleted while it waited" in str(said[0])
