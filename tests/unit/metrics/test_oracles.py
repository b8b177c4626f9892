import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mixnmatch.errors import RunError
from mixnmatch.metrics import oracles
from mixnmatch.metrics.oracles import load_or_train, oracle_file, weights_digest

MEASURED = {"accuracy": {"shape": 0.1 + 0.2}, "held_out": 7, "names": ["a", None]}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("MIXNMATCH_CACHE", str(folder))
    return folder


class Teacher:
    """Sets a network's weights, and counts how often it has to."""

    def __init__(self, outputs: int = 2) -> None:
        self.lessons = 0
        self.outputs = outputs

    def __call__(self, *key: object, name: str = "judge") -> tuple[nn.Module, dict[str, Any]]:
        network = nn.Sequential(nn.Linear(3, self.outputs), nn.BatchNorm1d(self.outputs))

        def train() -> dict[str, Any]:
            self.lessons += 1
            nn.init.constant_(network[0].weight, 0.25)
            nn.init.constant_(network[0].bias, -1.5)
            network(torch.arange(12.0).view(4, 3))
            return MEASURED

        return network, load_or_train(oracle_file(name, key), network, train)


def same(left: nn.Module, right: nn.Module) -> bool:
    a, b = left.state_dict(), right.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_what_is_cached_is_what_was_trained(cache: Path) -> None:
    teacher = Teacher()
    trained, measured = teacher(1, "data", 32)
    loaded, again = teacher(1, "data", 32)
    assert teacher.lessons == 1
    assert measured == again == MEASURED
    assert same(trained, loaded)
    assert weights_digest(trained) == weights_digest(loaded) != weights_digest(nn.Linear(3, 2))
    for network in (trained, loaded):
        assert not network.training
        assert not any(weight.requires_grad for weight in network.parameters())
    assert [file.name for file in cache.iterdir()] == [next(cache.glob("judge-*.safetensors")).name]


def test_another_key_or_name_is_another_network(cache: Path) -> None:
    teacher = Teacher()
    teacher(1, "data", 32)
    for key, name in (((2, "data", 32), "judge"), ((1, "data"), "judge"), ((1, "data", 32), "b")):
        teacher(*key, name=name)
    assert teacher.lessons == len(list(cache.iterdir())) == 4


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-3])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def text(file: Path) -> None:
    file.write_text("hello")


def without(file: Path, *, measured: bool) -> None:
    state = load_file(file)
    del state[oracles._MEASURED if measured else "0.bias"]
    save_file(state, file)


def unmeasured(file: Path) -> None:
    without(file, measured=True)


def incomplete(file: Path) -> None:
    without(file, measured=False)


def no_table(file: Path) -> None:
    state = load_file(file)
    state[oracles._MEASURED] = torch.tensor(list(b"[1]"), dtype=torch.uint8)
    save_file(state, file)


def no_json(file: Path) -> None:
    state = load_file(file)
    state[oracles._MEASURED] = torch.tensor(list(json.dumps(MEASURED).encode()[:-1]))
    save_file(state, file)


@pytest.mark.parametrize("damage", [cut, empty, text, unmeasured, incomplete, no_table, no_json])
def test_a_damaged_file_is_replaced(damage: Callable[[Path], None], cache: Path) -> None:
    teacher = Teacher()
    trained, _ = teacher(1)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    damage(file)
    again, measured = teacher(1)
    assert teacher.lessons == 2
    assert measured == MEASURED
    assert same(trained, again)
    assert file.read_bytes() == whole
    teacher(1)
    assert teacher.lessons == 2


def test_a_file_of_another_network_leaves_this_one_as_it_was(cache: Path) -> None:
    Teacher()(1)
    (file,) = cache.iterdir()
    network = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert oracles._read(file, network) is None
    assert all(torch.equal(before[name], now) for name, now in network.state_dict().items())


def test_writers_at_once_do_no_harm(cache: Path) -> None:
    def lesson(_: int) -> nn.Module:
        return Teacher()(1)[0]

    with ThreadPoolExecutor(8) as pool:
        first, *others = pool.map(lesson, range(32))
    assert all(same(first, other) for other in others)
    assert len(list(cache.iterdir())) == 1
    late = Teacher()
    assert same(first, late(1)[0])
    assert late.lessons == 0


def test_no_room_is_said_and_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(state: object, file: Path) -> None:
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(oracles, "save_file", full)
    with pytest.raises(RunError, match=r"judge-\w+\.safetensors: .*No space.*MIXNMATCH_CACHE"):
        Teacher()(1)
    assert list(cache.iterdir()) == []


def test_a_file_in_the_way_of_the_cache_is_said(cache: Path) -> None:
    cache.write_text("no folder")
    with pytest.raises(RunError, match="cannot be kept there"):
        Teacher()(1)
