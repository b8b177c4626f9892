"""Figures of the service in Prometheus' format; each replica counts for itself."""

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric

__all__ = ["Metrics", "page_of"]

BATCH_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """What one replica counts."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
        self.requests = Counter(
            "mixnmatch_requests", "Requests answered.", ["route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "mixnmatch_request_seconds",
            "From the first byte in the replica to the last of the answer.",
            ["route"],
            registry=registry,
        )
        self.in_progress = Gauge(
            "mixnmatch_requests_in_progress", "Requests being worked on.", registry=registry
        )
        self.batch_rows = Histogram(
            "mixnmatch_batch_rows",
            "Pictures that went through the networks together.",
            ["work"],
            buckets=BATCH_ROWS,
            registry=registry,
        )
        self.painted = Counter("mixnmatch_pictures_painted", "Pictures.", registry=registry)
        self.version = Gauge(
            "mixnmatch_model_version",
            "Version of the model that answers; 0 for a bundle's folder.",
            ["model"],
            registry=registry,
        )
        ProcessCollector(namespace="mixnmatch", registry=registry)

    def batch(self, work: str, rows: int) -> None:
        """Count a batch of ``encode`` or ``paint``."""
        self.batch_rows.labels(work).observe(rows)
        if work == "paint":
            self.painted.inc(rows)

    def told(self) -> list[Metric]:
        """All figures, to be sent to another process."""
        return list(self._registry.collect())


def page_of(replicas: Mapping[str, Iterable[Metric]]) -> bytes:
    """One page of the figures of several replicas, told apart by the label ``replica``."""
    return generate_latest(_All(replicas))


class _All(CollectorRegistry):
    def __init__(self, replicas: Mapping[str, Iterable[Metric]]) -> None:
        super().__init__()
        self._replicas = replicas

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for replica, metrics in self._replicas.items():
            for metric in metrics:
                family = families.setdefault(
                    metric.name, Metric(metric.name, metric.documentation, metric.type)
                )
                for sample in metric.samples:
                    if not sample.name.endswith("_created"):
                        labels = {**sample.labels, "replica": replica}
                        family.samples.append(sample._replace(labels=labels))
        return iter(families.values())
