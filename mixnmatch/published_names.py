"""Names of the published networks' weights: prefixes of their keys, and ours in their place.

The networks were published for 128 px; the same form at another side has more or fewer numbered
blocks. Where two of our prefixes fit a key, the longer one counts.
"""

import math
from collections.abc import Mapping

CODES = ("z", "b", "p", "c")


def generator_names(image_size: int) -> dict[str, str]:
    """Prefixes of the published generator's keys, and ours."""
    names = {
        "background_image.img.": "background_image.",
        "parent_stage.jointConv.": "parent_joint.",
        "parent_stage.residual.": "parent_residual.",
        "parent_image.img.": "parent_canvas.image.",
        "parent_mask.img.": "parent_canvas.mask.",
        "child_stage.jointConv.": "child_joint.",
        "child_stage.residual.": "child_residual.",
        "child_stage.samesample.": "child_same.",
        "child_image.img.": "child_canvas.image.",
        "child_mask.img.": "child_canvas.mask.",
    }
    for stage in ("background_stage", "parent_stage"):
        names[f"{stage}.fc."] = f"{stage}."
        for block in range(1, int(math.log2(image_size // 4)) + 1):
            # Published blocks count the nearest ×2 as a layer; ours have it in the convolution.
            names[f"{stage}.upsample{block}.1."] = f"{stage}.{block + 3}.0."
            names[f"{stage}.upsample{block}.2."] = f"{stage}.{block + 3}.1."
    return names


def encoder_names(image_size: int) -> dict[str, str]:
    """Prefixes of the published encoders' keys, and ours.

    A published encoder is one sequence of up to four strided convolutions, then blocks of one
    convolution each: those left of the strided ones, the last of the trunk, the two of the head.
    """
    strided = int(math.log2(image_size // 4))
    together = min(strided, 4)
    head = strided - together + 2
    names = {}
    for code in CODES:
        theirs, ours = f"model_{code}", f"{code}.0"
        names[f"{theirs}.0."] = f"{ours}."
        for block in range(1, head):
            layer = 3 * (together + block) - 4
            names[f"{theirs}.{block}.0."] = f"{ours}.{layer}."
            names[f"{theirs}.{block}.1."] = f"{ours}.{layer + 1}."
        names[f"{theirs}.{head}."] = f"{code}.1."
        names[f"{theirs}.{head + 1}."] = f"{code}.1.3."
    return names


def extractor_names(image_size: int) -> dict[str, str]:
    """Prefixes of the published shape extractor's keys, and ours."""
    names = {"first.": "first.", "last.": "last."}
    for block in range(1, int(math.log2(image_size // 2)) + 1):
        names[f"down{block}."] = f"downs.{block - 1}."
        names[f"up{block}."] = f"ups.{block - 1}."
    return names


def published_key(key: str, names: Mapping[str, str]) -> str:
    """The published name of one of our keys.

    Args:
        key: Of the state dict of our network.
        names: Its prefixes, published and ours; one of them fits each key.
    """
    theirs, ours = max(
        ((theirs, ours) for theirs, ours in names.items() if key.startswith(ours)),
        key=lambda pair: len(pair[1]),
    )
    return theirs + key.removeprefix(ours)
