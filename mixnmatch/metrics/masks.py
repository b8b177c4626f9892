"""Whether the masks are the right way round."""

import torch
from jaxtyping import Float
from torch import Tensor

from mixnmatch.bundle import ModelBundle
from mixnmatch.data.batches import EvaluationSet


@torch.no_grad()
def mask_contrast(
    bundle: ModelBundle, pictures: EvaluationSet, batch_size: int
) -> dict[str, float]:
    """Mean opacity of the masks inside the box minus outside of it, of pictures painted again.

    1 is a mask that fills its box, 0 one that knows nothing of it; a negative one is inverted: the
    object's stage paints the background.

    Args:
        bundle: The model, in eval mode.
        pictures: Real pictures with their boxes.
        batch_size: Pictures a forward pass.

    Returns:
        ``mask_contrast`` of the child's mask, ``mask_contrast_parent`` of the parent's.
    """
    contrast = []
    for images, boxes in zip(
        pictures.images.split(batch_size), pictures.boxes.split(batch_size), strict=True
    ):
        layers = bundle.generator(bundle.encoders(images.to(bundle.device)))
        masks = torch.cat([layers.child_mask, layers.parent_mask], dim=1).cpu()
        inside = inside_boxes(boxes, images.shape[-1])
        contrast.append(_weighted_mean(masks, inside) - _weighted_mean(masks, 1 - inside))
    child, parent = torch.cat(contrast).mean(dim=0).tolist()
    return {"mask_contrast": child, "mask_contrast_parent": parent}


def inside_boxes(boxes: Float[Tensor, "B 4"], side: int) -> Float[Tensor, "B 1 S S"]:
    """1 for pixels whose middle lies in the box, else 0; boxes are x1, y1, x2, y2 in pixels."""
    middle = torch.arange(side, device=boxes.device) + 0.5
    x1, y1, x2, y2 = (edge[:, None] for edge in boxes.unbind(dim=1))
    columns, rows = (middle > x1) & (middle < x2), (middle > y1) & (middle < y2)
    return (rows[:, None, :, None] & columns[:, None, None, :]).float()


def _weighted_mean(
    values: Float[Tensor, "B C S S"], weights: Float[Tensor, "B 1 S S"]
) -> Float[Tensor, "B C"]:
    return (values * weights).sum(dim=(2, 3)) / weights.sum(dim=(2, 3)).clamp(min=1)
