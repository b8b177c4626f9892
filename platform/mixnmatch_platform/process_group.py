"""How the workers of a Ray Train group are set up.

Apart from what they do: the controller of a group imports this, and would wait for the rest.
"""

from dataclasses import dataclass
from typing import Any

from ray.train.torch import TorchConfig

from mixnmatch_platform.stopping import install_handler

__all__ = ["NoticingConfig"]


class _NoticingBackend(TorchConfig().backend_cls):  # type: ignore[misc]  # Ray's own for torch
    """Takes note of SIGTERM in the workers.

    Ray's own handler ends a worker at once, with the thread that trains. This is the one hook that
    runs in the main thread, which alone may set handlers.
    """

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        super().on_start(worker_group, backend_config)
        worker_group.execute(install_handler)


@dataclass
class NoticingConfig(TorchConfig):  # type: ignore[misc]  # Ray's types are not followed
    """Process group of workers that take note of SIGTERM."""

    @property
    def backend_cls(self) -> type:
        """What sets the workers up."""
        return _NoticingBackend
