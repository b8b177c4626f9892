import copy
import os
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from mixnmatch.bundle import load_bundle
from mixnmatch.config import EvaluationConfig, RunConfig
from mixnmatch.data.batches import EvaluationSet, evaluation_pictures
from mixnmatch.data.factors import FactorSpec, draw_factor_dataset, draw_picture
from mixnmatch.data.records import Factors
from mixnmatch.data.store import Dataset, open_dataset, write_dataset
from mixnmatch.data.views import centre_crop, prepare_views
from mixnmatch.errors import DataError, ModelError
from mixnmatch.metrics import judge as judging
from mixnmatch.metrics.disentanglement import FACTORS, disentanglement
from mixnmatch.metrics.evaluate import evaluate, metric_names
from mixnmatch.metrics.frechet import Gaussian, fit_gaussian, frechet_distance
from mixnmatch.metrics.inception import inception_features, load_inception
from mixnmatch.metrics.judge import Judge, judge_kind, load_judge
from mixnmatch.metrics.masks import inside_boxes, mask_contrast
from mixnmatch.mixer import Mixer

# Fréchet distance


def features(count: int, size: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, size)) @ rng.normal(size=(size, size)) + rng.normal(size=size)


def by_formula(first: Gaussian, second: Gaussian) -> float:
    root = scipy.linalg.sqrtm(first.covariance @ second.covariance).real
    spread = np.trace(first.covariance + second.covariance - 2 * root)
    return float(np.sum((first.mean - second.mean) ** 2) + spread)


@pytest.mark.parametrize(("count", "size"), [(50, 1), (80, 5), (300, 64)])
def test_frechet_distance_is_the_formula(count: int, size: int) -> None:
    first, second = (fit_gaussian(features(count, size, seed)) for seed in (0, 1))
    distance = frechet_distance(first, second)
    assert distance == pytest.approx(by_formula(first, second), rel=1e-6)
    assert distance == pytest.approx(frechet_distance(second, first), rel=1e-9)
    assert distance > 0


def test_equal_clouds_have_no_distance() -> None:
    cloud = fit_gaussian(features(200, 16, seed=3))
    scale = float(np.trace(cloud.covariance))
    assert frechet_distance(cloud, cloud) == pytest.approx(0, abs=1e-9 * scale)
    moved = Gaussian(cloud.mean + 2.0, cloud.covariance)
    assert frechet_distance(cloud, moved) == pytest.approx(16 * 4)


@pytest.mark.parametrize("count", [2, 5])
def test_fewer_pictures_than_dimensions(count: int) -> None:
    first, second = (fit_gaussian(features(count, 20, seed)) for seed in (0, 1))
    assert np.linalg.matrix_rank(first.covariance) < 20
    distance = frechet_distance(first, second)
    assert np.isfinite(distance)
    assert distance > 0
    scale = float(np.trace(first.covariance))
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-6 * scale)
    nothing = Gaussian(first.mean, np.zeros((20, 20)))
    assert frechet_distance(first, nothing) == pytest.approx(scale)


@pytest.mark.parametrize("shape", [(1, 4), (0, 4), (4,)])
def test_one_picture_is_no_cloud(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="at least two pictures"):
        fit_gaussian(np.zeros(shape))


def test_a_gaussian_is_mean_and_covariance() -> None:
    values = features(30, 3, seed=0)
    fitted = fit_gaussian(values.astype(np.float32))
    assert fitted.mean == pytest.approx(values.mean(axis=0), abs=1e-5)
    assert fitted.covariance == pytest.approx(np.cov(values.T), abs=1e-4)
    assert fitted.covariance.dtype == np.float64


# The judge, and mixes that it judges


