"""Every loss term against its formula, written out sample by sample and patch by patch."""

import math

import pytest
import torch
from torch import Tensor

from mixnmatch.codes import Codes, sample_free
from mixnmatch.config import ModelConfig
from mixnmatch.draws import Draws
from mixnmatch.losses import (
    background_patches,
    code_loss,
    fake_loss,
    gradient_penalty,
    patch_class_loss,
    r1_penalty,
    real_loss,
    real_patch_loss,
)
from mixnmatch.networks import ChildDiscriminator, PairDiscriminators

SHAPES = [(1, 1), (7, 1), (3, 1, 24, 24), (2, 5)]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def binary_cross_entropy(logit: float, target: float) -> float:
    probability = sigmoid(logit)
    return -(target * math.log(probability) + (1 - target) * math.log(1 - probability))


def logits(*shape: int, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return 4 * torch.randn(*shape, generator=random, dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES)
def test_real_and_fake(shape: tuple[int, ...]) -> None:
    scores = logits(*shape)
    values = scores.flatten().tolist()
    real = sum(binary_cross_entropy(x, 1) for x in values) / len(values)
    fake = sum(binary_cross_entropy(x, 0) for x in values) / len(values)
    assert real_loss(scores).item() == pytest.approx(real, rel=1e-12)
    assert fake_loss(scores).item() == pytest.approx(fake, rel=1e-12)


def test_extreme_logits_stay_finite() -> None:
    scores = torch.tensor([-1e4, 1e4])
    assert real_loss(scores).item() == pytest.approx(5e3)
    assert fake_loss(scores).item() == pytest.approx(5e3)


GEOMETRY = {32: (7, 1), 64: (16, 2), 128: (34, 4), 256: (70, 8)}


def slow_free(box: list[float], side: int) -> list[list[bool]]:
    """Patch by patch, pixel by pixel: does the field hold a pixel that the box covers in part?"""
    x1, y1, x2, y2 = box
    field, stride = GEOMETRY[side]

    def met(start: int, low: float, high: float) -> bool:
        return any(pixel < high and pixel + 1 > low for pixel in range(start, start + field))

    return [
        [
            x2 <= x1 or y2 <= y1 or not (met(column * stride, x1, x2) and met(row * stride, y1, y2))
            for column in range(24)
        ]
        for row in range(24)
    ]


@pytest.mark.parametrize("side", [32, 64, 128, 256])
def test_background_patches(side: int) -> None:
    view = side - 2
    random = torch.Generator().manual_seed(side)
    corners = torch.rand(12, 2, 2, generator=random) * view
    boxes = torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1).tolist()
    boxes += [
        [0, 0, 0, 0],  # nothing of the object is seen
        [5, 5, 5, 9],  # no area
        [9, 5, 4, 20],  # turned round
        [0, 0, view, view],  # everything
        [0, 0, 1, 1],  # one pixel in each corner
        [view - 1, view - 1, view, view],
        [view, 0, view + 10, view],  # outside
        [-20, -20, 0, 0],
        [-20, 3, 7.5, view + 30],  # reaches over the edges
        [10.2, 11.7, 10.3, 11.8],  # a part of one pixel
    ]
    free = background_patches(torch.tensor(boxes, dtype=torch.float32), side)
    assert free.shape == (len(boxes), 1, 24, 24)
    for got, box in zip(free, boxes, strict=True):
        assert got[0].tolist() == slow_free(box, side), box
    assert free[12:15].all()
    assert not free[15].any()
    assert free[18:20].all()
    assert not free[20].all()


@pytest.mark.parametrize("seed", range(3))
def test_masked_patches(seed: int) -> None:
    scores = logits(4, 1, 24, 24, seed=seed).requires_grad_()
    free = torch.rand(4, 1, 24, 24, generator=torch.Generator().manual_seed(seed)) < 0.3
    free[1] = False
    free[2] = True
    kept, kind = [], []
    for sample in range(4):
        for row in range(24):
            for column in range(24):
                logit = scores[sample, 0, row, column].item()
                is_free = bool(free[sample, 0, row, column])
                if is_free:
                    kept.append(binary_cross_entropy(logit, 1))
                kind.append(binary_cross_entropy(logit, float(is_free)))
    # Published: the mean over all patches with zeros for the masked, renormalised by their share.
    share = len(kept) / len(kind)
    assert real_patch_loss(scores, free).item() == pytest.approx(sum(kept) / len(kind) / share)
    assert patch_class_loss(scores, free).item() == pytest.approx(sum(kind) / len(kind))
    (gradient,) = torch.autograd.grad(real_patch_loss(scores, free), scores)
    assert torch.equal(gradient != 0, free)


