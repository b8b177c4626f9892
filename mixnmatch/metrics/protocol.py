"""Protocols: what a figure depends on beside the model, fixed by name and recorded with it."""

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import mixnmatch

if TYPE_CHECKING:  # the command line names the protocols, and must not wait for torch
    from mixnmatch.metrics.measure import Subject

PROTOCOL = "evaluation-protocol.json"
"""File of a run: what its figures depend on beside the model."""
INCEPTION_SIDE = 299
"""Of the pictures that the FID Inception network works on, in pixels."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A way to measure that has a name."""

    samples: int
    """Pictures generated, and mixes judged."""
    purpose: str
    """What it is for, in a sentence."""


PROTOCOLS = {
    "paper": Protocol(
        samples=30_000,
        purpose="what the papers report, as far as it is known: `fid` without a count in its name",
    ),
    "5k": Protocol(
        samples=5_000,
        purpose="a full evaluation at a sixth of the cost: `fid_5k`, above `fid` by a bias that "
        "grows as samples get fewer",
    ),
    "quick": Protocol(
        samples=512,
        purpose="a look in seconds to minutes: `fid_512`, to be compared with itself alone",
    ),
}
"""By name; they differ in counts alone."""

SHARED = (
    "as many generated pictures of each fine code as of any other, give or take one, with tied "
    "codes (b = c, and p the parent of c), painted by the averaged generator",
    "compared with all training pictures: object view (1.5 times the box), resized with Pillow's "
    "bilinear filter, cropped in the centre, not flipped",
    "pictures and mixes at the model's image size; Inception resizes both to 299 px itself, "
    "bilinear as in TensorFlow 1",
)
"""What all of them have in common."""

PUBLISHED = (
    "known, of FineGAN (arXiv 1811.11155; github.com/kkanshul/finegan, issue 8) and taken over by "
    "MixNMatch: 30,000 pictures, 150 of each of the 200 fine codes, tied codes; FID on the "
    "Inception network of ImageNet, not fine-tuned",
    "never stated: how the real pictures were cropped and resized; others could not get the "
    "paper's FID from the published weights (issues 12 and 17)",
)
"""What is known of the published protocol, and what is not."""


def protocol_name(samples: int) -> str | None:
    """The protocol that has this count."""
    return next((name for name, each in PROTOCOLS.items() if each.samples == samples), None)


def describe(
    subject: "Subject",
    extractors: Mapping[str, str] | None = None,
    oracles: Mapping[str, str] | None = None,
) -> dict[str, dict[str, Any]]:
    """What the figures of a subject depend on beside the model, as plain JSON.

    Args:
        subject: What is measured.
        extractors: SHA-256 of the weights of each network that features come from, by its name.
        oracles: The same of those that judge pictures: of ``classifier`` and ``localiser`` those
            that did.

    Returns:
        Sections, each with values by name.
    """
    run, info = subject.bundle.config, subject.dataset.info
    side, samples, fine = subject.image_size, subject.config.samples, run.model.fine_categories
    judges = oracles or {}
    half_life = run.stage1.ema_half_life_images  # takes the place of the decay
    held_out = "test" if len(subject.dataset.indices("test")) else "all, as there is no test split"
    return {
        "generated": {
            "protocol": protocol_name(samples),
            "samples": samples,
            "codes": "tied",
            "fine_codes": fine,
            "samples_per_fine_code": _spread(samples, fine),
            "seed": subject.seed,
            "weights": "exponential moving average",
            "ema_decay": None if half_life else run.stage1.ema_decay,
            "ema_half_life_images": half_life,
            "stages": list(subject.bundle.stages),
        },
        "real": {
            "kind": info.kind,
            "fingerprint": info.fingerprint,
            "count": info.count,
            "compared_split": "train",
            "compared": len(subject.real_rows),
            "mixed_split": held_out,
            "mixed": len(subject.held_out_rows),
            "seen_in_training": _seen(subject),
        },
        "pictures": {
            "image_size": side,
            "view": "object: 1.5 times the longer side of the box, clipped to the picture",
            "resize": f"Pillow bilinear, short side {int(side * 76 / 64)}",
            "crop": f"centre, {side}x{side}, not flipped",
            "resize_for_inception": f"bilinear as in TensorFlow 1, {INCEPTION_SIDE}x"
            f"{INCEPTION_SIDE}",
        },
        "oracles": {
            "classifier_steps": subject.config.classifier_steps,
            "classifier_sha256": judges.get("classifier"),
            "localiser_steps": subject.config.localiser_steps,
            "localiser_sha256": judges.get("localiser"),
        },
        "extractors": dict(extractors or {}),
        "versions": {
            "mixnmatch": mixnmatch.__version__,
            **{name: importlib.metadata.version(name) for name in ("torch", "torch-fidelity")},
        },
    }


_OF_THE_MODEL = {
    *("generated.protocol", "generated.fine_codes", "generated.samples_per_fine_code"),
    *("generated.ema_decay", "generated.ema_half_life_images", "generated.stages"),
    *("generated.seed", "real.seen_in_training", "versions.torch"),
}
"""What may differ between evaluations whose figures are compared; the name of a protocol says no
more than its counts."""


def conditions(protocol: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What two evaluations must agree in for their figures to be compared.

    Args:
        protocol: As ``describe`` gives it.

    Returns:
        Values by name, such as ``generated.samples``.
    """
    flat = {
        f"{section}.{name}": value
        for section, values in protocol.items()
        for name, value in values.items()
    }
    return {name: value for name, value in flat.items() if name not in _OF_THE_MODEL}


def _spread(samples: int, codes: int) -> str:
    few, rest = divmod(samples, codes)
    return f"{few} or {few + 1}" if rest else str(few)


def _seen(subject: "Subject") -> bool | None:
    """Whether the model was trained on this data set; none where the model does not say."""
    trained_on = subject.bundle.data.get("fingerprint")
    return None if trained_on is None else bool(trained_on == subject.dataset.info.fingerprint)
