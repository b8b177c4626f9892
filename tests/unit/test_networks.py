import pytest
import torch
from torch import Tensor, nn

from mixnmatch.codes import Codes, sample_free, sample_tied
from mixnmatch.config import ModelConfig
from mixnmatch.draws import Draws
from mixnmatch.losses import background_patches
from mixnmatch.networks import (
    BackgroundDiscriminator,
    ChildDiscriminator,
    Encoders,
    FeatureDiscriminator,
    Generator,
    PairDiscriminators,
    ParentClassifier,
    ShapeExtractor,
    composite,
)
from mixnmatch.networks.discriminators import patch_geometry
from mixnmatch.networks.encoders import soften
from mixnmatch.networks.generator import background_view

SIDES = (32, 64, 128, 256)


def tiny(side: int = 32) -> ModelConfig:
    return ModelConfig(
        image_size=side,
        super_categories=2,
        fine_categories=6,
        noise_dim=3,
        generator_width=8,
        discriminator_width=4,
        encoder_width=4,
        pair_width=1,
        extractor_width=2,
    )


def codes(config: ModelConfig, count: int = 2, seed: int = 0) -> Codes:
    return sample_free(config, count, torch.Generator().manual_seed(seed))


def convolutions(module: nn.Module) -> list[int]:
    """Output channels of the convolutions, before the GLU halves them."""
    return [m.out_channels for m in module.modules() if isinstance(m, nn.Conv2d)]


@pytest.mark.parametrize("side", SIDES)
@torch.no_grad()
def test_generator(side: int) -> None:
    config = tiny(side)
    layers = Generator(config)(codes(config))
    for name, value in layers._asdict().items():
        channels = {"shape_feature": 2}.get(name, 1 if name.endswith("mask") else 3)
        assert value.shape == (2, channels, side, side), name
        if name.endswith("mask"):
            assert 0 <= value.min() <= value.max() <= 1
        elif name != "shape_feature":
            assert -1 <= value.min() <= value.max() <= 1
    assert background_view(layers.background).shape == (2, 3, side - 2, side - 2)


@pytest.mark.parametrize("side", SIDES)
@torch.no_grad()
def test_encoders_and_critics(side: int) -> None:
    config = tiny(side)
    image = 2 * torch.rand(2, 3, side, side) - 1
    encoders = Encoders(config)
    encoded = encoders(image)
    assert [code.shape[1] for code in encoded] == [3, 6, 2, 6]
    assert encoded.z.abs().max() < 4
    for code in encoded[1:]:
        torch.testing.assert_close(code.sum(dim=1), torch.ones(2))
    codes = encoders.eval()(image)
    assert all(map(torch.equal, codes, soften(encoders.logits(image))))
    for name, code in codes._asdict().items():
        assert torch.equal(encoders.code(name, image), code), name
    assert PairDiscriminators(config)(image, encoded).shape == (2, 4)
    assert ParentClassifier(config)(image).shape == (2, 2)
    child = ChildDiscriminator(config)
    assert child.real_logits(image).shape == (2, 1)
    assert child.code_logits(image).shape == (2, 6)


@pytest.mark.parametrize("side", SIDES)
@torch.no_grad()
def test_patch_maps_and_extractor(side: int) -> None:
    config = tiny(side)
    scores = BackgroundDiscriminator(config)(torch.rand(2, 3, side - 2, side - 2))
    assert scores.real.shape == scores.background.shape == (2, 1, 24, 24)
    feature = ShapeExtractor(config)(torch.rand(2, 3, side, side))
    assert feature.shape == (2, config.feature_channels, side, side)
    assert FeatureDiscriminator(config)(feature).shape == (2, 1, 24, 24)


