import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mixnmatch.bundle import ModelBundle, bundle_metrics, bundle_of, load_bundle, save_bundle
from mixnmatch.config import ModelConfig, RunConfig
from mixnmatch.data.batches import Batch
from mixnmatch.errors import ModelError
from mixnmatch.training.stage1 import CodeStage
from mixnmatch.training.stage2 import ShapeStage


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refused(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_bundle(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


def describe(path: Path, **changes: Any) -> None:
    """Change the description; a value of None takes the key away."""
    description = json.loads((path / "bundle.json").read_text()) | changes
    kept = {key: value for key, value in description.items() if value is not None}
    (path / "bundle.json").write_text(json.dumps(kept))


def rewrite(path: Path, weights: dict[str, torch.Tensor]) -> None:
    """Put other weights into a bundle, with a checksum that fits."""
    save_file(weights, path / "model.safetensors")
    digest = hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest()
    describe(path, sha256=digest)


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "model"))


@pytest.mark.parametrize("stage", [CodeStage, ShapeStage])
def test_a_bundle_comes_back_bit_for_bit(
    stage: Callable[..., Any], tiny: RunConfig, make_batch: Callable[..., Batch], tmp_path: Path
) -> None:
    trained = stage(tiny)
    trained.step(make_batch())
    with trained.evaluating():
        saved = bundle_of(trained, metrics={"mask_contrast": 0.25}, data={"count": 64})
        save_bundle(saved, tmp_path / "new" / "bundle")
        loaded = load_bundle(tmp_path / "new" / "bundle")
        image = make_batch(1).image
        with torch.no_grad():
            codes = saved.encoders(image)
            painted = saved.generator(codes)
            assert all(map(torch.equal, codes, loaded.encoders(image)))
            assert all(map(torch.equal, painted, loaded.generator(codes)))
            if saved.extractor is not None and loaded.extractor is not None:
                assert torch.equal(saved.extractor(image), loaded.extractor(image))
    assert (loaded.config, loaded.metrics, loaded.data) == (
        tiny,
        {"mask_contrast": 0.25},
        {"count": 64},
    )
    assert loaded.stages == ((1,) if stage is CodeStage else (1, 2))
    assert names(tmp_path / "new") == ["bundle"]
    assert names(tmp_path / "new" / "bundle") == ["bundle.json", "model.safetensors"]


def test_a_figure_that_is_no_number_is_null_in_the_file(bundle: Path) -> None:
    metrics = {"leak": math.nan, "kid": math.inf, "fid": 3.5}
    save_bundle(replace(load_bundle(bundle), metrics=metrics), bundle)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    text = (bundle / "bundle.json").read_text()
    written = json.loads(text, parse_constant=refuse)["metrics"]
    assert written == {"leak": None, "kid": None, "fid": 3.5}
    read = load_bundle(bundle).metrics
    assert math.isnan(read["leak"])
    assert math.isnan(read["kid"])
    assert read["fid"] == 3.5
    assert repr(bundle_metrics(bundle)) == repr(read)
    describe(bundle, metrics=[1])
    assert "cannot be read" in refused(bundle)


def test_loaded_networks_are_whole_and_frozen(bundle: Path) -> None:
    loaded = load_bundle(bundle)
    assert loaded.extractor is not None
    for network in (loaded.generator, loaded.encoders, loaded.extractor):
        assert not any(module.training for module in network.modules())
        for value in [*network.parameters(), *network.buffers()]:
            assert value.device.type == "cpu"
            assert not value.requires_grad
    before = {key: value.clone() for key, value in loaded.generator.state_dict().items()}
    # The model holds copies, so a file that is overwritten in place does not reach it.
    with (bundle / "model.safetensors").open("r+b") as file:
        file.write(os.urandom((bundle / "model.safetensors").stat().st_size))
    after = loaded.generator.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_the_averaged_generator_is_saved(
    tiny: RunConfig, make_batch: Callable[..., Batch], tmp_path: Path
) -> None:
    stage = CodeStage(tiny)
    stage.step(make_batch())
    save_bundle(bundle_of(stage, metrics={}, data={}), tmp_path / "bundle")
    weight = load_bundle(tmp_path / "bundle").generator.background_image[0].weight
    assert torch.equal(weight, stage.average.network.background_image[0].weight)
    assert not torch.equal(weight, stage.generator.background_image[0].weight)
    assert not any(
        "discriminator" in key for key in load_file(tmp_path / "bundle" / "model.safetensors")
    )


@pytest.mark.parametrize("name", ["bundle.json", "model.safetensors"])
def test_missing_files(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    assert f"it has no {name}" in refused(bundle)
    assert "is no model" in refused(bundle / "nowhere")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "null", '"bundle"', "{}", '{"schema": 1}', '{"schema": "x", "sha256": 1}'],
)
def test_unreadable_descriptions(bundle: Path, text: str) -> None:
    (bundle / "bundle.json").write_text(text)
    assert "bundle.json cannot be read" in refused(bundle)


def test_a_description_of_other_bytes(bundle: Path) -> None:
    (bundle / "bundle.json").write_bytes(b"\xff\xfe\x00 not text")
    assert "bundle.json cannot be read" in refused(bundle)


