"""What is painted for several at once is what the mixer paints for each."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from mixnmatch.mixer import Mixer, Mode
from mixnmatch.recipes import Factor, codes_of
from mixnmatch_platform.serving.batching import Bench
from mixnmatch_platform.serving.painter import Order, Painter, make_recipes, paint_together

FACTORS: tuple[Factor, ...] = ("background", "pose", "shape", "texture")


def pictures(seed: int, count: int = 1) -> dict[Factor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {name: 2 * torch.rand(count, 3, 32, 32, generator=random) - 1 for name in FACTORS}


def alone(mixer: Mixer, sources: dict[Factor, Tensor], mode: Mode) -> Tensor:
    return mixer.mix_tensors(**sources, mode=mode)


def test_batches_paint_what_the_mixer_paints(mixer: Mixer) -> None:
    modes: list[Mode] = ["code", "feature", "code", "code", "feature", "code", "code"]
    sources = [pictures(seed) for seed in range(len(modes))]
    orders = [Order(mode, source) for mode, source in zip(modes, sources, strict=True)]
    painted = paint_together(mixer, make_recipes(mixer, orders))
    for mode, source, image in zip(modes, sources, painted, strict=True):
        expected = alone(mixer, source, mode)
        torch.testing.assert_close(image, expected, atol=1e-6, rtol=0)
    # Else any picture would be like any other.
    assert (painted[0] - painted[2]).abs().max() > 1e-3


def test_many_requests_at_once_get_their_own_pictures(mixer: Mixer) -> None:
    async def go() -> None:
        rows: list[tuple[str, int]] = []
        painter = Painter(mixer, Bench(ThreadPoolExecutor(1)), lambda *seen: rows.append(seen))

        async def request(seed: int) -> Tensor:
            return await painter.paint(await painter.recipe(Order("code", pictures(seed))))

        images = await asyncio.gather(*map(request, range(9)))
        for seed, image in enumerate(images):
            expected = alone(mixer, pictures(seed), "code")
            torch.testing.assert_close(image, expected, atol=1e-6, rtol=0)
        assert max(count for _, count in rows) == mixer.batch_size
        assert sum(count for work, count in rows if work == "paint") == 9

    asyncio.run(go())


def test_a_film_is_one_recipe_of_many_frames(mixer: Mixer) -> None:
    source = pictures(0)
    frames = pictures(1, 6)["shape"]
    order = Order("feature", {**source, "pose": frames, "shape": frames})
    (recipe,) = make_recipes(mixer, [order])
    assert recipe.rows == order.rows == 6
    (painted,) = paint_together(mixer, [recipe])
    expected = mixer.mix_tensors(
        background=source["background"],
        texture=source["texture"],
        pose=frames,
        shape=frames,
        mode="feature",
    )
    torch.testing.assert_close(painted, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("factor", FACTORS)
def test_codes_stand_for_pictures(mixer: Mixer, factor: Factor) -> None:
    config, source = mixer.bundle.config.model, pictures(3)
    code = codes_of(factor, config, 1)
    (recipe,) = make_recipes(mixer, [Order("code", source, {factor: code})])
    expected = mixer.vary(mixer.recipe(**source), factor, count=1)
    (painted,) = paint_together(mixer, [recipe])
    torch.testing.assert_close(painted, expected, atol=1e-6, rtol=0)


def test_no_picture_is_needed_where_all_codes_are_given(mixer: Mixer) -> None:
    codes = {factor: codes_of(factor, mixer.bundle.config.model, 1) for factor in FACTORS}
    order = Order("code", {}, codes)
    first, second = paint_together(mixer, make_recipes(mixer, [order, order]))
    torch.testing.assert_close(first, second, atol=1e-6, rtol=0)


def test_a_picture_that_many_ask_for_is_looked_at_once(
    mixer: Mixer, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    encoders = mixer.bundle.encoders
    code = encoders.code

    def counted(name: str, images: Tensor) -> Tensor:
        looked.append(len(images))
        return code(name, images)  # type: ignore[arg-type]

    monkeypatch.setattr(encoders, "code", counted)
    image = pictures(0)["shape"]
    make_recipes(mixer, [Order("code", dict.fromkeys(FACTORS, image)) for _ in range(3)])
    assert looked == [1, 1, 1, 1]