@pytest.mark.parametrize(
    ("side", "geometry"), [(32, (7, 1)), (64, (16, 2)), (128, (34, 4)), (256, (70, 8))]
)
def test_the_geometry_of_patches_is_true(side: int, geometry: tuple[int, int]) -> None:
    assert patch_geometry(side) == geometry
    field, stride = geometry
    config = tiny(side)
    discriminator = BackgroundDiscriminator(config)
    view = torch.rand(1, 3, side - 2, side - 2, requires_grad=True)
    scores = discriminator(view)
    # What a patch sees: the pixels that its two logits have a gradient of.
    for row, column in ((0, 0), (5, 17), (23, 23)):
        patch = scores.real[0, 0, row, column] + scores.background[0, 0, row, column]
        (gradient,) = torch.autograd.grad(patch, view, retain_graph=True)
        seen = gradient[0].abs().sum(dim=0).nonzero()
        first = [row * stride, column * stride]
        assert seen.min(dim=0).values.tolist() == first
        assert seen.max(dim=0).values.tolist() == [n + field - 1 for n in first]
    assert 23 * stride + field == side - 2


@pytest.mark.parametrize("side", [32, 64])
@torch.no_grad()
def test_patches_called_free_do_not_react_to_the_object(side: int) -> None:
    discriminator = BackgroundDiscriminator(tiny(side))
    view = torch.rand(1, 3, side - 2, side - 2)
    box = torch.tensor([[9.0, 4.0, 14.0, 21.0]])
    painted = view.clone()
    painted[:, :, 4:21, 9:14] = 3.0
    before, after = discriminator(view), discriminator(painted)
    reacts = (before.real != after.real) | (before.background != after.background)
    assert torch.equal(background_patches(box, side), ~reacts)


def test_composite() -> None:
    foreground, background = torch.full((1, 3, 2, 2), 0.5), torch.full((1, 3, 2, 2), -1.0)
    mask = torch.tensor([[[[0.0, 1.0], [0.5, 0.25]]]])
    expected = torch.tensor([[-1.0, 0.5], [-0.25, -0.625]]).expand(1, 3, 2, 2)
    torch.testing.assert_close(composite(foreground, mask, background), expected)


@torch.no_grad()
def test_modes_of_the_generator_share_their_parts() -> None:
    config = tiny()
    generator = Generator(config).eval()
    code, other = codes(config), codes(config, seed=1)
    layers = generator(code, other.z)
    background = generator.paint_background(other.z, code.b)
    feature = generator.shape_feature(code.z, code.p)
    again = generator.paint_object(feature, code.c, background)
    assert all(map(torch.equal, layers, again))
    assert not torch.equal(generator(code).background, background)
    torch.testing.assert_close(
        layers.parent_image, composite(layers.parent_foreground, layers.parent_mask, background)
    )
    torch.testing.assert_close(
        layers.child_image,
        composite(layers.child_foreground, layers.child_mask, layers.parent_image),
    )


