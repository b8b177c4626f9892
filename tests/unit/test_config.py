import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixnmatch.config import (
    ComputeConfig,
    EvaluationConfig,
    LossWeights,
    ModelConfig,
    RunConfig,
    Stage1Config,
    Stage2Config,
)
from mixnmatch.errors import ConfigError
from mixnmatch.settings import flatten, from_dict, override, parse_assignment, to_dict

models = st.builds(
    lambda power, supers, share, **sizes: ModelConfig(
        image_size=2**power, super_categories=supers, fine_categories=supers * share, **sizes
    ),
    st.integers(5, 10),
    st.integers(1, 50),
    st.integers(1, 20),
    noise_dim=st.integers(1, 500),
    generator_width=st.integers(1, 64).map(lambda n: 4 * n),
)
rates = st.floats(1e-12, 0.999)
runs = st.builds(
    RunConfig,
    model=models,
    weights=st.builds(LossWeights, pair=st.floats(0, 1e6), encode_z=st.floats(0, 9)),
    stage1=st.builds(
        Stage1Config,
        lr=rates,
        ema_decay=st.floats(0, 0.9999),
        ema_half_life_images=st.none() | st.integers(1, 10**6),
        average_statistics=st.sampled_from(["live", "estimated"]),
        augment=st.sampled_from(["", "color", "cutout,translation"]),
    ),
    stage2=st.builds(Stage2Config, lr=rates, soft_shape_probability=st.floats(0, 1)),
    evaluation=st.builds(EvaluationConfig, inception_weights=st.none() | st.text()),
    compute=st.builds(
        ComputeConfig,
        precision=st.sampled_from(["auto", "float32", "bfloat16"]),
        channels_last=st.none() | st.booleans(),
        compile=st.booleans(),
        micro_batches=st.sampled_from([1, 2, 3, 6]),
    ),
    seed=st.integers(0, 2**31 - 1),
)


@settings(max_examples=25, deadline=None)
@given(runs)
def test_a_configuration_survives_json(config: RunConfig) -> None:
    assert from_dict(RunConfig, json.loads(json.dumps(to_dict(config)))) == config
    assert override(RunConfig(), flatten(config)) == config


