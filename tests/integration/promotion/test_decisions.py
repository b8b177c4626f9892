import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from mlflow import MlflowClient

from mixnmatch.errors import InputError, RunError
from mixnmatch_platform.promotion import decisions
from mixnmatch_platform.promotion.decisions import Turn, take_turn
from mixnmatch_platform.promotion.history import history
from mixnmatch_platform.promotion.request import Promotion
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
