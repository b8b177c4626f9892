import json
import shutil
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
from mixnmatch_platform.registry import fetch_model
from mixnmatch_platform.tracking import Tracking

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("no_smoke")]

ACCURACY = "disentanglement_accuracy"
StartRun = Callable[..., str]


@pytest.fixture
def two(
    no_smoke: None,  # the module's mark comes after that of a test, and so after this
    run_promote: Callable[..., Promotion],
    train: StartRun,
    make_bundle: Callable[[Path], Path],
    tmp_path: Path,
) -> None:
    """Two champions after one another."""
    for name, value in (("first", 0.5), ("second", 0.6)):
        weights = make_bundle(tmp_path / name / "bundle")
        train(name, {ACCURACY: value}, weights=weights, reach=0.01)
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


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize("gone", [False, True])
def test_files_that_cannot_be_used_again_are_refused(
    tracking: Tracking, client: MlflowClient, gone: bool
) -> None:
    bundle = fetch_model("models:/demo/1")
    if gone:
        shutil.rmtree(bundle.parents[1])
        reason = "is not on this machine or was deleted"
    else:
        with (bundle / "model.safetensors").open("ab") as file:
            file.write(b"x")
        reason = "model.safetensors is damaged: its sha256"
    for dry_run in (True, False):
        with pytest.raises(
            ModelError, match=f"v1 of 'demo' cannot be champion again: .*{reason}"
        ) as caught:
            roll_back(tracking.uri, "demo", dry_run=dry_run)
        assert "\n" not in str(caught.value)
    assert len(client.search_model_versions("name = 'demo'")) == 2
    assert int(client.get_registered_model("demo").aliases["champion"]) == 2


@pytest.mark.usefixtures("two")
def test_the_way_back_is_known_before_the_alias_is(
    tracking: Tracking, client: MlflowClient
) -> None:
    source = client.get_model_version("demo", "1").source
    tags = {"mixnmatch.state": "waiting", "mixnmatch.replaced": "2"}
    client.create_model_version("demo", source, tags=tags, await_creation_for=0)
    client.set_registered_model_alias("demo", "champion", "3")  # and then its process dies
    assert [entry.version for entry in history(tracking.uri, "demo")] == [1, 2, 3]
    dry = roll_back(tracking.uri, "demo", dry_run=True)
    assert (dry.restores, dry.replaced) == (2, 3)


@pytest.mark.usefixtures("two")
def test_nothing_goes_back_to_itself(tracking: Tracking, client: MlflowClient) -> None:
    client.delete_model_version_tag("demo", "2", "mixnmatch.replaced")  # as of other means
    client.set_registered_model_alias("demo", "previous", "2")
    with pytest.raises(InputError, match="v2 of 'demo' is the champion: there is v1 to go back to"):
        roll_back(tracking.uri, "demo")


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