def test_no_free_patch_is_no_loss() -> None:
    scores = logits(2, 1, 24, 24).requires_grad_()
    loss = real_patch_loss(scores, torch.zeros(2, 1, 24, 24, dtype=torch.bool))
    assert loss.item() == 0
    (gradient,) = torch.autograd.grad(loss, scores)
    assert not gradient.any()


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_parts_of_masked_patches_add_up(parts: int) -> None:
    scores = logits(4, 1, 24, 24).requires_grad_()
    free = torch.rand(4, 1, 24, 24, generator=torch.Generator().manual_seed(5)) < 0.3
    free[0] = False  # a part that has none still counts
    share = free.double().mean()
    pieces = zip(scores.chunk(parts), free.chunk(parts), strict=True)
    divided = sum(real_patch_loss(*piece, share) for piece in pieces) / parts
    whole = real_patch_loss(scores, free)
    torch.testing.assert_close(divided, whole, rtol=1e-12, atol=0)
    for ours, right in zip(
        torch.autograd.grad(divided, scores), torch.autograd.grad(whole, scores), strict=True
    ):
        torch.testing.assert_close(ours, right, rtol=1e-12, atol=0)
    none = torch.zeros_like(free)
    assert real_patch_loss(scores, none, none.double().mean()).item() == 0


@pytest.mark.parametrize(("count", "categories"), [(1, 1), (5, 3), (3, 40)])
@pytest.mark.parametrize("soft", [False, True])
def test_codes(count: int, categories: int, soft: bool) -> None:
    scores = logits(count, categories)
    if soft:
        target = torch.softmax(logits(count, categories, seed=1), dim=1)
    else:
        picks = torch.arange(count) * 7 % categories
        target = torch.eye(categories, dtype=torch.float64)[picks]
    total = 0.0
    for row, code in zip(scores.tolist(), target.tolist(), strict=True):
        normaliser = math.log(sum(math.exp(x) for x in row))
        total -= sum(t * (x - normaliser) for x, t in zip(row, code, strict=True))
    assert code_loss(scores, target).item() == pytest.approx(total / count, abs=1e-12)


@pytest.mark.parametrize(
    ("count", "supers", "fine", "noise_dim"), [(2, 1, 3, 4), (3, 2, 6, 1), (5, 4, 4, 7)]
)
def test_gradient_penalty(count: int, supers: int, fine: int, noise_dim: int) -> None:
    config = ModelConfig(
        super_categories=supers,
        fine_categories=fine,
        noise_dim=noise_dim,
        image_size=32,
        pair_width=2,
    )
    torch.manual_seed(count)
    critics = PairDiscriminators(config).double()
    for layer in critics.modules():  # as if trained: the first weights give gradients near 0
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.normal_(layer.weight, std=1.5 / layer.weight[0].numel() ** 0.5)
    random = torch.Generator().manual_seed(count)

    def pair() -> tuple[Tensor, Codes]:
        image = 2 * torch.rand(count, 3, 32, 32, generator=random) - 1
        codes = sample_free(config, count, random)
        return image.double(), Codes(*(code.double() for code in codes))

    real, fake = pair(), pair()
    real = (real[0], Codes(*(torch.softmax(code, dim=1) for code in real[1])))
    state = torch.Generator().set_state(random.get_state())
    ours = gradient_penalty(critics, real, fake, Draws(random))

    # The same numbers, drawn again: a weight for the picture, one for each code, then the noise.
    weights = [
        torch.rand(count, *rest, generator=state, dtype=torch.float64)
        for rest in ((1, 1, 1), (1,), (1,), (1,), (1,))
    ]

    slow = torch.zeros((), dtype=torch.float64)
    for k, name in enumerate(Codes._fields):
        critic = getattr(critics, name)
        image, code = real[0].clone(), real[1][k].clone()
        for i in range(count):
            a, b = weights[0][i].item(), weights[1 + k][i].item()
            image[i] = (1 - a) * real[0][i] + a * fake[0][i]
            code[i] = (1 - b) * real[1][k][i] + b * fake[1][k][i]
        image.requires_grad_()
        code.requires_grad_()
        score = critic(image, code, Draws(state)).sum()
        for gradient in torch.autograd.grad(score, [image, code], create_graph=True):
            for i in range(count):
                norm = (gradient[i] ** 2).sum().sqrt()
                slow = slow + (norm - 1) ** 2 / count
    torch.testing.assert_close(ours, slow, rtol=1e-10, atol=1e-12)
    parameters = [p for p in critics.parameters() if p.dim() > 1]
    for a, b in zip(
        torch.autograd.grad(ours, parameters),
        torch.autograd.grad(slow, parameters),
        strict=True,
    ):
        assert a.abs().max() > 0
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