@pytest.fixture(scope="module")
def judged(spec: FactorSpec, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Enough pictures to teach a judge."""
    out = tmp_path_factory.mktemp("judged") / "set"
    larger = replace(spec, count=100, judge_count=300)
    write_dataset(draw_factor_dataset(larger), out, kind="factors", factors=spec.cardinalities)
    return open_dataset(out)


@pytest.fixture(scope="module")
def judge(judged: Dataset) -> Iterator[Judge]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judging, "BATCH_SIZE", 32)
        yield load_judge(judged, 32, steps=90)


@pytest.fixture(scope="module")
def pictures(judged: Dataset) -> EvaluationSet:
    return evaluation_pictures(judged, judged.indices("test"), 32)


def test_a_cached_judge_is_the_trained_one(
    tiny_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIXNMATCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(judging, "BATCH_SIZE", 8)
    state = torch.get_rng_state()
    trained = load_judge(tiny_dataset, 32, steps=3)
    (cached,) = (tmp_path / "cache").iterdir()
    written = cached.stat().st_mtime_ns
    torch.manual_seed(99)
    loaded = load_judge(tiny_dataset, 32, steps=3)
    assert cached.stat().st_mtime_ns == written
    assert (loaded.kind, loaded.accuracy, loaded.held_out) == (
        trained.kind,
        trained.accuracy,
        trained.held_out,
    )
    left, right = trained.network.state_dict(), loaded.network.state_dict()
    assert left.keys() == right.keys()
    assert all(torch.equal(left[key], right[key]) for key in left)
    assert not loaded.network.training
    cached.unlink()
    again = load_judge(tiny_dataset, 32, steps=3)
    assert all(torch.equal(left[k], v) for k, v in again.network.state_dict().items())
    # Another size, length or seed is another judge.
    for changed in ({"steps": 2}, {"steps": 3, "seed": 1}):
        load_judge(tiny_dataset, 32, **changed)
    assert len(list((tmp_path / "cache").iterdir())) == 3
    torch.set_rng_state(state)


def test_a_judge_that_cannot_be_written_leaves_nothing(
    tiny_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIXNMATCH_CACHE", str(tmp_path))
    monkeypatch.setattr(judging, "BATCH_SIZE", 4)

    def full(state: object, file: Path) -> None:
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(judging, "save_file", full)
    with pytest.raises(OSError, match="No space"):
        load_judge(tiny_dataset, 32, steps=1)
    assert list(tmp_path.iterdir()) == []


def test_a_judge_says_how_good_it_is(judge: Judge, judged: Dataset) -> None:
    assert judge.kind == "factors"
    assert judge.accuracy.keys() == set(FACTORS)
    assert judge.held_out == 60  # a fifth of the judge's own pictures
    assert min(judge.accuracy.values()) > 0.8
    # On pictures that it has not seen at all, of the split that is mixed.
    rows = judged.indices("test")
    held_out = evaluation_pictures(judged, rows, 32)
    answers = judge.classify(held_out.images)
    assert held_out.factors is not None
    for name in FACTORS:
        right = (answers[name] == held_out.factors[name]).float().mean()
        assert abs(right.item() - judge.accuracy[name]) < 0.25


def test_what_a_judge_can_be_taught(judged: Dataset) -> None:
    assert judge_kind(judged) == "factors"
    dataset = copy.copy(judged)
    dataset.info = replace(judged.info, factors=None, labels=4)
    assert judge_kind(dataset) == "labels"
    assert "frechet_labels" in metric_names(dataset, EvaluationConfig())
    for labels in (None, 1):
        dataset.info = replace(judged.info, factors=None, labels=labels)
        assert judge_kind(dataset) is None
        with pytest.raises(DataError, match="has neither factors nor labels"):
            load_judge(dataset, 32, steps=1)


def test_labels_alone_give_a_distance_and_how_good_the_judge_is(
    tiny: RunConfig, tiny_bundle: Path, tiny_dataset: Dataset
) -> None:
    labelled = copy.copy(tiny_dataset)
    labelled.info = replace(tiny_dataset.info, factors=None, labels=4)
    bundle = load_bundle(tiny_bundle)
    figures = evaluate(bundle, labelled, tiny.evaluation)
    assert figures.keys() == metric_names(labelled, tiny.evaluation)
    assert figures["frechet_labels"] > 0
    judge = load_judge(labelled, 32, steps=tiny.evaluation.classifier_steps)
    assert figures["judge/label"] == judge.accuracy["label"]
    assert figures["judge/held_out"] == judge.held_out
    labels = np.array(labelled.column("label"))[labelled.indices("judge")]
    agree = (labels[:, None] == labels[None]).mean()
    assert figures["chance/label"] == pytest.approx(agree)
    assert "disentanglement_accuracy" not in figures
    bare = copy.copy(tiny_dataset)
    bare.info = replace(tiny_dataset.info, factors=None, labels=None)
    figures = evaluate(bundle, bare, tiny.evaluation)
    assert figures.keys() == metric_names(bare, tiny.evaluation)
    assert {"mask_contrast", "mask_contrast_parent"} < figures.keys()


class Source(Mixer):
    """A mixer that knows which pictures it is given."""

    def __init__(
        self, bundle: Path, dataset: Dataset, pictures: EvaluationSet, spec: FactorSpec
    ) -> None:
        super().__init__(load_bundle(bundle))
        self.spec = spec
        self.factors = {
            image.numpy().tobytes(): dataset[int(row)].factors
            for image, row in zip(pictures.images, dataset.indices("test"), strict=True)
        }

    def known(self, images: Tensor) -> list[Factors]:
        found = [self.factors[image.numpy().tobytes()] for image in images]
        return [factors for factors in found if factors is not None]


class PerfectMixer(Source):
    def mix_tensors(self, *, mode: str, **sources: Tensor) -> Tensor:
        rng = np.random.default_rng(0)
        known = {name: self.known(images) for name, images in sources.items()}
        if mode == "feature":
            known["pose"] = known["shape"]
        mixed = []
        for background, pose, shape, texture in zip(*(known[f] for f in FACTORS), strict=True):
            wanted = replace(
                pose,
                background=background.background,
                shape=shape.shape,
                texture=texture.texture,
            )
            mixed.append(self.draw(wanted, rng))
        return torch.cat(mixed)

    def draw(self, factors: Factors, rng: np.random.Generator) -> Tensor:
        # The object view: its surroundings, as the judge has learnt pictures.
        drawing = draw_picture(self.spec, factors, rng)
        views = prepare_views(drawing.image, drawing.box, 32)
        crop = centre_crop(views.object_pixels, views.object_box, 32)
        return torch.from_numpy(crop.pixels.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1


class Copier(Source):
    factor = "texture"

    def mix_tensors(self, *, mode: str, **sources: Tensor) -> Tensor:
        return sources[self.factor]


def measured(mixer: Any, judge: Judge, pictures: EvaluationSet, samples: int) -> dict[str, float]:
    return disentanglement(
        mixer,
        judge,
        pictures,
        samples=samples,
        batch_size=32,
        random=torch.Generator().manual_seed(0),
    )


def test_a_perfect_mixer_is_as_good_as_its_judge(
    judged: Dataset, judge: Judge, pictures: EvaluationSet, spec: FactorSpec, tiny_bundle: Path
) -> None:
    figures = measured(
        PerfectMixer(tiny_bundle, judged, pictures, spec), judge, pictures, samples=80
    )
    for name in FACTORS:
        for group in ("accuracy", "feature_accuracy"):
            assert figures[f"{group}/{name}"] > figures[f"judge/{name}"] - 0.2, (group, name)
    assert figures["disentanglement_accuracy"] > 0.85
    assert figures["feature_disentanglement_accuracy"] > 0.85
    assert figures["reconstruction_accuracy"] > 0.85
    assert figures["judge/held_out"] == 60
    mean = sum(figures[f"accuracy/{name}"] for name in FACTORS) / 4
    assert figures["disentanglement_accuracy"] == pytest.approx(mean)


@pytest.mark.parametrize("copied", FACTORS)
def test_a_mixer_that_copies_one_picture_gets_one_factor_right(
    copied: str,
    judged: Dataset,
    judge: Judge,
    pictures: EvaluationSet,
    spec: FactorSpec,
    tiny_bundle: Path,
) -> None:
    copier = Copier(tiny_bundle, judged, pictures, spec)
    copier.factor = copied
    figures = measured(copier, judge, pictures, samples=300)
    for name in FACTORS:
        figure, chance = figures[f"accuracy/{name}"], figures[f"chance/{name}"]
        if name == copied:
            assert figure > 0.75
        else:
            assert figure == pytest.approx(chance, abs=0.16), name
    # Feature mode takes the pose with the shape, so that is where it is looked for.
    if copied == "shape":
        assert figures["feature_accuracy/pose"] > 0.75
    assert figures["reconstruction_accuracy"] > 0.8


def test_chance_is_the_share_of_pairs_that_agree(
    judged: Dataset, judge: Judge, pictures: EvaluationSet, spec: FactorSpec, tiny_bundle: Path
) -> None:
    figures = measured(Copier(tiny_bundle, judged, pictures, spec), judge, pictures, samples=8)
    assert pictures.factors is not None
    for name, values in pictures.factors.items():
        agree = (values[:, None] == values[None]).double().mean().item()
        assert figures[f"chance/{name}"] == pytest.approx(agree)


# Masks


def test_inside_boxes() -> None:
    boxes = torch.tensor([[1.0, 0.0, 3.0, 2.0], [0.4, 1.6, 4.0, 4.0], [0.0, 0.0, 0.0, 0.0]])
    first, second, third = inside_boxes(boxes, 4)
    assert first[0].tolist() == [[0, 1, 1, 0]] * 2 + [[0] * 4] * 2
    assert second[0].tolist() == [[0] * 4, [0] * 4, [1] * 4, [1] * 4]
    assert not third.any()


@pytest.mark.parametrize(
    ("child", "parent", "expected"),
    [
        ("box", "box", (1.0, 1.0)),
        ("inverted", "box", (-1.0, 1.0)),
        ("box", "inverted", (1.0, -1.0)),
        ("all", "nothing", (0.0, 0.0)),
        ("half", "all", (0.5, 0.0)),
    ],
)
def test_mask_contrast(
    child: str,
    parent: str,
    expected: tuple[float, float],
    tiny_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    boxes = torch.tensor([[4.0, 6.0, 20.0, 30.0], [1.0, 1.0, 9.0, 5.0], [0.0, 8.0, 32.0, 16.0]])
    inside = inside_boxes(boxes, 32)
    masks = {
        "box": inside,
        "inverted": 1 - inside,
        "all": torch.ones_like(inside),
        "nothing": torch.zeros_like(inside),
        "half": inside / 2 + 0.25,
    }
    done = []

    def paint(images: Tensor) -> SimpleNamespace:
        start = sum(done)
        done.append(len(images))
        part = slice(start, start + len(images))
        return SimpleNamespace(child_mask=masks[child][part], parent_mask=masks[parent][part])

    bundle = load_bundle(tiny_bundle)
    monkeypatch.setattr(bundle.generator, "forward", paint)
    monkeypatch.setattr(bundle.encoders, "forward", lambda images: images)
    pictures = EvaluationSet(torch.zeros(3, 3, 32, 32), boxes, None, None, None)
    figures = mask_contrast(bundle, pictures, 2)
    assert done == [2, 1]
    assert figures["mask_contrast"] == pytest.approx(expected[0], abs=1e-6)
    assert figures["mask_contrast_parent"] == pytest.approx(expected[1], abs=1e-6)


# Inception


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the right names and shapes that are not those of FID."""
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    with pytest.MonkeyPatch.context() as patch:
        # The network loads what it is given at once: give it back what it begins with.
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        patch.setattr(torch, "load", lambda *_, **__: None)
        torch.manual_seed(0)
        network = FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048"], feature_extractor_weights_path="unread"
        )
    torch.save(network.state_dict(), path)
    return path


