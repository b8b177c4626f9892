"""A replica: the model and the routes in one process, without a hop between them."""

import asyncio
import logging
import time
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from mixnmatch.device import choose_device, keep_freed_memory
from mixnmatch.errors import MixNMatchError
from mixnmatch_platform.serving.app import make_app
from mixnmatch_platform.serving.batching import Bench
from mixnmatch_platform.serving.board import BEAT_SECONDS
from mixnmatch_platform.serving.follow import AGAIN_SECONDS
from mixnmatch_platform.serving.metrics import Metrics
from mixnmatch_platform.serving.models import Served
from mixnmatch_platform.serving.painter import Painter
from mixnmatch_platform.serving.service import Loaded, Service, loaded_from
from mixnmatch_platform.serving.watch import Watch
from mixnmatch_platform.store import one_line

__all__ = ["Replica", "Settings"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all replicas have in common."""

    served: Served
    """The model to begin with, where the board is away."""
    gallery: Mapping[str, bytes]
    """PNG files by id."""
    batch_size: int
    threads: int
    """Of the networks."""
    device: str
    token: bytes | None
    """SHA-256 digest of what clients must know."""


class Replica:
    """Serves the model that the board wants, and swaps it between two requests.

    Args:
        settings: As for all replicas.
        board: Handle of the actor ``Board``.
    """

    async def __init__(self, settings: Settings, board: Any) -> None:  # type: ignore[misc]
        import torch
        from ray import serve
        from ray.exceptions import RayError

        # What matters of the damage of uploads is in our own errors.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        logging.getLogger("python_multipart").setLevel(logging.ERROR)
        keep_freed_memory()
        self._settings, self._board = settings, board
        self._metrics = Metrics()
        thread = ThreadPoolExecutor(
            1, "painter", initializer=torch.set_num_threads, initargs=(settings.threads,)
        )
        self._bench = Bench(thread)
        name = serve.get_replica_context().replica_id.unique_id
        try:
            wanted = await board.begin.remote(name)
        except RayError:
            wanted = settings.served
        self.service = Service(
            loaded=await self._load(wanted),
            replica=name,
            bench=self._bench,
            metrics=self._metrics,
            token=settings.token,
        )
        self._beating = asyncio.create_task(self._beat())

    def __serve_build_asgi_app__(self) -> Watch:
        """Ray Serve asks for the application by this name."""
        return make_app(self.service, self._others)

    async def _load(self, served: Served) -> Loaded:
        """Read a model in a thread of its own, while another one answers."""
        settings = self._settings

        def read() -> Loaded:
            mixer = served.load(str(choose_device(settings.device)), settings.batch_size)
            painter = Painter(mixer, self._bench, self._metrics.batch)
            return loaded_from(served, painter, settings.gallery)

        loaded = await asyncio.to_thread(read)
        self._metrics.version.clear()
        self._metrics.version.labels(served.name).set(served.version or 0)
        return loaded

    async def _beat(self) -> None:
        """Report to the board, and follow what it wants."""
        from ray.exceptions import RayError

        service = self.service
        failed: Served | None = None
        again = 0.0
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            try:
                serves = service.loaded.served
                wanted = await self._board.report.remote(
                    service.replica, serves, self._metrics.told()
                )
                if wanted == serves or (wanted == failed and time.monotonic() < again):
                    continue
                try:
                    service.loaded = await self._load(wanted)
                except (MixNMatchError, OSError, RuntimeError, MemoryError) as error:
                    failed, again = wanted, time.monotonic() + AGAIN_SECONDS
                    line = f"{wanted} cannot be served: {one_line(error)}; {serves} stays"
                    await self._board.trouble.remote(service.replica, line)
            except RayError:
                continue  # the command is gone, or starts again: the model stays
            except Exception:
                logging.getLogger("ray.serve").exception("a replica could not report")

    async def _others(self) -> dict[str, Any]:
        from ray.exceptions import RayError

        try:
            return dict(await self._board.metrics.remote())
        except RayError:
            return {}
