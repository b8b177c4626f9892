"""Whether masks cover the object: against true masks where there are some, else against boxes."""

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from mixnmatch.bundle import ModelBundle
from mixnmatch.config import EvaluationConfig
from mixnmatch.data.batches import EvaluationSet
from mixnmatch.data.records import Box
from mixnmatch.data.store import Dataset
from mixnmatch.data.views import crop_share
from mixnmatch.metrics import figures
from mixnmatch.metrics.figures import Figures
from mixnmatch.metrics.localiser import (
    Localiser,
    constant_overlap,
    load_localiser,
    localiser_rows,
    overlap,
)
from mixnmatch.metrics.measure import Exhibit, Measure, Observations, Preparation, Subject
from mixnmatch.networks.generator import Layers
from mixnmatch.sheets import grid, labelled, zoom_of

_CODES = 501  # stream of randomness
_SHOWN = 8
_LEAST = 1 / 16
"""Share of the view's side that a box must have, or must leave free, to be worth a comparison."""


class MaskMeasure(Measure):
    """Do the masks of the object's stage cover the object?

    A case is a held-out picture, which is encoded and painted again, and a generated picture of
    tied codes. Only pictures whose box is in view count.

    * ``mask_contrast``, ``mask_contrast_parent``: see the function of that name; by chance: of the
      mean of all boxes, which knows nothing of a picture. Not measured where no box leaves
      something of its view free.
    * Where all of the pictures have masks: ``mask_iou/encoded``, intersection over union of the
      child's mask at 0.5 and the true one, and ``mask_iou/feature``, the same of feature mode after
      stage 2. By chance: of the best constant mask.
    * There, and if group ``keypoints`` is asked for too, because it needs the localiser, which
      takes minutes to teach: ``mask_iou/generated``, of generated pictures and the mask that the
      localiser finds in them, and ``mask_iou/localiser``, its own on held-out real pictures.
    * Where there are only boxes: ``mask_purity``, share of the mask that lies inside the box (by
      chance: of the mean of all boxes; 0 for a mask of nothing), and ``mask_coverage``, mean
      opacity inside the box (by chance: in the whole view).
    """

    group = "masks"

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self._rows = _rows_in_view(subject.dataset, subject.config)
        self._true_masks = bool(subject.dataset.masked[self._rows].all())
        self._free = _any_room(subject.dataset, self._rows)
        self._generated = self._true_masks and _localised(subject.dataset, subject.config)

    @classmethod
    def names(cls, dataset: Dataset, config: EvaluationConfig) -> set[str]:
        """None where no box is in view."""
        rows = _rows_in_view(dataset, config)
        if not len(rows):
            return set()
        names = {"mask_contrast", "mask_contrast_parent"} if _any_room(dataset, rows) else set()
        if not dataset.masked[rows].all():
            return names | {"mask_purity", "mask_coverage"}
        sources = {"encoded", "feature"}
        if _localised(dataset, config):
            sources |= {"generated", "localiser"}
        return names | {f"mask_iou/{source}" for source in sources}

    @property
    def count(self) -> int:
        """As many as samples, if there are as many held-out pictures."""
        return len(self._rows)

    @cached_property
    def localiser(self) -> Localiser:
        """From the cache, or trained now."""
        subject = self.subject
        steps = subject.config.localiser_steps
        return load_localiser(subject.dataset, subject.image_size, steps=steps)

    def needs(self) -> Sequence[Preparation]:
        """Nothing, but trains the localiser where it is needed, so that not each worker does."""
        assert not self._generated or self.localiser
        return ()

    def oracles(self) -> Mapping[str, str]:
        """See ``Measure``."""
        return {"localiser": self.localiser.digest} if self._generated else {}

    @torch.no_grad()
    def observe(self, cases: range) -> Observations:
        """How masks and boxes overlap; masks at 0.5, packed, where there are true ones."""
        pictures = self.subject.read(self._rows[cases])
        encoded = _paint_again(self.subject.bundle, pictures)
        inside = inside_boxes(pictures.boxes, self.subject.image_size)
        mask = encoded.child_mask.cpu()
        seen = {"contrast": _contrasts(encoded, inside).numpy(), "box": _packed(inside > 0.5)}
        if not self._true_masks:
            box, mass = (part.sum(dim=(1, 2, 3)).double() for part in (inside, mask))
            shared = (mask * inside).sum(dim=(1, 2, 3)).double()
            purity = torch.where(mass > 0, shared / mass, 0.0)
            seen["purity"] = purity.numpy()
            seen["coverage"] = torch.stack(
                [shared / box, mask.double().mean(dim=(1, 2, 3))], dim=1
            ).numpy()
            return seen
        assert pictures.masks is not None, "all of these pictures have masks"
        seen |= {"truth": _packed(pictures.masks > 0.5), "encoded": _packed(mask > 0.5)}
        if self.subject.bundle.extractor is not None:
            again = _paint_again(self.subject.bundle, pictures, feature_mode=True)
            seen["feature"] = _packed(again.child_mask.cpu() > 0.5)
        if self._generated:
            codes = self.subject.tied_codes(self.count, _CODES)
            part = type(codes)(*(code[cases.start : cases.stop] for code in codes))
            layers = self.subject.bundle.generator(part.to(self.subject.bundle.device))
            found = self.localiser.locate(layers.child_image.cpu())
            seen["generated"] = _packed(layers.child_mask.cpu() > 0.5)
            seen["generated_truth"] = _packed(found.masks)
        return seen

    def figures(self, seen: Observations) -> Figures:
        """Means over pictures."""
        measured: Figures = {}
        side = self.subject.image_size
        boxes = _unpacked(seen["box"], side).float()
        # Views are about their boxes, so a mask that knows nothing of a picture is the mean box.
        anywhere = boxes.mean(dim=0, keepdim=True).expand_as(boxes)
        if self._free:
            chance = float(_contrast(anywhere, boxes).nanmean())
            for name, contrast in zip(_CONTRASTS, seen["contrast"].T, strict=True):
                measured[name] = figures.mean(contrast, chance=chance, better="higher")
        if not self._true_masks:
            inside = (anywhere * boxes).sum(dim=(1, 2, 3)) / anywhere.sum(dim=(1, 2, 3))
            measured["mask_purity"] = figures.mean(
                seen["purity"], chance=float(inside.mean()), better="higher"
            )
            value, mean_opacity = seen["coverage"].T
            measured["mask_coverage"] = figures.mean(
                value, chance=float(mean_opacity.mean()), better="higher"
            )
            return measured
        for name in ("encoded", "feature", "generated"):
            if name in seen:
                truth = _unpacked(seen[f"{name}_truth" if name == "generated" else "truth"], side)
                measured[f"mask_iou/{name}"] = figures.mean(
                    overlap(_unpacked(seen[name], side), truth),
                    chance=constant_overlap(truth.float().mean(dim=0, keepdim=True), truth),
                    better="higher",
                )
        if self._generated:
            measured["mask_iou/localiser"] = self.localiser.worth["mask_iou"]
        return measured

    @torch.no_grad()
    def exhibits(self, seen: Observations) -> Sequence[Exhibit]:
        """The encoded pictures whose masks fit worst."""
        side = self.subject.image_size
        if self._true_masks:
            fit = overlap(_unpacked(seen["encoded"], side), _unpacked(seen["truth"], side))
        else:
            fit = seen["purity"]
        worst = fit.argsort(kind="stable")[:_SHOWN]
        pictures = self.subject.read(self._rows[worst])
        layers = _paint_again(self.subject.bundle, pictures)
        truth = inside_boxes(pictures.boxes, side) if pictures.masks is None else pictures.masks
        rows = [pictures.images, layers.child_image.cpu(), 2 * layers.child_mask.cpu() - 1]
        sheet = grid([*rows, 2 * truth - 1], zoom=zoom_of(side))
        last = "its true mask" if self._true_masks else "its box"
        return [
            Exhibit(
                title="Masks that fit worst",
                caption="Held-out pictures, what is painted of their codes, the mask of the "
                f"object's stage, and {last}. A bright frame around a dark object is a mask that "
                "is inverted.",
                picture=labelled(sheet, ["real", "encoded, painted", "its mask", last]),
            )
        ]


