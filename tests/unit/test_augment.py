"""Every change against its description, picture by picture and pixel by pixel."""

import math

import pytest
import torch
from torch import Tensor

from mixnmatch.draws import Draws
from mixnmatch.training.augment import augment

POLICIES = ("color", "translation", "cutout")
each = pytest.mark.parametrize("policy", POLICIES)


def draws(seed: int = 0) -> Draws:
    return Draws(torch.Generator().manual_seed(seed))


def pictures(count: int = 6, side: int = 32, seed: int = 9) -> Tensor:
    return 2 * torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed)) - 1


def slow_color(image: Tensor, chances: Tensor) -> Tensor:
    brightness, saturation, contrast = chances.flatten().tolist()
    image = image + brightness - 0.5
    changed = torch.zeros_like(image)
    for row in range(image.shape[1]):
        for column in range(image.shape[2]):
            pixel = image[:, row, column]
            grey = pixel.mean()
            changed[:, row, column] = grey + (pixel - grey) * 2 * saturation
    return changed.mean() + (changed - changed.mean()) * (contrast + 0.5)


def slow_translation(image: Tensor, chances: Tensor) -> Tensor:
    side = image.shape[-1]
    most = int(side / 8 + 0.5)
    right, down = (int(chance * (2 * most + 1)) - most for chance in chances.tolist())
    changed = torch.zeros_like(image)
    for row in range(side):
        for column in range(side):
            if 0 <= row + down < side and 0 <= column + right < side:
                changed[:, row, column] = image[:, row + down, column + right]
    return changed


def slow_cutout(image: Tensor, chances: Tensor) -> Tensor:
    side = image.shape[-1]
    hole = int(side / 2 + 0.5)
    x, y = (math.floor(chance * (side + 1 - hole % 2)) for chance in chances.tolist())
    changed = image.clone()
    for row in range(y - hole // 2, y - hole // 2 + hole):
        for column in range(x - hole // 2, x - hole // 2 + hole):
            if 0 <= row < side and 0 <= column < side:
                changed[:, row, column] = 0
    return changed


SLOW = {"color": (slow_color, 3), "translation": (slow_translation, 2), "cutout": (slow_cutout, 2)}


@each
@pytest.mark.parametrize("side", [8, 10, 32])
def test_a_policy_is_the_slow_one(policy: str, side: int) -> None:
    images, (slow, count) = pictures(side=side), SLOW[policy]
    chances = draws().uniform(len(images), *((3, 1, 1, 1) if policy == "color" else (count,)))
    expected = torch.stack([slow(i, c) for i, c in zip(images, chances, strict=True)])
    torch.testing.assert_close(augment(images, (policy,), draws()), expected)
    assert not torch.equal(expected, images)


def test_policies_follow_one_another() -> None:
    images, source = pictures(), draws()
    expected = images
    for policy in POLICIES:
        expected = augment(expected, (policy,), source)
    assert torch.equal(augment(images, POLICIES, draws()), expected)


def test_without_policies_nothing_changes_and_nothing_is_drawn() -> None:
    images, source = pictures(), draws()
    before = source.generator.get_state()
    assert augment(images, (), source) is images
    assert torch.equal(source.generator.get_state(), before)


@each
def test_the_same_draws_make_the_same_changes(policy: str) -> None:
    images, source = pictures(), draws()
    first = augment(images, (policy,), source)
    assert not torch.equal(augment(images, (policy,), source), first)
    assert torch.equal(augment(images, (policy,), draws()), first)
    # Each picture has its own.
    alike = augment(images[:1].expand(6, -1, -1, -1), (policy,), draws())
    assert len({tuple(image.flatten().tolist()) for image in alike}) > 1


@each
def test_gradients_pass_through(policy: str) -> None:
    images = pictures(2, 8).double().requires_grad_()
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.autograd.gradcheck(lambda x: augment(x, (policy,), draws(3)), (images,))
    finally:
        torch.set_default_dtype(torch.float32)


def test_ranges() -> None:
    grey = torch.zeros(400, 3, 16, 16)
    shades = augment(grey, ("color",), draws()).mean(dim=(1, 2, 3))
    assert -0.5 <= shades.min() < -0.45
    assert 0.45 < shades.max() <= 0.5

    spot = torch.zeros(400, 3, 16, 16)
    spot[:, :, 8, 8] = 1
    places = augment(spot, ("translation",), draws())[:, 0].nonzero()[:, 1:]
    assert len(places) == 400
    for axis in range(2):  # an eighth of 16 to either side
        assert sorted(places[:, axis].unique().tolist()) == [6, 7, 8, 9, 10]

    holes = augment(torch.ones(400, 3, 16, 16), ("cutout",), draws())
    assert set(holes.unique().tolist()) == {0.0, 1.0}
    sizes = (holes[:, 0] == 0).sum(dim=(1, 2))
    assert sizes.min() >= 16  # a corner of it, at least
    assert sizes.max() == 64


def test_parts_are_changed_as_in_the_whole() -> None:
    images = pictures()
    parts = [
        augment(half, POLICIES, Draws(torch.Generator().manual_seed(0), part, 2))
        for part, half in enumerate(images.chunk(2))
    ]
    assert torch.equal(torch.cat(parts), augment(images, POLICIES, draws()))
