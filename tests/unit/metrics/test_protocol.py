import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from mixnmatch.bundle import load_bundle
from mixnmatch.config import EvaluationConfig
from mixnmatch.data.store import Dataset
from mixnmatch.data.views import prepare_views
from mixnmatch.metrics.figures import FULL_SAMPLES, sized
from mixnmatch.metrics.measure import Subject
from mixnmatch.metrics.protocol import PROTOCOLS, describe, protocol_name
from mixnmatch.settings import override


@pytest.fixture
def subject(tiny_bundle, tiny_dataset: Dataset) -> Subject:
    return Subject(
        bundle=load_bundle(tiny_bundle),
        dataset=tiny_dataset,
        config=EvaluationConfig(samples=10, classifier_steps=3),
        seed=5,
    )


def test_the_protocols_and_the_names_of_their_figures() -> None:
    assert PROTOCOLS["paper"].samples == FULL_SAMPLES == 150 * 200
    names = {name: sized("fid", protocol.samples) for name, protocol in PROTOCOLS.items()}
    assert names == {"paper": "fid", "5k": "fid_5k", "quick": "fid_512"}
    assert [protocol_name(protocol.samples) for protocol in PROTOCOLS.values()] == list(PROTOCOLS)
    assert protocol_name(2048) is None


def test_what_is_recorded(subject: Subject) -> None:
    recorded = describe(subject, {"inception": "6726825d"}, {"classifier": "ab12"})
    assert json.loads(json.dumps(recorded)) == recorded
    assert all(isinstance(section, dict) for section in recorded.values())
    generated, real = recorded["generated"], recorded["real"]
    assert generated == {
        "protocol": None,
        "samples": 10,
        "codes": "tied",
        "fine_codes": 4,
        "samples_per_fine_code": "2 or 3",
        "seed": 5,
        "weights": "exponential moving average",
        "ema_decay": 0.9,
        "ema_half_life_images": None,
        "stages": [1, 2],
    }
    info = subject.dataset.info
    assert info.splits is not None
    assert (real["fingerprint"], real["count"], real["kind"]) == (info.fingerprint, 64, "factors")
    assert (real["compared_split"], real["compared"]) == ("train", info.splits["train"])
    assert (real["mixed_split"], real["mixed"]) == ("test", info.splits["test"])
    assert real["seen_in_training"] is None
    assert recorded["extractors"] == {"inception": "6726825d"}
    assert recorded["oracles"] == {
        "classifier_steps": 3,
        "classifier_sha256": "ab12",
        "localiser_steps": subject.config.localiser_steps,
        "localiser_sha256": None,
    }
    assert recorded["versions"]["torch"] == torch.__version__.partition("+")[0]


def test_the_counts_recorded_are_those_of_the_codes(subject: Subject) -> None:
    codes = subject.tied_codes(10, purpose=1).c.argmax(dim=1)
    assert {f"{count}" for count in torch.bincount(codes, minlength=4).tolist()} == {"2", "3"}


def test_the_resizing_recorded_is_that_of_the_views(subject: Subject) -> None:
    recorded = describe(subject)["pictures"]
    record = subject.dataset[0]
    from mixnmatch.data.pictures import decode_picture

    picture = decode_picture(record.image, record.source)
    views = prepare_views(picture, record.box, subject.image_size)
    assert f"short side {min(np.shape(views.object_pixels)[:2])}" in recorded["resize"]
    assert f"{subject.image_size}x{subject.image_size}" in recorded["crop"]


def test_whether_the_model_has_seen_the_data_and_how_it_was_averaged(subject: Subject) -> None:
    for fingerprint, seen in ((subject.dataset.info.fingerprint, True), ("other", False)):
        bundle = replace(subject.bundle, data={"fingerprint": fingerprint})
        assert describe(replace(subject, bundle=bundle))["real"]["seen_in_training"] is seen
    config = override(subject.bundle.config, {"stage1.ema_half_life_images": 100})
    halved = replace(subject, bundle=replace(subject.bundle, config=config))
    generated = describe(halved)["generated"]
    assert (generated["ema_decay"], generated["ema_half_life_images"]) == (None, 100)
