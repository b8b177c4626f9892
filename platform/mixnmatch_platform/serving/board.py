"""Where the command that serves says which model is wanted, and replicas say how they are."""

import time
from collections import Counter
from collections.abc import Sequence

from prometheus_client.metrics_core import Metric

from mixnmatch_platform.serving.models import Served

__all__ = ["BEAT_SECONDS", "Board"]

BEAT_SECONDS = 1.0
"""Between two reports of a replica."""
SILENT_SECONDS = 30.0
"""After which a replica that does not report is no longer listed."""


class Board:
    """One for all replicas; lives in a process of its own, and as long as the command.

    Args:
        wanted: The model to begin with.
    """

    def __init__(self, wanted: Served) -> None:
        self._wanted = wanted
        self._reports: dict[str, tuple[float, Served, list[Metric]]] = {}
        self._troubles: dict[str, str] = {}

    def wanted(self) -> Served:
        """The model that replicas are to serve."""
        return self._wanted

    def want(self, served: Served) -> None:
        """Change it; replicas see that at their next report."""
        self._wanted = served

    def report(self, replica: str, serves: Served, metrics: Sequence[Metric]) -> Served:
        """Take note of a replica.

        Args:
            replica: Its name.
            serves: The model that it answers with.
            metrics: Its figures.

        Returns:
            The model that it is to serve.
        """
        self._reports[replica] = (time.monotonic(), serves, list(metrics))
        return self._wanted

    def trouble(self, replica: str, line: str) -> None:
        """Take note of why a replica cannot serve what is wanted."""
        self._troubles[replica] = line

    def troubles(self) -> dict[str, str]:
        """Why, by replica, since this was last asked."""
        told, self._troubles = self._troubles, {}
        return told

    def serving(self) -> dict[str, Served]:
        """What each replica that reports serves."""
        return {name: serves for name, (_, serves, _) in self._alive().items()}

    def metrics(self) -> dict[str, list[Metric]]:
        """The figures of each replica that reports."""
        return {name: metrics for name, (_, _, metrics) in self._alive().items()}

    def totals(self) -> dict[str, int]:
        """Requests by the first digit of their status, and pictures painted, of all replicas."""
        sums: Counter[str] = Counter()
        for _, _, metrics in self._reports.values():
            for sample in (sample for metric in metrics for sample in metric.samples):
                if sample.name == "mixnmatch_requests_total":
                    sums[sample.labels["status"][0]] += int(sample.value)
                elif sample.name == "mixnmatch_pictures_painted_total":
                    sums["painted"] += int(sample.value)
        return dict(sums)

    def _alive(self) -> dict[str, tuple[float, Served, list[Metric]]]:
        last = time.monotonic() - SILENT_SECONDS
        return {name: report for name, report in self._reports.items() if report[0] > last}