_CONTRASTS = ("mask_contrast", "mask_contrast_parent")


@torch.no_grad()
def mask_contrast(
    bundle: ModelBundle, pictures: EvaluationSet, batch_size: int
) -> dict[str, float]:
    """Mean opacity of the masks inside the box minus outside of it, of pictures painted again.

    1 is a mask that fills its box, 0 one that knows nothing of it; a negative one is inverted: the
    object's stage paints the background. A picture whose box is all or nothing of it is left out.

    Args:
        bundle: The model, in eval mode.
        pictures: Real pictures with their boxes.
        batch_size: Pictures a forward pass.

    Returns:
        ``mask_contrast`` of the child's mask, ``mask_contrast_parent`` of the parent's; nothing
        where all pictures are left out.
    """
    contrasts = []
    for start in range(0, len(pictures.images), batch_size):
        part = pictures._replace(
            images=pictures.images[start : start + batch_size],
            boxes=pictures.boxes[start : start + batch_size],
        )
        inside = inside_boxes(part.boxes, part.images.shape[-1])
        contrasts.append(_contrasts(_paint_again(bundle, part), inside))
    means = torch.cat(contrasts).nanmean(dim=0).tolist()
    return {name: m for name, m in zip(_CONTRASTS, means, strict=True) if m == m}


