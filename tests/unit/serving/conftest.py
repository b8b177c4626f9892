"""The routes without Ray: an application in this process, asked as a server would ask it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from asking import VERSION, Answer, Ask, ask_app, encoded, nobody
from PIL import Image, ImageDraw

from mixnmatch.bundle import load_bundle
from mixnmatch.data.store import Dataset
from mixnmatch.mixer import Mixer
from mixnmatch_platform.serving.app import make_app
from mixnmatch_platform.serving.batching import Bench
from mixnmatch_platform.serving.gallery import choose_pictures
from mixnmatch_platform.serving.guard import Guard
from mixnmatch_platform.serving.limits import Limits
from mixnmatch_platform.serving.metrics import Metrics
from mixnmatch_platform.serving.models import Served
from mixnmatch_platform.serving.painter import Painter
from mixnmatch_platform.serving.service import Service, loaded_from


@pytest.fixture
def mixer(tiny_bundle: Path) -> Mixer:
    """An untrained model whose weights are large enough to tell pictures apart."""
    bundle = load_bundle(tiny_bundle)
    for encoder in bundle.encoders.children():
        encoder[1][3].weight *= 4
    return Mixer(bundle, batch_size=4)


@pytest.fixture(scope="session")
def gallery(tiny_dataset: Dataset) -> dict[str, bytes]:
    return choose_pictures(tiny_dataset, 5)


@pytest.fixture
def make_service(mixer: Mixer, gallery: dict[str, bytes]) -> Callable[..., Service]:
    def make(**changes: Any) -> Service:
        metrics = Metrics()
        bench = Bench(ThreadPoolExecutor(1))
        served = Served(name="birds", version=VERSION, source="models:/birds/7", store="sqlite:///")
        loaded = loaded_from(served, Painter(mixer, bench, metrics.batch), gallery)
        given = {"loaded": loaded, "replica": "r1", "bench": bench, "metrics": metrics}
        return Service(**given | changes)

    return make


@pytest.fixture
def ask(make_service: Callable[..., Service]) -> Ask:
    """Asks an application behind the guard; ``service`` names what differs in its service."""

    def ask(method: str, path: str, service: dict[str, Any] | None = None, **parts: Any) -> Answer:
        async def go() -> Answer:
            made = make_service(**service or {})
            app = Guard(make_app(made, nobody), limits=made.limits)
            return await ask_app(app, method, path, **parts)

        return asyncio.run(go())

    return ask


@pytest.fixture(scope="session")
def png() -> bytes:
    return encoded(Image.linear_gradient("L").resize((50, 40)).convert("RGB"), "PNG")


@pytest.fixture(scope="session")
def drawing() -> bytes:
    """A ring, dark on white."""
    page = Image.new("RGB", (120, 120), "white")
    ImageDraw.Draw(page).ellipse((30, 40, 80, 90), outline="black", width=4)
    return encoded(page, "PNG")


@pytest.fixture(scope="session")
def film() -> bytes:
    """Ten frames of 80 ms."""
    frames = [Image.new("RGB", (48, 36), (20 * i, 90, 10)) for i in range(10)]
    for i, frame in enumerate(frames):
        ImageDraw.Draw(frame).rectangle((i, i, i + 12, i + 12), fill="white")
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=80, loop=0)


@pytest.fixture
def tight() -> Limits:
    """So small that tests need little to go beyond them."""
    return Limits(
        body_bytes=40_000,
        picture_bytes=8_000,
        film_bytes=9_000,
        pixels=10_000,
        film_pixels=20_000,
        count=3,
        frames=9,
        parts=8,
    )
