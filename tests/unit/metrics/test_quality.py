import copy
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from random_inception import save_random_inception
from torch import Tensor

from mixnmatch.bundle import load_bundle
from mixnmatch.config import RunConfig
from mixnmatch.data.batches import evaluation_pictures
from mixnmatch.data.store import Dataset
from mixnmatch.errors import DataError
from mixnmatch.files import checksum
from mixnmatch.metrics import distances, extractors, weights
from mixnmatch.metrics.distances import (
    feature_figures,
    figure_name,
    inception_score,
    kernel_distance,
    precision_recall,
)
from mixnmatch.metrics.figures import Figures
from mixnmatch.metrics.frechet import fit_gaussian, frechet_distance
from mixnmatch.metrics.inception import load_inception
from mixnmatch.metrics.measure import Observations, Subject, join, parts_of
from mixnmatch.metrics.quality import QualityMeasure
from mixnmatch.sheets import to_picture

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from measures import measure


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_inception(tmp_path_factory.mktemp("inception") / "weights.pth")


# Beside the reference


def test_figures_are_those_of_torch_fidelitys_command(
    inception: Path, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    """Layer 768 for the Fréchet distance: at 2048 the command's own root takes minutes."""
    images = evaluation_pictures(tiny_dataset, range(48), 32).images
    noise = torch.randn(24, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    clouds = {"generated": (images[:24] + 0.2 * noise).clamp(-1, 1), "real": images[24:]}
    for name, cloud in clouds.items():
        (tmp_path / name).mkdir()
        for number, image in enumerate(cloud):
            to_picture(image).save(tmp_path / name / f"{number:03}.png")
    command = [sys.executable, "-m", "torch_fidelity.fidelity", "--json", "--silent"]
    command += ["--cpu", "--no-cache", "--isc", "--fid", "--kid", "--prc"]
    command += ["--input1", "generated", "--input2", "real", "--kid-subset-size", "24"]
    command += ["--feature-extractor", "inception-v3-compat", "--feature-layer-fid", "768"]
    command += ["--feature-extractor-weights-path", str(inception)]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    reference = json.loads(ran.stdout)
    network = load_inception(inception)
    network.features_list = ["768", "2048", "logits_unbiased"]
    middle, features, logits = [], [], []
    for cloud in clouds.values():
        pixels = ((cloud + 1) * 127.5).round().to(torch.uint8)
        seen = [array.numpy() for array in network(pixels)]
        for kept, values in zip((middle, features, logits), seen, strict=True):
            kept.append(values)
    distance = frechet_distance(*(fit_gaussian(each) for each in middle))
    assert distance == pytest.approx(reference["frechet_inception_distance"], rel=1e-4)
    kernel = kernel_distance(*features)
    assert kernel.value == pytest.approx(reference["kernel_inception_distance_mean"], rel=1e-4)
    score = inception_score(logits[0])
    assert score.value == pytest.approx(reference["inception_score_mean"], rel=1e-4)
    precision, recall = precision_recall(*features)
    assert precision.value == pytest.approx(reference["precision"], abs=1e-6)
    assert recall.value == pytest.approx(reference["recall"], abs=1e-6)
    # The same with the root that the definition has, where no covariance is singular.
    first, second = (fit_gaussian(each[:, :12]) for each in middle)
    root = scipy.linalg.sqrtm(first.covariance @ second.covariance).real
    spread = np.trace(first.covariance + second.covariance - 2 * root)
    by_formula = np.sum((first.mean - second.mean) ** 2) + spread
    assert frechet_distance(first, second) == pytest.approx(by_formula, rel=1e-4)


# Known answers


def cloud(count: int, seed: int, shift: float = 0.0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (random.normal(size=(count, 6)) + shift).astype(np.float32)


def test_a_set_beside_itself() -> None:
    figures = feature_figures("factors", cloud(200, 0), cloud(200, 0), cloud(100, 1))
    assert figures["frechet_factors_200"].value == pytest.approx(0, abs=1e-9)
    assert figures["precision_factors_200"].value == 1
    assert figures["recall_factors_200"].value == 1
    assert figures["authenticity_factors"].value == 0
    chance = figures["authenticity_factors"].chance
    assert chance is not None
    assert 0.4 < chance < 0.95


def test_a_cloud_of_the_same_kind_and_one_that_lies_elsewhere() -> None:
    real = cloud(300, 0)
    same, moved = (feature_figures("x", cloud(300, 1, shift), real) for shift in (0.0, 5.0))
    assert moved["frechet_x_300"].value == pytest.approx(6 * 25, rel=0.1)
    assert moved["kid_x_300"].value > 100 * abs(same["kid_x_300"].value)
    assert same["precision_x_300"].value > 0.7
    assert moved["precision_x_300"].value == moved["recall_x_300"].value == 0
    assert same["authenticity_x"].chance is None


def test_the_interval_of_the_kernel_distance_holds() -> None:
    truth = kernel_distance(cloud(1500, 1000, 0.6), cloud(1500, 1001)).value
    held = 0
    widths, values = [], []
    for seed in range(60):
        figure = kernel_distance(cloud(120, seed, 0.6), cloud(150, 500 + seed))
        assert figure.low is not None
        assert figure.high is not None
        held += figure.low <= truth <= figure.high
        widths.append((figure.high - figure.low) / 2 / 1.96)
        values.append(figure.value)
    assert held >= 51  # of 57 that are expected
    assert np.mean(widths) == pytest.approx(np.std(values), rel=0.35)


def test_the_kernel_distance_takes_the_reference_subsets(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = cloud(60, 0, 1.0), cloud(80, 1)
    whole = kernel_distance(first, second)
    monkeypatch.setattr(distances, "_CHUNK", 7)
    parts = kernel_distance(first, second)
    assert (parts.value, parts.low) == pytest.approx((whole.value, whole.low))
    monkeypatch.setattr(distances, "KID_SUBSET_SIZE", 20)
    small = kernel_distance(first, second)
    assert small.value != whole.value
    assert small.value == pytest.approx(whole.value, rel=0.2)


def test_inception_score_of_known_answers() -> None:
    sure = 100 * np.eye(5, dtype=np.float32)[np.arange(2000) % 5]
    assert inception_score(sure).value == pytest.approx(5, rel=0.05)
    assert inception_score(np.zeros((40, 5), np.float32)).value == pytest.approx(1)


def test_balls_need_neighbours() -> None:
    with pytest.raises(DataError, match=r"4 generated and 30 real pictures: .* at least 5 of each"):
        feature_figures("x", cloud(4, 0), cloud(30, 1))


def test_only_fid_weights_give_bare_names() -> None:
    assert figure_name("frechet", "inception") == "fid"
    assert figure_name("kid", "inception") == "kid"
    assert figure_name("precision", "inception") == "precision_inception"
    assert figure_name("frechet", "inception_ab12cd34") == "frechet_inception_ab12cd34"
    assert figure_name("inception_score", "inception_ab") == "inception_score_inception_ab"


def test_spoilt_pictures_move_each_measure_the_right_way(tmp_path: Path) -> None:
    table = measure(60, tmp_path / "set", judge_steps=150)
    plain = table["none"]
    steps = ["none", "noise σ 0.05", "noise σ 0.1", "noise σ 0.2"]
    blurs = ["none", "blur σ 1 px", "blur σ 2 px"]
    fewer = ["none", "half of the textures", "a quarter of the textures"]
    for road in (steps, blurs, fewer):
        for name in ("frechet_factors", "kid_factors"):
            values = [table[each][name] for each in road]
            assert values == sorted(values), (name, road)
    for name in ("precision_factors", "recall_factors"):
        assert table["blur σ 2 px"][name] < plain[name] - 0.2
    for share, each in ((0.5, fewer[1]), (0.25, fewer[2])):
        assert table[each]["coverage/modes_texture"] == pytest.approx(share, abs=0.13)
        assert table[each]["coverage/kl_uniform_texture"] == pytest.approx(-np.log(share), abs=0.3)
        assert table[each]["recall_factors"] < plain["recall_factors"] - 0.2
        assert table[each]["precision_factors"] > 0.7  # what there is is good
    assert plain["coverage/modes_texture"] == 1
    assert plain["coverage/kl_uniform_texture"] < 0.3
    # Only authenticity tells copies from good pictures.
    assert table["memorised"]["frechet_factors"] < plain["frechet_factors"]
    assert table["memorised"]["authenticity_factors"] == 0 < plain["authenticity_factors"] - 0.15
    collapsed = table["one picture a texture"]
    assert collapsed["ms_ssim"] == pytest.approx(1)
    assert plain["ms_ssim"] < 0.5
    assert collapsed["recall_factors"] < plain["recall_factors"] - 0.5
    assert collapsed["coverage/modes_texture"] > 0.7  # which coverage of categories cannot see


# The measure


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inception in name alone: a few random sums of pixels."""

    def sums(network: object, images: Tensor) -> tuple[Tensor, Tensor]:
        random = torch.Generator().manual_seed(0)
        many = torch.randn(3 * 32 * 32, 12 + 20, generator=random)
        return (images.flatten(1) @ many).split((12, 20), dim=1)

    monkeypatch.setattr(extractors, "inception_features", sums)


@pytest.fixture
def subject(tiny: RunConfig, tiny_bundle: Path, tiny_dataset: Dataset) -> Subject:
    config = replace(tiny.evaluation, samples=20)
    return Subject(bundle=load_bundle(tiny_bundle), dataset=tiny_dataset, config=config)


def observed(measure: QualityMeasure, batch_size: int = 8) -> Observations:
    for preparation in measure.needs():
        if preparation.count:
            parts = parts_of(preparation.count, batch_size)
            preparation.keep(join([preparation.observe(part) for part in parts]))
    return join([measure.observe(part) for part in parts_of(measure.count, batch_size)])


def measured(subject: Subject) -> Figures:
    measure = QualityMeasure(subject)
    return measure.figures(observed(measure))


def test_figures_have_the_names_that_are_promised(
    subject: Subject, inception: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = measured(subject)
    assert figures.keys() == QualityMeasure.names(subject.dataset, subject.config)
    assert figures.keys() == {
        "evaluation/samples",
        "evaluation/real",
        "frechet_factors_20",
        "kid_factors_20",
        "precision_factors_20",
        "recall_factors_20",
        "authenticity_factors",
        "coverage/kl_uniform_texture_20",
        "coverage/modes_texture_20",
    }
    assert figures["evaluation/real"].value == len(subject.dataset.indices("train"))
    config = replace(subject.config, inception_weights=str(inception))
    more = measured(replace(subject, config=config))
    assert more.keys() == QualityMeasure.names(subject.dataset, config)
    own = f"inception_{checksum(inception)[:8]}"
    assert more.keys() - figures.keys() == {
        f"frechet_{own}_20",
        f"kid_{own}_20",
        f"inception_score_{own}_20",
        f"precision_{own}_20",
        f"recall_{own}_20",
        f"authenticity_{own}",
    }
    assert {name: more[name] for name in figures} == figures
    # As if these were the weights of FID.
    monkeypatch.setattr(weights, "FID_SHA256", checksum(inception)[:8])
    assert {"fid_20", "kid_20", "inception_score_20"} < measured(
        replace(subject, config=config)
    ).keys()


def test_labels_alone_and_nothing_at_all(subject: Subject, quick: None, inception: Path) -> None:
    labelled, bare = (copy.copy(subject.dataset) for _ in range(2))
    labelled.info = replace(labelled.info, factors=None, labels=4)
    figures = measured(replace(subject, dataset=labelled))
    assert figures.keys() == QualityMeasure.names(labelled, subject.config)
    assert {"frechet_labels_20", "coverage/modes_label_20"} < figures.keys()
    bare.info = replace(bare.info, factors=None, labels=None)
    assert QualityMeasure.names(bare, subject.config) == set()
    config = replace(subject.config, inception_weights=str(inception))
    figures = measured(replace(subject, dataset=bare, config=config))
    assert figures.keys() == QualityMeasure.names(bare, config)
    assert not any(name.startswith("coverage") for name in figures)


def test_the_same_seed_gives_the_same_figures(subject: Subject) -> None:
    measure = QualityMeasure(subject)
    assert [*map(id, measure.needs())] == [*map(id, measure.needs())]
    figures = measured(subject)  # with features from the cache or not
    assert measured(subject) == figures
    assert measured(replace(subject, seed=1)) != figures


def test_workers_see_what_one_process_sees(subject: Subject, quick: None, inception: Path) -> None:
    config = replace(subject.config, inception_weights=str(inception))
    measure = QualityMeasure(replace(subject, config=config))
    whole = observed(measure)
    sent = pickle.dumps(QualityMeasure(measure.subject))
    parts = [pickle.loads(sent).observe(part) for part in parts_of(20, 8)]
    assert all(np.array_equal(whole[name], join(parts)[name]) for name in whole)
    assert len(pickle.dumps(measure)) < 20_000_000  # it has not got the weights of Inception
    assert all(len(values) == 20 for values in whole.values())


def test_without_held_out_pictures_there_is_no_chance(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert measured(subject)["authenticity_factors"].chance is not None
    indices: Callable[..., np.ndarray] = subject.dataset.indices
    without = copy.copy(subject.dataset)
    monkeypatch.setattr(
        without, "indices", lambda s=None: indices(s) if s != "test" else np.array([], np.int64)
    )
    assert measured(replace(subject, dataset=without))["authenticity_factors"].chance is None


def test_pictures_behind_the_figures(subject: Subject) -> None:
    measure = QualityMeasure(subject)
    samples, near, far = measure.exhibits(observed(measure))
    assert all(each.picture is not None and each.caption for each in (samples, near, far))
    # 20 samples in lines of 12, with a title; 8 pictures over 8.
    assert samples.picture is not None
    assert near.picture is not None
    assert samples.picture.height == 34 + 2 * 64 + 2
    assert near.picture.size == (175 + 8 * 66 - 2, 34 + 2 * 66 - 2)


def test_copies_of_training_pictures_are_found(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = subject.read(subject.real_rows[:20]).images
    monkeypatch.setattr(QualityMeasure, "_painted", lambda _, cases: real[cases])
    measure = QualityMeasure(subject)
    figures = measure.figures(observed(measure))
    assert figures["authenticity_factors"].value == 0
    assert figures["precision_factors_20"].value == 1
