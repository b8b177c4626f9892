"""An evaluation with one of everything, without a model: for the tests of how people see one."""

import numpy as np
from PIL import Image

from mixnmatch.metrics.evaluate import Evaluation
from mixnmatch.metrics.figures import Figure
from mixnmatch.metrics.measure import Exhibit, Table

FACTORS = ("background", "pose", "shape", "texture")


def made_evaluation(*, extra: Exhibit | None = None, kind: str = "factors") -> Evaluation:
    """Figures of all kinds in three groups, with pictures and tables."""
    accuracies = {
        f"accuracy/{name}": Figure(
            value=value, low=value - 0.03, high=value + 0.03, chance=chance, count=512,
            better="higher",
        )
        for name, value, chance in zip(
            FACTORS, (0.91, 0.27, 0.55, 0.10), (0.33, 0.25, 0.5, 0.25), strict=True
        )
    }  # fmt: skip
    quality = {
        "fid_512": Figure(value=123.456, low=119.0, high=131.0, count=512, better="lower"),
        "kid_512": Figure(value=-0.00123, low=-0.003, high=0.001, count=512, better="lower"),
        "inception_score_512": Figure(value=2.34567, count=512, better="higher"),
        "precision_512": Figure(value=0.61, low=0.57, high=0.65, count=512, better="higher"),
    }
    diversity = {
        "memorised": Figure(value=float("nan"), chance=0.0, count=0, better="lower"),
        "fine_codes_used": Figure(value=12345.6, count=512),
    }
    mean = Figure(value=0.46, low=0.44, high=0.48, chance=0.33, count=512, better="higher")
    factors = {"disentanglement_accuracy": mean, **accuracies}
    pixels = np.random.default_rng(0).integers(0, 256, (8, 24, 3), dtype=np.uint8)
    leaks = Table(
        rows=FACTORS,
        columns=FACTORS,
        values=np.array(
            [
                [0.91, 0.2, 0.33, 0.3],
                [0.05, 0.27, 1, 0],
                [0.4, 0.5, 0.55, 0.6],
                [0.7, 0.8, 0.9, 0.1],
            ]
        ),
        chance=np.tile([0.33, 0.25, 0.5, 0.25], (4, 1)),
        corner="source → shown",
    )
    wide = Table(
        rows=[f"class {number}" for number in range(3)],
        columns=[f"code {number}" for number in range(30)],
        values=np.linspace(0, 1, 90).reshape(3, 30),
    )
    sheet = Image.linear_gradient("L").resize((1600, 700)).convert("RGB")
    return Evaluation(
        figures=quality | diversity | factors,
        groups={
            name: group
            for group, figures in (
                ("quality", quality), ("diversity", diversity), ("factors", factors)
            )
            for name in figures
        },
        exhibits={
            "quality": [
                Exhibit(
                    title="Generated <pictures>",
                    caption="Look for objects that stand before their backgrounds.",
                    picture=Image.fromarray(pixels),
                ),
                Exhibit(title="Nearest pictures", caption="Of training.", picture=sheet),
            ],
            "factors": [
                Exhibit(title="Leak matrix", caption="Rows: sources.", table=leaks),
                Exhibit(title="Codes of classes", caption="Wide.", table=wide),
                *([extra] if extra else []),
            ],
        },
        protocol={
            "generated": {"protocol": "quick", "samples": 512, "seed": 7},
            "real": {
                "kind": kind, "fingerprint": "0123456789abcdef" * 4, "compared": 1500, "seen": True
            },
            "extractors": {},
            "versions": {"torch": "2.0"},
        },
        seconds={"quality": 100.25, "diversity": 2.0, "factors": 30.5},
    )  # fmt: skip
