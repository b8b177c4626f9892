import pickle
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mixnmatch.bundle import load_bundle
from mixnmatch.config import RunConfig
from mixnmatch.data.batches import evaluation_pictures
from mixnmatch.data.store import Dataset
from mixnmatch.errors import RunError
from mixnmatch.metrics import real_features
from mixnmatch.metrics.extractors import Extractor
from mixnmatch.metrics.measure import Observations, Subject, join, parts_of
from mixnmatch.metrics.real_features import RealFeatures


class Means(Extractor):
    """The mean of each colour."""

    name, key = "means", "0123"

    def features(self, images: Tensor, device: torch.device) -> dict[str, np.ndarray]:
        return {"features": images.mean(dim=(2, 3)).numpy()}


@pytest.fixture
def subject(
    tiny: RunConfig,
    tiny_bundle: Path,
    tiny_dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Subject:
    monkeypatch.setenv("MIXNMATCH_CACHE", str(tmp_path / "cache"))
    return Subject(bundle=load_bundle(tiny_bundle), dataset=tiny_dataset, config=tiny.evaluation)


def observed(preparation: RealFeatures, batch_size: int = 8) -> Observations:
    return join([preparation.observe(part) for part in parts_of(preparation.count, batch_size)])


def test_cached_is_uncached(subject: Subject) -> None:
    first = RealFeatures(subject, Means())
    rows = subject.dataset.indices("train")
    assert first.count == len(rows)
    assert first.load() is None
    seen = observed(first)
    images = evaluation_pictures(subject.dataset, rows, subject.image_size).images
    assert seen["features"] == pytest.approx(images.mean(dim=(2, 3)).numpy(), abs=1e-6)
    first.keep(seen)
    (file,) = first.file.parent.iterdir()
    assert file == first.file
    again = RealFeatures(subject, Means())
    assert again.count == 0
    kept = again.load()
    assert kept is not None
    assert kept.keys() == seen.keys()
    assert np.array_equal(kept["features"], seen["features"])
    assert kept["features"].dtype == np.float32


def test_parts_do_not_matter(subject: Subject) -> None:
    preparation = pickle.loads(pickle.dumps(RealFeatures(subject, Means(), "test")))
    assert preparation.count == len(subject.dataset.indices("test"))
    whole = observed(preparation, 1000)["features"]
    assert np.array_equal(whole, observed(preparation, 3)["features"])


def test_what_changes_a_feature_changes_the_file(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {RealFeatures(subject, Means()).file, RealFeatures(subject, Means(), "test").file}
    other = Means()
    other.key = "4567"
    files.add(RealFeatures(subject, other).file)
    info = replace(subject.dataset.info, fingerprint="another")
    monkeypatch.setattr(subject.dataset, "info", info)
    files.add(RealFeatures(subject, Means()).file)
    monkeypatch.undo()
    monkeypatch.setattr(real_features, "VIEWS_VERSION", 1000)
    files.add(RealFeatures(subject, Means()).file)
    model = replace(subject.bundle.config.model, image_size=64)
    larger = replace(subject.bundle, config=replace(subject.bundle.config, model=model))
    files.add(RealFeatures(replace(subject, bundle=larger), Means()).file)
    assert len(files) == 6


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-5])


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)


def _empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize("damage", [_cut, _flip, _empty])
def test_a_damaged_file_is_made_again(subject: Subject, damage: Callable[[Path], None]) -> None:
    preparation = RealFeatures(subject, Means())
    seen = observed(preparation)
    preparation.keep(seen)
    damage(preparation.file)
    assert preparation.load() is None
    assert preparation.count == len(subject.real_rows)
    preparation.keep(observed(preparation))
    kept = preparation.load()
    assert kept is not None
    assert np.array_equal(kept["features"], seen["features"])


def test_it_is_read_once_and_not_sent(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    preparation = RealFeatures(subject, Means(), "test")
    empty = len(pickle.dumps(preparation))
    preparation.keep(observed(preparation))
    kept = preparation.load()
    assert kept is not None
    preparation.file.unlink()
    assert preparation.load() is kept
    sent = pickle.dumps(preparation)
    assert len(sent) == empty
    again = pickle.loads(sent)
    assert again.file == preparation.file
    assert again.load() is None


def test_another_key_s_file_is_damaged(subject: Subject) -> None:
    train, test = RealFeatures(subject, Means()), RealFeatures(subject, Means(), "test")
    train.keep(observed(train))
    train.file.rename(test.file)
    assert test.load() is None


def test_writers_at_once_do_no_harm(subject: Subject) -> None:
    preparation = RealFeatures(subject, Means())
    seen = observed(preparation)
    failures: list[BaseException] = []

    def write() -> None:
        try:
            for _ in range(20):
                preparation.keep(seen)
                assert preparation.load() is not None
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [file.name for file in preparation.file.parent.iterdir()] == [preparation.file.name]


def test_what_cannot_be_written_leaves_nothing(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    preparation = RealFeatures(subject, Means())
    seen = observed(preparation)

    def full(arrays: object, file: Path, metadata: object) -> None:
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(real_features, "save_file", full)
    with pytest.raises(RunError, match=r"cannot be written .*No space.* MIXNMATCH_CACHE"):
        preparation.keep(seen)
    assert list(preparation.file.parent.iterdir()) == []
