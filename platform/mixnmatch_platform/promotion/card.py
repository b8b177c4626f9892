"""A model card in Markdown: what a model is, what was measured, and what it cannot do."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from mixnmatch.bundle import ModelBundle

__all__ = ["SHEET", "model_card"]

SHEET = "sheet.png"
"""The picture beside the card."""
PARTS = ("low/", "high/", "chance/")
OF_TRAINING = ("cost/", "evaluation/", "training/", "loss/", "seconds/", "system/")


def model_card(
    bundle: ModelBundle,
    *,
    name: str,
    run: str,
    metrics: Mapping[str, float],
    protocol: Mapping[str, Mapping[str, Any]] | None,
    code: Mapping[str, str],
    sha256: str,
    licence: str | None,
    data_licence: str | None,
) -> str:
    """Write the card.

    Args:
        bundle: The model.
        name: Of the registered model.
        run: Name of the run that trained it.
        metrics: Its figures, with ``low/…``, ``high/…`` and ``chance/…``.
        protocol: How they were measured.
        code: Tags of its run, of which those of code are named.
        sha256: Of its weights.
        licence: Of the model.
        data_licence: Of the data.
    """
    model = bundle.config.model
    modes = "code and feature mode" if bundle.extractor is not None else "code mode"
    figures = list(_figures(metrics))
    lines = [
        f"# {name}",
        "",
        "MixNMatch ([arXiv 1911.11758](https://arxiv.org/abs/1911.11758)): takes the background of "
        "one picture, the pose of another, the shape of a third and the texture of a fourth, and "
        f"paints them as one, in {modes}.",
        "",
        f"![What it paints]({SHEET})",
        "",
        *_table(
            {
                "pictures": f"{model.image_size}×{model.image_size} px",
                "categories": f"{model.super_categories} shapes, {model.fine_categories} textures, "
                f"{model.fine_categories} backgrounds",
                "trained by": f"run {run}, stages {'+'.join(map(str, bundle.stages))}, seed "
                f"{bundle.config.seed}",
                "code": code.get("mlflow.source.git.commit", "not recorded"),
                "weights": f"safetensors, SHA-256 `{sha256}`",
                "licence": licence or "not stated",
            },
        ),
        "## Data",
        "",
        *_table({**_data(bundle), "licence": data_licence or "not stated"}),
        "## Figures",
        "",
        "Each with its 95 % interval and its chance level, where those are known.",
        "",
        "| figure | value | 95 % | chance |",
        "|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in figures),
        "",
        "## How they were measured",
        "",
        *_protocol(protocol),
        "## Limits",
        "",
        *(f"- {limit}" for limit in _limits(bundle, metrics)),
        "",
        "## Use",
        "",
        "```sh",
        f"mixnmatch mix --model models:/{name}@champion --background a.jpg --pose b.jpg \\",
        "    --shape c.jpg --texture d.jpg --out mix.png",
        f"mlflow models serve --model-uri models:/{name}@champion --env-manager local",
        "```",
        "",
    ]
    return "\n".join(lines)


def _data(bundle: ModelBundle) -> dict[str, str]:
    return {str(key): str(value) for key, value in bundle.data.items()} or {"": "not recorded"}


def _figures(metrics: Mapping[str, float]) -> Iterator[tuple[str, ...]]:
    def shown(value: float | None) -> str:
        return "" if value is None or not math.isfinite(value) else f"{value:.4g}"

    for name in sorted(metrics, key=lambda name: ("/" in name, name)):
        if name.startswith((*PARTS, *OF_TRAINING)):
            continue
        low, high = (shown(metrics.get(f"{end}/{name}")) for end in ("low", "high"))
        interval = f"{low} to {high}" if low and high else ""
        yield name, shown(metrics[name]), interval, shown(metrics.get(f"chance/{name}"))


def _protocol(protocol: Mapping[str, Mapping[str, Any]] | None) -> list[str]:
    if protocol is None:
        return ["Not recorded.", ""]
    rows = {
        f"{section}: {key.replace('_', ' ')}": str(value)
        for section, values in protocol.items()
        for key, value in values.items()
        if value is not None
    }
    return _table(rows)


def _limits(bundle: ModelBundle, metrics: Mapping[str, float]) -> Iterator[str]:
    kind, count = bundle.data.get("kind", "one kind"), bundle.data.get("count", "unknown")
    yield (
        f"It has seen pictures of one kind of thing ({kind}, {count} of them), each filling the "
        "middle of its picture; of other things, or small ones, it makes something of that kind."
    )
    yield (
        f"It knows {bundle.config.model.super_categories} shapes and "
        f"{bundle.config.model.fine_categories} textures, found without labels: what they are must "
        "be looked at."
    )
    if bundle.extractor is not None:
        yield "In feature mode the pose is that of the shape picture."
    for name, value in sorted(metrics.items()):
        chance, low = metrics.get(f"chance/{name}"), metrics.get(f"low/{name}")
        if "accuracy" in name and chance is not None and low is not None and low <= chance:
            yield f"`{name}` is {value:.3g}, not told from chance ({chance:.3g})."


def _table(rows: Mapping[str, str]) -> list[str]:
    def cell(text: str) -> str:
        return text.replace("|", "\\|").replace("\n", " ")

    body = [f"| {cell(key)} | {cell(value)} |" for key, value in rows.items()]
    return ["| | |", "|---|---|", *body, ""]
