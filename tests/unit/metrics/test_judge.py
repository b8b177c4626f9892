import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mixnmatch.data.batches import evaluation_pictures
from mixnmatch.data.factors import FactorSpec, draw_factor_dataset
from mixnmatch.data.store import Dataset, open_dataset, write_dataset
from mixnmatch.errors import DataError
from mixnmatch.metrics import judge as judging
from mixnmatch.metrics.disentanglement import FACTORS
from mixnmatch.metrics.judge import JudgeNetwork, chance_level, judge_kind, judge_rows, load_judge


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("MIXNMATCH_CACHE", str(folder))
    monkeypatch.setattr(judging, "BATCH_SIZE", 8)
    return folder


def test_a_judge_is_taught_once_and_is_a_function_of_its_seed(
    tiny_dataset: Dataset, cache: Path
) -> None:
    state = torch.get_rng_state()
    trained = load_judge(tiny_dataset, 32, steps=3)
    assert torch.equal(torch.get_rng_state(), state)
    (cached,) = cache.iterdir()
    written = cached.stat().st_mtime_ns
    loaded = load_judge(tiny_dataset, 32, steps=3)
    assert cached.stat().st_mtime_ns == written
    cached.unlink()
    torch.manual_seed(99)
    again = load_judge(tiny_dataset, 32, steps=3)
    torch.set_rng_state(state)
    weights = trained.network.state_dict()
    for other in (loaded, again):
        assert (other.kind, other.figures()) == (trained.kind, trained.figures())
        assert all(torch.equal(weights[k], v) for k, v in other.network.state_dict().items())
        assert not other.network.training
    # Another size, length or seed is another judge.
    for changed in ({"steps": 2}, {"steps": 3, "seed": 1}):
        load_judge(tiny_dataset, 32, **changed)
    load_judge(tiny_dataset, 64, steps=3)
    assert len(list(cache.iterdir())) == 4


def test_a_judge_says_how_good_it_is(judged: Dataset) -> None:
    judge = load_judge(judged, 32, steps=100)
    assert judge.kind == "factors"
    assert judge.held_out == 100  # a fifth of the judge's own pictures
    figures = judge.figures()
    assert figures.keys() == {"judge/held_out", *(f"judge/{name}" for name in FACTORS)}
    assert figures["judge/held_out"].value == 100
    # On pictures that it has not seen at all, of the split that is mixed.
    pictures = evaluation_pictures(judged, judged.indices("test"), 32)
    answers = judge.classify(pictures.images)
    assert pictures.factors is not None
    for name in FACTORS:
        figure = figures[f"judge/{name}"]
        assert figure.value == judge.accuracy[name] > 0.95
        assert figure.low is not None
        assert figure.high is not None
        assert figure.low < figure.value <= figure.high == pytest.approx(1, abs=0.02)
        assert (figure.chance, figure.count) == (judge.chance[name], 100)
        assert 0.2 < judge.chance[name] < 0.6
        right = (answers[name] == pictures.factors[name]).float().mean()
        assert right > 0.9


def test_an_untaught_judge_says_so(judged: Dataset, cache: Path) -> None:
    judge = load_judge(judged, 32, steps=1)
    for name in FACTORS:
        assert abs(judge.accuracy[name] - judge.chance[name]) < 0.3
    assert min(judge.accuracy.values()) < 0.6


def test_what_a_judge_can_be_taught(judged: Dataset, cache: Path) -> None:
    assert judge_kind(judged) == "factors"
    dataset = copy.copy(judged)
    dataset.info = replace(judged.info, factors=None, labels=4)
    assert judge_kind(dataset) == "labels"
    judge = load_judge(dataset, 32, steps=2)
    assert judge.figures().keys() == {"judge/label", "judge/held_out"}
    for labels in (None, 1):
        dataset.info = replace(judged.info, factors=None, labels=labels)
        assert judge_kind(dataset) is None
        with pytest.raises(DataError, match="has neither factors nor labels"):
            load_judge(dataset, 32, steps=1)


def test_a_judge_learns_from_pictures_drawn_for_it_where_there_are_some(
    judged: Dataset, spec: FactorSpec, tmp_path: Path
) -> None:
    assert judge_rows(judged).tolist() == judged.indices("judge").tolist()
    without = replace(spec, count=6, judge_count=0)
    out = tmp_path / "set"
    write_dataset(draw_factor_dataset(without), out, kind="factors", factors=spec.cardinalities)
    assert judge_rows(open_dataset(out)).tolist() == list(range(6))


def test_chance_is_the_share_of_pairs_that_agree() -> None:
    values = torch.tensor([0, 2, 2, 5, 0, 2])
    agree = (values[:, None] == values[None]).double().mean().item()
    assert chance_level(values) == pytest.approx(agree)
    assert chance_level(torch.full((4,), 3)) == 1


@pytest.mark.parametrize("side", [32, 64, 128, 256])
def test_a_judge_of_any_size_of_picture(side: int) -> None:
    network = JudgeNetwork({"shape": 3, "pose": 4}, side).eval()
    images = 2 * torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)) - 1
    with torch.no_grad():
        assert network.features(images).shape == (2, judging.FEATURES)
        assert [logits.shape for logits in network(images).values()] == [(2, 3), (2, 4)]
        if side > judging.LARGEST_SIDE:
            cells = side // judging.LARGEST_SIDE
            reduced = torch.nn.functional.avg_pool2d(images, cells)
            assert torch.allclose(network.features(reduced), network.features(images), atol=1e-5)


def test_jitter_moves_each_picture_by_itself() -> None:
    ramp = torch.linspace(-1, 1, 32).expand(6, 3, 32, 32)
    moved = judging._jitter(ramp, torch.Generator().manual_seed(0))
    assert moved.shape == ramp.shape
    # The middle columns tell the shift: at most two pixels of the 32.
    step = 2 / 31
    shifts = ((moved - ramp)[..., 4:-4].mean(dim=(1, 2, 3)) / step).numpy()
    assert np.abs(shifts - shifts.round()).max() < 0.1
    assert len(set(shifts.round())) > 1
    assert np.abs(shifts).max() < 2.1
    again = judging._jitter(ramp, torch.Generator().manual_seed(0))
    assert torch.equal(moved, again)
