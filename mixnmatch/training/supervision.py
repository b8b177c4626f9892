"""What stands above a run while it trains, and may end it early."""

from typing import Protocol, runtime_checkable

__all__ = ["Supervisor", "Unsupervised"]


@runtime_checkable
class Supervisor(Protocol):
    """Of one worker of a run; those of all workers must answer alike."""

    def stop(self) -> str | None:
        """Asked before each step: why to save and end after it, or None to go on."""


class Unsupervised:
    """Lets a run go to its end."""

    def stop(self) -> str | None:
        """Never."""
        return None