def test_left_out_keys_keep_the_published_values() -> None:
    config = from_dict(RunConfig, {"stage1": {"lr": 1e-4}})
    assert config == override(RunConfig(), {"stage1.lr": 1e-4})
    assert (config.model, config.stage1.batch_size) == (ModelConfig(), 12)


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("stage1.learning_rate", "stage1.lr"),
        ("stage1.batchsize", "did you mean stage1.batch_size"),
        ("model.fine_category", "did you mean model.fine_categories"),
        ("batch_size", "stage1.batch_size"),
        ("stage3.steps", "stage2.steps or stage1.steps"),
        ("seeds", "did you mean seed?"),
        ("model", "model.image_size"),
        ("compute.precison", "did you mean compute.precision"),
        ("stage1.lr.x", ""),
        ("xyzzy", "known are model, weights, stage1, stage2, evaluation, compute, seed"),
        ("model.xyzzy", "known are model.image_size, model.super_categories"),
        ("", "known are"),
    ],
)
def test_an_unknown_key_is_refused_with_what_may_have_been_meant(key: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown configuration key {key}") as caught:
        override(RunConfig(), {key: 1})
    message = str(caught.value)
    assert meant in message
    assert "\n" not in message
    assert len(message) < 300


def test_an_unknown_key_in_a_table_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown .* stage1\.step: did you mean stage1\.steps"):
        from_dict(RunConfig, {"stage1": {"step": 5}})
    with pytest.raises(ConfigError, match=r"unknown .* modle: did you mean model\?"):
        from_dict(RunConfig, {"modle": {}})


@pytest.mark.parametrize(
    ("key", "value", "right"),
    [
        ("model.image_size", 16, "a power of two of at least 32"),
        ("model.image_size", 96, "a power of two"),
        ("model.image_size", 0, "a power of two"),
        ("model.image_size", -64, "a power of two"),
        ("model.fine_categories", 30, "a multiple of model.super_categories, which is 20"),
        ("model.fine_categories", 0, "at least 1"),
        ("model.super_categories", 0, "at least 1"),
        ("model.generator_width", 6, "a positive multiple of 4"),
        ("model.encoder_width", 0, "a positive multiple of 4"),
        ("weights.pair", -1.0, "finite and at least 0"),
        ("weights.pair", float("inf"), "finite and at least 0"),
        ("weights.pair", float("nan"), "finite and at least 0"),
        ("stage1.steps", 0, "at least 1"),
        ("stage1.batch_size", 1, "at least 2 (batch norm)"),
        ("stage1.lr", 0, "between 0 and 1"),
        ("stage1.lr", float("nan"), "between 0 and 1"),
        ("stage1.beta1", 1, "in [0, 1)"),
        ("stage1.ema_decay", 1, "in [0, 1)"),
        ("stage2.discriminator_lr", 2, "between 0 and 1"),
        ("stage2.soft_shape_probability", 1.5, "in [0, 1]"),
        ("evaluation.samples", 7, "at least 8"),
        ("evaluation.classifier_steps", 0, "at least 1"),
        ("log_every_steps", 0, "at least 1"),
        ("model.pack_size", 0, "at least 1"),
        ("model.pack_size", 5, "a divisor of the 12 pictures that a step sees at once"),
        ("weights.child_r1", -0.5, "finite and at least 0"),
        ("stage1.ema_half_life_images", 0, "at least 1, or none"),
        ("stage1.adopt_average_every_steps", -1, "0 (never) or more"),
        ("stage1.r1_every_steps", 0, "at least 1"),
        ("compute.micro_batches", 0, "at least 1"),
        ("seed", -1, "from 0 to 2147483647"),
        ("seed", 2**31, "from 0 to 2147483647"),
    ],
)
def test_a_value_out_of_range_is_named(key: str, value: float, right: str) -> None:
    with pytest.raises(ConfigError) as caught:
        override(RunConfig(), {key: value})
    message = str(caught.value)
    assert message.startswith(f"{key} is ")
    assert right in message
    assert str(value).rstrip("0").rstrip(".") in message


@pytest.mark.parametrize(
    ("key", "value", "right"),
    [
        ("compute.precision", "float16", "auto, float32 or bfloat16"),
        ("compute.precision", "", "auto, float32 or bfloat16"),
        ("stage1.average_statistics", "own", "live or estimated"),
        ("stage1.pair_init", "xavier", "default or orthogonal"),
        ("stage1.augment", "colour", "any of color, translation and cutout, joined by commas"),
        ("stage1.augment", "color,", "any of color, translation and cutout"),
        ("stage1.augment", "color, cutout", "any of color, translation and cutout"),
    ],
)
def test_an_unknown_choice_is_named(key: str, value: str, right: str) -> None:
    with pytest.raises(ConfigError) as caught:
        override(RunConfig(), {key: value})
    message = str(caught.value)
    assert message.startswith(f"{key} is {value!r}: it must be ")
    assert right in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"compute.micro_batches": 5},
            "stage1.batch_size is 12: it must be a multiple of compute.micro_batches, which is 5",
        ),
        (
            {"compute.micro_batches": 12},
            "stage1.batch_size is 12: it must be a multiple of compute.micro_batches, which is 12, "
            "with two pictures a part",
        ),
        (
            {"compute.micro_batches": 4, "stage2.batch_size": 6},
            "stage2.batch_size is 6: it must be a multiple of compute.micro_batches, which is 4",
        ),
        (
            {"model.pack_size": 4, "compute.micro_batches": 2},
            "model.pack_size is 4: it must be a divisor of the 6 pictures that a step sees at once",
        ),
    ],
)
def test_sizes_that_do_not_go_together(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        override(RunConfig(), changes)
    assert str(caught.value).startswith(message)


def test_sizes_that_go_together() -> None:
    config = override(RunConfig(), {"model.pack_size": 3, "compute.micro_batches": 4})
    assert (config.model.pack_size, config.compute.micro_batches) == (3, 4)
    # Stage 2 has no packs.
    override(RunConfig(), {"model.pack_size": 3, "stage2.batch_size": 4})


def test_augmentations() -> None:
    assert Stage1Config().augmentations == ()
    policies = Stage1Config(augment="cutout,color").augmentations
    assert policies == ("cutout", "color")  # in the order of their use


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"seed": "0"}, "seed is '0': it must be of type int"),
        ({"seed": True}, "seed is True"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"seed": None}, "seed is None"),
        ({"stage1": {"lr": "fast"}}, "stage1.lr is 'fast': it must be of type float"),
        ({"stage1": {"lr": True}}, "stage1.lr is True"),
        ({"stage1": {"lr": 10**400}}, "stage1.lr is 1"),
        ({"stage1": {"lr": [1]}}, "stage1.lr is [1]"),
        ({"stage1": 3}, "stage1 is 3: it must be a table of keys"),
        ({"stage1": [["lr", 1]]}, "stage1 is "),
        ({"evaluation": {"inception_weights": 3}}, "evaluation.inception_weights is 3"),
        ({"compute": {"compile": 1}}, "compute.compile is 1: it must be of type bool"),
        ({"compute": {"compile": "yes"}}, "compute.compile is 'yes': it must be of type bool"),
        ({"compute": {"compile": None}}, "compute.compile is None"),
        ({"compute": {"channels_last": "auto"}}, "compute.channels_last is 'auto'"),
        ({"compute": {"micro_batches": True}}, "compute.micro_batches is True"),
        ({"stage1": {"augment": None}}, "stage1.augment is None: it must be of type str"),
        ({"stage1": {"ema_half_life_images": 1.5}}, "stage1.ema_half_life_images is 1.5"),
    ],
)
def test_a_value_of_the_wrong_type_is_named(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_dict(RunConfig, values)
    assert named in str(caught.value)


def test_whole_numbers_pass_as_either_type() -> None:
    config = override(RunConfig(), {"stage1.steps": 1e3, "weights.pair": 2})
    assert (config.stage1.steps, config.weights.pair) == (1000, 2.0)
    assert isinstance(config.stage1.steps, int)
    assert isinstance(config.weights.pair, float)


def test_changes_are_checked_together() -> None:
    changes = {"model.super_categories": 7, "model.fine_categories": 21}
    assert override(RunConfig(), changes).model.fine_categories == 21


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=3", 3),
        ("a=-3", -3),
        ("a=1e-4", 1e-4),
        ("a=none", None),
        ("a=Null", None),
        ("a=true", True),
        ("a=False", False),
        ("a=b=c", "b=c"),
        ("a=", ""),
        ("a=runs/x.pth", "runs/x.pth"),
    ],
)
def test_assignments(text: str, value: object) -> None:
    assert parse_assignment(text) == ("a", value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("compute.compile=true", True),
        ("compute.compile=FALSE", False),
        ("compute.sync_batch_norm=true", True),
        ("compute.channels_last=false", False),
        ("compute.channels_last=none", None),
        ("compute.precision=bfloat16", "bfloat16"),
        ("stage1.augment=color,cutout", "color,cutout"),
        ("stage1.augment=", ""),
        ("stage1.ema_half_life_images=1e4", 10_000),
        ("weights.child_r1=1", 1.0),
    ],
)
def test_settings_from_a_command_line(text: str, value: object) -> None:
    key, given = parse_assignment(text)
    assert flatten(override(RunConfig(), {key: given}))[key] == value


@pytest.mark.parametrize("text", ["", "=", "=3", "stage1.lr", "stage1.lr 3"])
def test_what_is_no_assignment(text: str) -> None:
    with pytest.raises(ConfigError, match="is no setting: write key=value"):
        parse_assignment(text)


@given(st.text())
def test_any_assignment_is_read_or_refused(text: str) -> None:
    try:
        key, value = parse_assignment(text)
        override(RunConfig(), {key: value})
    except ConfigError:
        pass


def test_derived_sizes() -> None:
    assert ModelConfig().background_size == 126
    assert ModelConfig().feature_channels == 16
