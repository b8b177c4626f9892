"""Where the command that serves says what it wants, and replicas and proxies say how they are."""

import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from prometheus_client.metrics_core import Metric

if TYPE_CHECKING:  # proxies need none of what models need
    from mixnmatch_platform.serving.models import Served

__all__ = ["BEAT_SECONDS", "BOARD", "NAMESPACE", "UNANSWERED", "Board"]

BOARD, NAMESPACE = "serving-board", "mixnmatch"
"""What Ray knows the actor by."""
BEAT_SECONDS = 1.0
"""Between two reports of a replica, or a proxy."""
SILENT_SECONDS = 30.0
"""After which one that does not report no longer counts as alive."""
UNANSWERED = 499
"""In place of a status where the client has left, or its proxy has said that it took too long."""


class Board:
    """One for all replicas; lives in a process of its own, and as long as the command.

    Args:
        wanted: The model to begin with.
    """

    def __init__(self, wanted: "Served") -> None:
        self._wanted = wanted
        self._begun: set[str] = set()
        self._reports: dict[str, tuple[float, Served, list[Metric]]] = {}
        self._proxies: dict[str, tuple[float, int, bool]] = {}
        self._troubles: dict[str, str] = {}
        self._ending = False

    def begin(self, replica: str) -> "Served":
        """Take note of a replica that has found room; the model that it is to serve."""
        self._begun.add(replica)
        return self._wanted

    def begun(self) -> int:
        """How many replicas have found room so far."""
        return len(self._begun)

    def want(self, served: "Served") -> None:
        """Change what replicas are to serve; they see that at their next report."""
        self._wanted = served

    def end(self) -> None:
        """Have proxies let no more requests in; they see that at their next report."""
        self._ending = True

    def is_idle(self) -> bool:
        """Whether no proxy lets requests in, or works on one, any more."""
        last = time.monotonic() - SILENT_SECONDS
        return not any(busy for then, _, busy in self._proxies.values() if then > last)

    def report(self, replica: str, serves: "Served", metrics: Sequence[Metric]) -> "Served":
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

    def report_proxy(self, proxy: str, refused: int, busy: bool) -> bool:
        """Take note of a proxy.

        Args:
            proxy: Its name.
            refused: Requests that it has refused itself.
            busy: Whether it lets requests in, or works on one.

        Returns:
            Whether it is to let no more in.
        """
        self._proxies[proxy] = (time.monotonic(), refused, busy)
        return self._ending

    def trouble(self, replica: str, line: str) -> None:
        """Take note of why a replica cannot serve what is wanted."""
        self._troubles[replica] = line

    def troubles(self) -> dict[str, str]:
        """Why, by replica, since this was last asked."""
        told, self._troubles = self._troubles, {}
        return told

    def serving(self) -> "dict[str, Served]":
        """What each replica that reports serves."""
        return {name: serves for name, (_, serves, _) in self._alive().items()}

    def metrics(self) -> dict[str, list[Metric]]:
        """The figures of each replica that reports."""
        return {name: metrics for name, (_, _, metrics) in self._alive().items()}

    def totals(self) -> dict[str, int]:
        """Requests by the first digit of their status, or refused by proxies; pictures painted."""
        sums = Counter(refused=sum(refused for _, refused, _ in self._proxies.values()))
        for _, _, metrics in self._reports.values():
            for sample in (sample for metric in metrics for sample in metric.samples):
                if sample.name == "mixnmatch_requests_total":
                    if sample.labels["status"] != str(UNANSWERED):
                        sums[sample.labels["status"][0]] += int(sample.value)
                elif sample.name == "mixnmatch_pictures_painted_total":
                    sums["painted"] += int(sample.value)
        return dict(sums)

    def _alive(self) -> "dict[str, tuple[float, Served, list[Metric]]]":
        last = time.monotonic() - SILENT_SECONDS
        return {name: report for name, report in self._reports.items() if report[0] > last}