def test_published_widths() -> None:
    with torch.device("meta"):
        config = ModelConfig()
        generator, encoders = Generator(config), Encoders(config)
        background, child = BackgroundDiscriminator(config), ChildDiscriminator(config)
        parent, pairs = ParentClassifier(config), PairDiscriminators(config)
        extractor, feature = ShapeExtractor(config), FeatureDiscriminator(config)
    linear = generator.background_stage[0]
    assert (linear.in_features, linear.out_features) == (300, 2 * 16 * 512)
    assert convolutions(generator.background_stage) == [512, 256, 128, 128, 64]
    assert generator.background_image[0].in_channels == 32
    assert generator.parent_stage[0].in_features == 120
    assert convolutions(generator.parent_stage) == [512, 256, 128, 32, 32]
    assert generator.parent_joint[0].in_channels == 36
    assert convolutions(generator.parent_residual) == [32, 16] * 3
    assert generator.child_joint[0].in_channels == 216
    assert convolutions(generator.child_joint) == [64]
    assert convolutions(generator.child_residual) == [64, 32] * 2
    assert convolutions(generator.child_same) == [32]
    assert generator.child_canvas.image[0].in_channels == 16
    for encoder, outputs in zip(encoders.children(), (100, 200, 20, 200), strict=True):
        assert convolutions(encoder) == [64, 128, 256, 512, 1024, 512, 512, outputs]
    assert convolutions(background) == [64, 128, 256, 1, 1]
    assert convolutions(parent) == [32, 64, 128, 256, 256, 256, 256, 20]
    assert convolutions(child) == [64, 128, 256, 512, 512, 512, 512, 200, 1]
    assert convolutions(pairs.b) == [16, 32, 64, 128, 256, 512]
    assert [layer.out_features for layer in pairs.b.code_path] == [512, 512, 512]
    assert pairs.b.joint[0].out_features == 1024
    assert convolutions(extractor.first) == [64, 64]
    assert convolutions(extractor.downs) == [64, 128, 256, 512, 1024, 1024]
    ups = [m.out_channels for m in extractor.ups.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert ups == [512, 1024, 512, 256, 128, 32]
    assert convolutions(feature) == [32, 64, 128, 1]


@pytest.mark.parametrize(
    ("side", "background", "parent"),
    [
        (32, [512, 256, 64], [512, 256, 32]),
        (64, [512, 256, 128, 64], [512, 256, 128, 32]),
        (256, [512, 256, 128, 128, 64, 64], [512, 256, 128, 32, 32, 32]),
    ],
)
def test_up_block_widths_at_other_sides(
    side: int, background: list[int], parent: list[int]
) -> None:
    with torch.device("meta"):
        generator = Generator(ModelConfig(image_size=side))
    assert convolutions(generator.background_stage) == background
    assert convolutions(generator.parent_stage) == parent


def test_the_generator_has_no_biases_and_the_critics_have_all() -> None:
    def biased(module: nn.Module) -> set[bool]:
        kinds = (nn.Conv2d, nn.Linear)
        return {m.bias is not None for m in module.modules() if isinstance(m, kinds)}

    assert biased(Generator(tiny())) == {False}
    assert biased(PairDiscriminators(tiny())) == {True}


@torch.no_grad()
def test_critics_see_their_own_code_alone_and_noise_only_when_asked() -> None:
    config = tiny()
    critics, code, other = PairDiscriminators(config), codes(config), codes(config, seed=3)
    image = torch.rand(2, 3, 32, 32)
    scores = critics(image, code)
    assert torch.equal(scores, critics([image] * 4, code))
    for k, name in enumerate(Codes._fields):
        changed = critics(image, code._replace(**{name: getattr(other, name) + 0.1})) != scores
        assert changed.any(dim=0).tolist() == [j == k for j in range(4)]
    noisy = [critics(image, code, Draws(torch.Generator().manual_seed(s))) for s in (0, 0, 1)]
    assert torch.equal(noisy[0], noisy[1])
    assert not torch.equal(noisy[0], noisy[2])
    assert not torch.equal(noisy[0], scores)


def test_codes() -> None:
    config = ModelConfig(super_categories=3, fine_categories=12, noise_dim=5)
    random = torch.Generator().manual_seed(0)
    tied, free = sample_tied(config, 600, random), sample_free(config, 600, random)
    for code in (tied, free):
        assert [part.shape for part in code] == [(600, 5), (600, 12), (600, 3), (600, 12)]
        for part in code[1:]:
            assert torch.equal(part.sum(dim=1), torch.ones(600))
            assert set(part.unique().tolist()) == {0.0, 1.0}
            assert part.any(dim=0).all()
        assert abs(float(code.z.mean())) < 0.1
        assert abs(float(code.z.std()) - 1) < 0.1
    fine = tied.c.argmax(dim=1)
    assert torch.equal(tied.b, tied.c)
    assert torch.equal(tied.p.argmax(dim=1), fine // 4)
    pairs: Tensor = 12 * free.b.argmax(dim=1) + free.c.argmax(dim=1)
    assert len(pairs.unique()) > 130
    assert len((3 * free.c.argmax(dim=1) + free.p.argmax(dim=1)).unique()) == 36