def test_a_newer_schema(bundle: Path) -> None:
    describe(bundle, schema=2)
    assert "has bundle schema 2: this version reads up to 1" in refused(bundle)


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_damaged_weights(bundle: Path, damage: str) -> None:
    path = bundle / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes({"flip": data, "truncate": data[:-9], "empty": b""}[damage])
    assert "is damaged: its sha256 is not that of bundle.json" in refused(bundle)


def test_weights_that_are_no_safetensors(bundle: Path) -> None:
    (bundle / "model.safetensors").write_bytes(b"something else")
    describe(bundle, sha256=hashlib.sha256(b"something else").hexdigest())
    assert "cannot be read" in refused(bundle)


def test_a_configuration_that_is_wrong(bundle: Path, tiny: RunConfig) -> None:
    text = (bundle / "bundle.json").read_text()
    config = json.loads(text)["config"]
    for change, message in (
        ({"config": None}, "config"),
        ({"config": 3}, "configuration is 3: it must be a table of keys"),
        ({"config": {"modle": {}}}, "unknown configuration key modle: did you mean model?"),
        ({"config": {"model": {"image_size": 33}}}, "model.image_size is 33"),
        ({"config": config | {"model": {}}}, "does not fit its configuration: size mismatch"),
    ):
        (bundle / "bundle.json").write_text(text)
        describe(bundle, **change)
        assert message in refused(bundle)


def test_weights_of_another_shape_or_name(bundle: Path) -> None:
    weights = load_file(bundle / "model.safetensors")
    key = "generator.background_image.0.weight"
    without = {k: v for k, v in weights.items() if k != key}
    for changed, message in (
        (without, "Missing key"),
        (without | {key: torch.zeros(1, 1, 3, 3)}, "size mismatch"),
        (weights | {"generator.other": torch.zeros(2)}, "Unexpected key"),
        (weights | {"critic.weight": torch.zeros(2)}, "unknown network 'critic'"),
        (
            {k: v for k, v in weights.items() if not k.startswith("encoders.")},
            "does not fit its configuration",
        ),
        ({"x": torch.zeros(1)}, "unknown network 'x'"),
    ):
        rewrite(bundle, changed)
        assert message in refused(bundle)


def test_weights_of_another_type_are_taken_as_float32(bundle: Path) -> None:
    weights = load_file(bundle / "model.safetensors")
    rewrite(bundle, {k: v.half() if v.is_floating_point() else v for k, v in weights.items()})
    loaded = load_bundle(bundle)
    assert {p.dtype for p in loaded.generator.parameters()} == {torch.float32}
    loaded.encoders(torch.zeros(1, 3, 32, 32))


def test_an_existing_bundle_is_replaced_as_a_whole(
    bundle: Path, tiny: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bundle / "left over.txt").write_text("of the old one")
    old = load_bundle(bundle)
    new = replace(old, metrics={"mask_contrast": 0.75})
    seen: list[bool] = []
    rmtree = shutil.rmtree

    def watched(path: Path, **options: Any) -> None:
        # Whatever is taken away, a whole bundle stands at its place meanwhile.
        seen.append(load_bundle(bundle).metrics == new.metrics)
        rmtree(path, **options)

    monkeypatch.setattr(shutil, "rmtree", watched)
    save_bundle(new, bundle)
    monkeypatch.undo()
    assert seen
    assert all(seen)
    assert load_bundle(bundle).metrics == new.metrics
    assert names(bundle) == ["bundle.json", "model.safetensors"]
    assert names(bundle.parent) == ["model"]


@pytest.mark.parametrize("failing", ["save_file", "rename"])
def test_a_failed_save_leaves_the_old_bundle(
    failing: str, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = replace(load_bundle(bundle), metrics={})
    before = (bundle / "bundle.json").read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    if failing == "save_file":
        monkeypatch.setattr("mixnmatch.bundle.save_file", fail)
    else:
        rename = Path.rename

        def fail_at_last(self: Path, target: Path) -> Path:
            if target == bundle and (self / "bundle.json").read_bytes() != before:
                fail()
            return rename(self, target)

        monkeypatch.setattr(Path, "rename", fail_at_last)
    with pytest.raises(OSError, match="No space"):
        save_bundle(new, bundle)
    assert (bundle / "bundle.json").read_bytes() == before
    assert names(bundle.parent) == ["model"]
    load_bundle(bundle)


def test_loading_draws_no_weights(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []
    draw = torch.nn.init.orthogonal_

    def watched(tensor: torch.Tensor, *rest: Any) -> torch.Tensor:
        shapes.append(tensor.device.type)
        return draw(tensor, *rest)

    monkeypatch.setattr(torch.nn.init, "orthogonal_", watched)
    load_bundle(bundle)
    assert set(shapes) == {"meta"}


def test_a_bundle_knows_its_device(bundle: Path) -> None:
    loaded = load_bundle(bundle)
    assert loaded.device == torch.device("cpu")
    assert loaded.to("cpu") is loaded
    assert isinstance(loaded, ModelBundle)
    assert isinstance(loaded.config.model, ModelConfig)
