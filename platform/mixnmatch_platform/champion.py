"""The champion of a registered model, with its figures in words."""

import math
from dataclasses import dataclass
from pathlib import Path

from mixnmatch.bundle import bundle_metrics
from mixnmatch.errors import without_passwords
from mixnmatch.metrics.disentanglement import FACTORS
from mixnmatch_platform.promotion.decisions import CHAMPION
from mixnmatch_platform.registry import fetch_model
from mixnmatch_platform.store import connect_existing, mlflow_errors

UNTRAINED_STEP = 0
"""Step of the figures of the untrained model, in each run's history."""


@dataclass(frozen=True, kw_only=True)
class ChampionCard:
    """A champion and what is known of it."""

    uri: str
    """Address for ``--model``."""
    version: int
    """Its number."""
    run_name: str
    """The run that made it."""
    folder: Path
    """Its bundle."""
    store: str
    """The MLflow store."""
    metrics: dict[str, float]
    """Figures of its last evaluation."""
    untrained: dict[str, float]
    """Distances of the same model before its training, where its run recorded them."""


def find_champion(store: str, name: str) -> ChampionCard:
    """Look a champion up.

    Args:
        store: Tracking URI.
        name: Name of the registered model.

    Raises:
        ModelError: If there is no such model, or it has no champion.
    """
    uri = f"models:/{name}@{CHAMPION}"
    folder = fetch_model(uri, store)
    client = connect_existing(store)
    with mlflow_errors(f"{uri} cannot be read from {store}"):
        version = client.get_model_version_by_alias(name, CHAMPION)
        run = client.get_run(version.run_id)
        distances = [key for key in run.data.metrics if key.startswith(("fid", "frechet_"))]
        first = {
            key: metric.value
            for key in distances
            for metric in client.get_metric_history(version.run_id, key)
            if metric.step == UNTRAINED_STEP
        }
    return ChampionCard(
        uri=uri,
        version=int(version.version),
        run_name=run.info.run_name,
        folder=folder,
        store=store,
        metrics=bundle_metrics(folder),
        untrained=first,
    )


def describe_champion(champion: ChampionCard) -> str:
    """A page of text for the terminal."""
    metrics = champion.metrics
    lines = [
        f"champion    {champion.uri} (version {champion.version}, run {champion.run_name})",
        f"bundle      {champion.folder}",
    ]
    if "disentanglement_accuracy" in metrics:
        lines.append(
            f"accuracy of {metrics['evaluation/samples']:.0f} mixes, by a judge tested on "
            f"{metrics['judge/held_out']:.0f} held-out pictures; each ± "
            f"{0.5 / math.sqrt(metrics['evaluation/samples']):.3f} at most (one standard error)"
        )
        lines.append(f"  {'':12}{'code':>8}{'feature':>9}{'chance':>9}{'judge':>8}")
        for name in FACTORS:
            columns = [
                metrics.get(f"{prefix}/{name}", float("nan"))
                for prefix in ("accuracy", "feature_accuracy", "chance/accuracy", "judge")
            ]
            lines.append("  {:12}{:8.3f}{:9.3f}{:9.3f}{:8.3f}".format(name, *columns))
        means = [
            metrics.get(name, float("nan"))
            for name in (
                "disentanglement_accuracy",
                "feature_disentanglement_accuracy",
                "chance/disentanglement_accuracy",
            )
        ]
        lines.append("  {:12}{:8.3f}{:9.3f}{:9.3f}".format("mean", *means))
    for name, before in champion.untrained.items():
        if (now := metrics.get(name)) is None:
            continue
        lines.append(f"{name} {now:.1f} (untrained {before:.1f}, {before / now:.1f} times as far)")
    store = without_passwords(champion.store)
    if store.startswith("http"):
        lines.append(f"look at it  {store}")
    else:
        lines.append(f"look at it  mlflow ui --host 127.0.0.1 --backend-store-uri {store}")
    return "\n".join(lines)
