"""What stands above a run while it trains: it may end it early, and hears how it goes."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

__all__ = ["Supervisor", "Unsupervised"]


@runtime_checkable
class Supervisor(Protocol):
    """Of one worker of a run; those of all workers must answer ``stop`` alike."""

    def stop(self) -> str | None:
        """Asked before each step: why to save and end after it, or None to go on."""

    def evaluated(self, figures: Mapping[str, float], images: int) -> None:
        """Told of each evaluation within stage 1, on worker 0.

        Args:
            figures: By name, as of any evaluation of so many samples.
            images: Training pictures seen till then, by all workers together.
        """


class Unsupervised:
    """Lets a run go to its end."""

    def stop(self) -> str | None:
        """Never."""
        return None

    def evaluated(self, figures: Mapping[str, float], images: int) -> None:
        """Not listened to."""
