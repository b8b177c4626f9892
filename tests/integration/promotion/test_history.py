import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from mixnmatch.errors import InputError, ModelError
from mixnmatch.mixer import Mixer
from mixnmatch_platform import cli
from mixnmatch_platform.promotion.decisions import who
from mixnmatch_platform.promotion.history import history, roll_back
from mixnmatch_platform.promotion.request import Promotion
from mixnmatch_platform.tracking import Tracking

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("no_smoke")]

ACCURACY = "disentanglement_accuracy"
StartRun = Callable[..., str]


@pytest.fixture
def two(
    run_promote: Callable[..., Promotion],
    train: StartRun,
    make_bundle: Callable[[Path], Path],
    tmp_path: Path,
) -> None:
    """Two champions after one another."""
    for name, value in (("first", 0.5), ("second", 0.6)):
        train(name, {ACCURACY: value}, weights=make_bundle(tmp_path / name / "bundle"))
        run_promote(why=f"the {name}")


def painted() -> torch.Tensor:
    mixer = Mixer.from_pretrained("models:/demo@champion")
    images = 2 * torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) - 1
    return mixer.mix_tensors(background=images, pose=images, shape=images, texture=images)


@pytest.mark.usefixtures("two")
def test_a_rollback_paints_what_the_earlier_champion_did(
    tracking: Tracking, client: MlflowClient
) -> None:
    second = painted()
    dry = roll_back(tracking.uri, "demo", dry_run=True)
    assert (dry.version, dry.restores, dry.replaced) == (None, 1, 2)
    assert len(client.search_model_versions("name = 'demo'")) == 2

    done = roll_back(tracking.uri, "demo", why="grey tails")
    assert (done.version, done.restores, done.replaced) == (3, 1, 2)
    first = painted()
    assert not torch.equal(first, second)
    back = roll_back(tracking.uri, "demo")
    assert (back.version, back.restores) == (4, 2)
    assert torch.equal(painted(), second)
    assert roll_back(tracking.uri, "demo", to=1).version == 5
    assert torch.equal(painted(), first)


@pytest.mark.usefixtures("two")
def test_the_history_says_who_when_from_where_and_why(
    tracking: Tracking, capsys: pytest.CaptureFixture[str]
) -> None:
    roll_back(tracking.uri, "demo", why="grey tails")
    entries = history(tracking.uri, "demo")
    assert [(e.version, e.action, e.replaced, e.restores) for e in entries] == [
        (1, "promotion", None, None),
        (2, "promotion", 1, None),
        (3, "rollback", 2, 1),
    ]
    assert [entry.aliases for entry in entries] == [[], ["previous"], ["champion"]]
    assert [entry.run_name for entry in entries] == ["first", "second", "first"]
    assert [entry.value for entry in entries] == [0.5, 0.6, 0.5]
    assert [entry.why for entry in entries] == ["the first", "the second", "grey tails"]
    assert {entry.by for entry in entries} == {who()}
    assert all(entry.at.startswith("20") for entry in entries)

    assert cli.main(["history", "demo"]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[1].startswith("v3 (champion)  rollback to v1")
    assert cli.main(["history", "demo", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 3
    assert cli.main(["rollback", "demo", "--dry-run"]) == 0
    assert capsys.readouterr().out == ("would make v2 of demo champion again in place of v3\n")


def test_no_way_back_is_told(
    tracking: Tracking, run_promote: Callable[..., Promotion], train: StartRun
) -> None:
    with pytest.raises(ModelError, match=r"no model 'demo' .* there is none yet"):
        history(tracking.uri, "demo")
    train("first", {ACCURACY: 0.5})
    run_promote()
    with pytest.raises(InputError, match="v1 is the first champion of 'demo': nothing"):
        roll_back(tracking.uri, "demo")
    with pytest.raises(InputError, match="v1 of 'demo' is the champion: there is none"):
        roll_back(tracking.uri, "demo", to=1)
    with pytest.raises(InputError, match="v7 of 'demo' does not exist"):
        roll_back(tracking.uri, "demo", to=7)
