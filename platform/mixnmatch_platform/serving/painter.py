"""What several requests ask of a model, worked off with each network run once for all of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mixnmatch.codes import Codes
from mixnmatch.mixer import Mixer, Mode
from mixnmatch.networks.encoders import CodeName
from mixnmatch.recipes import Factor, Recipe
from mixnmatch_platform.serving.batching import Batcher, Bench

__all__ = ["Order", "Painter", "make_recipes", "paint_together"]

Network = CodeName | Literal["feature"]


class Order(NamedTuple):
    """What a recipe is to be made of: a picture or a code for each factor."""

    mode: Mode
    pictures: Mapping[Factor, Tensor]
    """B×3×S×S, pixels in [-1, 1]; one picture goes with all of the others."""
    codes: Mapping[Factor, Tensor] = {}
    """1×K; they count where there is a picture as well, which gives the background its noise."""

    @property
    def rows(self) -> int:
        """Pictures that it makes."""
        return max((len(images) for images in self.pictures.values()), default=1)


def make_recipes(mixer: Mixer, orders: Sequence[Order]) -> list[Recipe]:
    """The recipes of orders, as ``Mixer.recipe`` makes each.

    A background that is given as a code alone gets the same noise every time.
    """
    looks = [list(_looks(order)) for order in orders]
    found: list[dict[str, Tensor]] = [{} for _ in orders]
    for network in ("z", "b", "p", "c", "feature"):
        asked = [
            (made, part, images)
            for made, parts in zip(found, looks, strict=True)
            for part, by, images in parts
            if by == network
        ]
        if not asked:
            continue
        # Each picture once, whoever and for whatever asks for it.
        pictures = {id(images): images for _, _, images in asked}
        seen = _look(mixer, network, torch.cat(list(pictures.values())))
        split = seen.split([len(images) for images in pictures.values()])
        answers = dict(zip(pictures, split, strict=True))
        for made, part, images in asked:
            made[part] = answers[id(images)]
    return [_recipe(mixer, order, made) for order, made in zip(orders, found, strict=True)]


def paint_together(mixer: Mixer, recipes: Sequence[Recipe]) -> list[Tensor]:
    """Paint recipes, N×3×S×S each, pixels in [-1, 1], on the CPU.

    Recipes of one picture are joined. Those of several are painted one by one, because what their
    pictures share is painted once then.
    """
    painted: dict[int, Tensor] = {}
    for with_feature in (False, True):
        single = [
            i
            for i, recipe in enumerate(recipes)
            if recipe.rows == 1 and (recipe.feature is not None) == with_feature
        ]
        if single:
            images = mixer.paint(_joined([recipes[i] for i in single]))
            painted.update(zip(single, images.split(1), strict=True))
    for i, recipe in enumerate(recipes):
        if i not in painted:
            painted[i] = mixer.paint(recipe)
    return [painted[i] for i in range(len(recipes))]


class Painter:
    """A model that works for several requests at once.

    Args:
        mixer: The model; its batch size bounds the batches.
        bench: Where its networks run.
        seen: Told the kind of work (``encode`` or ``paint``) and the rows of each batch.
    """

    def __init__(self, mixer: Mixer, bench: Bench, seen: Callable[[str, int], None]) -> None:
        self.mixer = mixer
        self._recipes: Batcher[Order, Recipe] = Batcher(
            lambda orders: make_recipes(mixer, orders),
            bench,
            rows=lambda order: order.rows,
            most=mixer.batch_size,
            seen=lambda rows: seen("encode", rows),
        )
        self._paint: Batcher[Recipe, Tensor] = Batcher(
            lambda recipes: paint_together(mixer, recipes),
            bench,
            rows=lambda recipe: recipe.rows,
            most=mixer.batch_size,
            seen=lambda rows: seen("paint", rows),
        )

    async def recipe(self, order: Order) -> Recipe:
        """See ``make_recipes``."""
        return await self._recipes(order)

    async def paint(self, recipe: Recipe) -> Tensor:
        """See ``paint_together``; others get their turn between batches of a long recipe."""
        size = self.mixer.batch_size
        starts = range(0, recipe.rows, size)
        return torch.cat([await self._paint(recipe.part(start, start + size)) for start in starts])


def _looks(order: Order) -> Iterator[tuple[str, Network, Tensor]]:
    """What of an order comes from which network: a field of the recipe, the network, pictures."""
    pictures, codes = order.pictures, order.codes
    if "background" in pictures:
        yield "background_z", "z", pictures["background"]
        if "background" not in codes:
            yield "b", "b", pictures["background"]
    if "texture" not in codes:
        yield "c", "c", pictures["texture"]
    if order.mode == "feature":
        yield "feature", "feature", pictures["shape"]
        return
    if "shape" not in codes:
        yield "p", "p", pictures["shape"]
    if "pose" not in codes:
        yield "z", "z", pictures["pose"]


@torch.no_grad()
def _look(mixer: Mixer, network: Network, images: Tensor) -> Tensor:
    if network == "feature":
        return mixer.shape_feature(images)
    encoders, device = mixer.bundle.encoders, mixer.device
    return torch.cat(
        [encoders.code(network, part.to(device)) for part in images.split(mixer.batch_size)]
    )


def _recipe(mixer: Mixer, order: Order, made: Mapping[str, Tensor]) -> Recipe:
    config, device = mixer.bundle.config.model, mixer.device
    given = {factor: code.to(device) for factor, code in order.codes.items()}
    # In feature mode nothing looks at the codes of pose and shape.
    unseen = {"z": config.noise_dim, "p": config.super_categories}
    blank = {name: torch.zeros(1, size, device=device) for name, size in unseen.items()}
    noise = made.get("background_z")
    if noise is None:
        random = torch.Generator().manual_seed(0)
        noise = torch.randn(1, config.noise_dim, generator=random).to(device)
    codes = Codes(
        z=given.get("pose", made.get("z", blank["z"])),
        b=given["background"] if "background" in given else made["b"],
        p=given.get("shape", made.get("p", blank["p"])),
        c=given["texture"] if "texture" in given else made["c"],
    )
    return Recipe(codes, noise, made.get("feature"))


def _joined(recipes: Sequence[Recipe]) -> Recipe:
    features = [recipe.feature for recipe in recipes if recipe.feature is not None]
    return Recipe(
        Codes(*(torch.cat(codes) for codes in zip(*(r.codes for r in recipes), strict=True))),
        torch.cat([recipe.background_z for recipe in recipes]),
        torch.cat(features) if features else None,
    )