def test_inception_features(inception_weights: Path) -> None:
    network = load_inception(inception_weights)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    images = 2 * torch.rand(2, 3, 32, 32) - 1
    values = inception_features(network, images)
    assert values.shape == (2, 2048)
    assert torch.isfinite(values).all()
    assert not torch.equal(values[0], values[1])


def test_only_inception_features_give_a_fid(
    inception_weights: Path,
    tiny: RunConfig,
    tiny_bundle: Path,
    tiny_dataset: Dataset,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Of 2048 dimensions only some, as the root of so large a matrix takes many seconds.
    monkeypatch.setattr(
        "mixnmatch.metrics.evaluate.inception_features",
        lambda network, images: inception_features(network, images)[:, :32],
    )
    bundle = load_bundle(tiny_bundle)
    without = evaluate(bundle, tiny_dataset, tiny.evaluation)
    assert "fid" not in without
    assert without.keys() == metric_names(tiny_dataset, tiny.evaluation)
    config = replace(tiny.evaluation, inception_weights=str(inception_weights))
    figures = evaluate(bundle, tiny_dataset, config)
    assert figures.keys() == metric_names(tiny_dataset, config) == without.keys() | {"fid"}
    assert figures["fid"] > 0
    assert figures["evaluation/samples"] == figures["evaluation/real"] == 8
    assert evaluate(bundle, tiny_dataset, tiny.evaluation) == without
    assert evaluate(bundle, tiny_dataset, tiny.evaluation, seed=1) != without


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "empty", "tensor", "dict", "pickle"])
def test_other_files_are_not_inception(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    if kind == "folder":
        path.mkdir()
    elif kind in ("text", "empty"):
        path.write_text("hello" if kind == "text" else "")
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Bomb(tmp_path / "made")))
    elif kind != "missing":
        torch.save(torch.zeros(3) if kind == "tensor" else {"weight": torch.zeros(3)}, path)
    with pytest.raises(ModelError) as caught:
        load_inception(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "FID Inception weights" in message
    assert "\n" not in message
    assert not (tmp_path / "made").exists()