def test_r1_of_a_critic_that_is_known() -> None:
    """``f(x) = Σ a·x²/2`` has the gradient ``a·x``."""
    image, weight = logits(5, 3, 4, 4), logits(3, 4, 4, seed=1)
    slow = 0.0
    for picture in image:
        gradient = [a * x for a, x in zip(weight.flatten(), picture.flatten(), strict=True)]
        slow += sum(float(g) ** 2 for g in gradient) / 2 / len(image)

    def critic(x: Tensor) -> Tensor:
        return (weight * x**2 / 2).sum(dim=(1, 2, 3))[:, None]

    assert r1_penalty(critic, image).item() == pytest.approx(slow, rel=1e-12)
    assert not image.requires_grad


def child(pack_size: int = 1) -> ChildDiscriminator:
    torch.manual_seed(0)
    config = ModelConfig(
        image_size=32, discriminator_width=4, fine_categories=2, super_categories=1,
        pack_size=pack_size,
    )  # fmt: skip
    return ChildDiscriminator(config).double()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("pack_size", [1, 2])
def test_r1_pack_by_pack(training: bool, pack_size: int) -> None:
    critic = child(pack_size).train(training)
    image = (logits(4, 3, 32, 32) / 4).requires_grad_()
    slow = torch.zeros((), dtype=torch.float64)
    total = critic.real_logits(image).sum()
    for k in range(len(image)):  # batch norm joins the pictures of a batch in training
        (gradient,) = torch.autograd.grad(total, image, create_graph=True)
        slow = slow + (gradient[k] ** 2).sum() / 2 / (len(image) // pack_size)
    ours = r1_penalty(critic.real_logits, image)
    torch.testing.assert_close(ours, slow, rtol=1e-12, atol=0)
    weights = [
        p for p in [*critic.trunk.parameters(), *critic.real_head.parameters()] if p.ndim > 1
    ]
    for mine, right in zip(
        torch.autograd.grad(ours, weights), torch.autograd.grad(slow, weights), strict=True
    ):
        assert right.abs().max() > 0
        torch.testing.assert_close(mine, right, rtol=1e-9, atol=1e-12)


def test_the_gradient_of_r1_by_differences() -> None:
    """Through batch norm in training, along a random direction of all weights at once."""
    critic, image = child(), logits(4, 3, 32, 32) / 4
    weights = [*critic.trunk.parameters(), *critic.real_head[0].parameters()][:-1]
    gradients = torch.autograd.grad(r1_penalty(critic.real_logits, image), weights)
    random = torch.Generator().manual_seed(2)
    steps = [torch.randn(w.shape, generator=random, dtype=torch.float64) for w in weights]
    slope = sum(float((g * s).sum()) for g, s in zip(gradients, steps, strict=True))

    def moved(size: float) -> float:
        with torch.no_grad():
            for weight, step in zip(weights, steps, strict=True):
                weight += size * step
        value = r1_penalty(critic.real_logits, image).item()
        with torch.no_grad():
            for weight, step in zip(weights, steps, strict=True):
                weight -= size * step
        return value

    size = 1e-7  # so small that no unit crosses the kink of its activation
    assert slope == pytest.approx((moved(size) - moved(-size)) / (2 * size), rel=1e-4)
    assert abs(slope) > 1e-3