def inside_boxes(boxes: Float[Tensor, "B 4"], side: int) -> Float[Tensor, "B 1 S S"]:
    """1 for pixels whose middle lies in the box, else 0; boxes are x1, y1, x2, y2 in pixels."""
    middle = torch.arange(side, device=boxes.device) + 0.5
    x1, y1, x2, y2 = (edge[:, None] for edge in boxes.unbind(dim=1))
    columns, rows = (middle > x1) & (middle < x2), (middle > y1) & (middle < y2)
    return (rows[:, None, :, None] & columns[:, None, None, :]).float()


def _paint_again(
    bundle: ModelBundle, pictures: EvaluationSet, *, feature_mode: bool = False
) -> Layers:
    images = pictures.images.to(bundle.device)
    codes = bundle.encoders(images)
    if not feature_mode:
        return bundle.generator(codes)
    assert bundle.extractor is not None, "feature mode needs stage 2"
    background = bundle.generator.paint_background(codes.z, codes.b)
    return bundle.generator.paint_object(bundle.extractor(images), codes.c, background)


def _contrasts(layers: Layers, inside: Float[Tensor, "B 1 S S"]) -> Float[Tensor, "B 2"]:
    """Of the child's and of the parent's mask; NaN where the box is all or nothing."""
    return _contrast(torch.cat([layers.child_mask, layers.parent_mask], dim=1).cpu(), inside)


def _contrast(
    masks: Float[Tensor, "B C S S"], inside: Float[Tensor, "B 1 S S"]
) -> Float[Tensor, "B C"]:
    outside = 1 - inside
    within, without = ((masks * part).sum(dim=(2, 3)) for part in (inside, outside))
    # Nothing by nothing is not a number.
    return within / inside.sum(dim=(2, 3)) - without / outside.sum(dim=(2, 3))


def _packed(masks: Bool[Tensor, "B 1 S S"]) -> UInt8[np.ndarray, "B P"]:
    return np.packbits(masks.flatten(1).numpy(), axis=1)


def _unpacked(packed: UInt8[np.ndarray, "B P"], side: int) -> Bool[Tensor, "B 1 S S"]:
    bits = np.unpackbits(packed, axis=1, count=side * side)
    return torch.from_numpy(bits.astype(bool)).view(-1, 1, side, side)


def _localised(dataset: Dataset, config: EvaluationConfig) -> bool:
    """Whether there is to be a localiser, and whether it is taught masks."""
    return "keypoints" in config.groups and all(
        dataset.masked[rows].all() for rows in localiser_rows(dataset)
    )


def _rows_in_view(dataset: Dataset, config: EvaluationConfig) -> Int64[np.ndarray, "N"]:
    """Held-out pictures with their box in view, evenly spread if they are more than samples."""
    rows = dataset.held_out_rows()
    x1, y1, x2, y2 = _crops(dataset, rows).T
    rows = rows[(x2 - x1 >= _LEAST) & (y2 - y1 >= _LEAST)]
    count = min(len(rows), config.samples)
    return rows[np.arange(count) * len(rows) // max(1, count)]


def _any_room(dataset: Dataset, rows: Int64[np.ndarray, "N"]) -> bool:
    """Whether one of the boxes leaves something of its view free."""
    x1, y1, x2, y2 = _crops(dataset, rows).T
    return bool((np.stack([x1, y1, 1 - x2, 1 - y2]) >= _LEAST).any())


def _crops(dataset: Dataset, rows: Int64[np.ndarray, "N"]) -> Float[np.ndarray, "N 4"]:
    """Corners of boxes in object views cropped in the middle, in shares of the side."""
    names = ("box_x", "box_y", "box_width", "box_height", "width", "height")
    columns = [dataset.column(name) for name in names]
    shares = []
    for row in rows:
        *box, width, height = (column[row] for column in columns)
        shares.append(crop_share(Box(*box), width, height))
    return np.array(shares).reshape(-1, 4)
