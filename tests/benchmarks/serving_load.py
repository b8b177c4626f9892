"""What ``serving.py`` measures with: models to serve, a service, clients, a mixer beside it."""

import io
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "platform"), str(ROOT / "tests" / "unit" / "serving")]

import numpy as np  # noqa: E402
import requests  # noqa: E402
import torch  # noqa: E402
from mlflow import MlflowClient  # noqa: E402
from PIL import Image  # noqa: E402

from mixnmatch.bundle import ModelBundle, load_bundle, save_bundle  # noqa: E402
from mixnmatch.config import ModelConfig, RunConfig  # noqa: E402
from mixnmatch.data.pictures import encode_png  # noqa: E402
from mixnmatch.device import keep_freed_memory  # noqa: E402
from mixnmatch.mixer import Mixer  # noqa: E402
from mixnmatch.networks import Encoders, Generator, ShapeExtractor  # noqa: E402
from mixnmatch_platform.periodic import every  # noqa: E402
from mixnmatch_platform.services import free_port  # noqa: E402
from mixnmatch_platform.serving.follow import Follower  # noqa: E402
from mixnmatch_platform.serving.plan import Plan, prepare  # noqa: E402
from mixnmatch_platform.serving.server import serving  # noqa: E402

NAME = "bench"
MODEL = f"models:/{NAME}@champion"
FACTORS = ("background", "pose", "shape", "texture")
FORMS = 16
"""Different requests that clients send in turn."""
SIDES = (640, 480)
"""Of the pictures that they send, as JPEG."""

# A client of wrk: each of its threads sends the forms in turn.
SCRIPT = """
local forms = {}
for i = 0, %d do
  local file = io.open("%s/form-" .. i, "rb")
  forms[i] = file:read("*a")
  file:close()
end
local turn = 0
wrk.method = "POST"
wrk.headers["Content-Type"] = "multipart/form-data; boundary=edge"
request = function()
  turn = (turn + 1) %% %d
  return wrk.format(nil, "/mix", nil, forms[turn])
end
"""


class Load(NamedTuple):
    """What wrk saw."""

    requests: int
    seconds: float
    median: float
    """Latency, in milliseconds."""
    p99: float
    """Latency, in milliseconds."""
    failed: int
    """Answers of another status than 2xx, and connections that broke."""

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


def small() -> ModelConfig:
    """A model that leaves most of the time to serving."""
    return ModelConfig(
        image_size=32,
        super_categories=2,
        fine_categories=4,
        generator_width=8,
        encoder_width=4,
        extractor_width=2,
    )


def make_bundle(config: ModelConfig, out: Path, seed: int) -> Path:
    """An untrained model."""
    torch.manual_seed(seed)
    with fast_start():
        networks = Generator(config), Encoders(config), ShapeExtractor(config)
    generator, encoders, extractor = networks
    return save_bundle(
        ModelBundle(
            config=RunConfig(model=config),
            generator=generator,
            encoders=encoders,
            extractor=extractor,
        ),
        out,
    )


@contextmanager
def fast_start() -> Iterator[None]:
    """Normal weights in place of orthogonal ones, which take a minute and change no time here."""
    before = torch.nn.init.orthogonal_
    torch.nn.init.orthogonal_ = lambda tensor, **_: torch.nn.init.normal_(tensor, 0, 0.02)
    try:
        yield
    finally:
        torch.nn.init.orthogonal_ = before


def make_registry(folder: Path) -> MlflowClient:
    """A store of a model with two versions; the champion is the first."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    if not client.search_registered_models():
        client.create_registered_model(NAME)
        for version in (1, 2):
            out = make_bundle(small(), folder / f"v{version}", seed=version)
            client.create_model_version(NAME, source=str(out))
    client.set_registered_model_alias(NAME, "champion", "1")
    return client


@contextmanager
def served(
    folder: Path,
    model: str,
    *,
    registry: MlflowClient | None = None,
    replicas: int = 1,
    batch_size: int = 16,
) -> Iterator[tuple[Plan, Any]]:
    """A service during a block, with its board; an alias is looked at each second."""
    import ray

    plan = Plan(
        model=model,
        store=f"sqlite:///{folder}/mlflow.db",
        home=folder,
        gallery=None,
        host="127.0.0.1",
        port=free_port(),
        replicas=(replicas, replicas),
        cpus_per_replica=0.9,
        gpus_per_replica=0,
        batch_size=batch_size,
        queue=256,
        timeout_seconds=120,
        follow_seconds=1,
        token=None,
    )
    prepared = prepare(plan)
    with serving(prepared, grows=False) as board:
        if registry is None:
            yield plan, board
            return
        follower = Follower(
            model, plan.store, prepared.served, lambda to: ray.get(board.want.remote(to))
        )
        with every(plan.follow_seconds, follower.look, "follow"):
            yield plan, board


def replicas(board: Any) -> set[str]:
    """Names of those that report."""
    import ray

    return set(ray.get(board.serving.remote()))


def versions(board: Any) -> set[int | None]:
    """What is served."""
    import ray

    return {served.version for served in ray.get(board.serving.remote()).values()}


def pids(kind: str) -> list[int]:
    """Processes of the living actors of a class."""
    import ray
    from ray.util.state import list_actors

    wanted = [("class_name", "=", kind), ("state", "=", "ALIVE")]
    return [int(a.pid) for a in list_actors(ray.get_runtime_context().gcs_address, filters=wanted)]


def wait_for(holds: Callable[[], bool]) -> None:
    """Within two minutes."""
    deadline = time.monotonic() + 120
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError("waited for two minutes")
        time.sleep(0.2)


def write_forms(folder: Path) -> None:
    """Requests of four pictures each, and the script that sends them."""
    random = np.random.default_rng(0)
    for number in range(FORMS):
        form = b""
        for factor in FACTORS:
            coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
            buffer = io.BytesIO()
            coarse.resize(SIDES, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
            (folder / f"{factor}-{number}.jpg").write_bytes(buffer.getvalue())
            head = f'--edge\r\nContent-Disposition: form-data; name="{factor}"; filename="a.jpg"'
            form += head.encode() + b"\r\n\r\n" + buffer.getvalue() + b"\r\n"
        (folder / f"form-{number}").write_bytes(form + b"--edge--\r\n")
    (folder / "mix.lua").write_text(SCRIPT % (FORMS - 1, folder, FORMS))


def load(folder: Path, url: str, clients: int, seconds: float) -> Load:
    """Let clients ask without a pause, each on a connection that it keeps, nothing twice."""
    threads = min(2, clients)
    done = subprocess.run(
        [
            *("wrk", f"-t{threads}", f"-c{clients}", f"-d{seconds:.0f}s", "--timeout", "120s"),
            *("--latency", "-s", str(folder / "mix.lua"), url),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    count, took = re.search(r"(\d+) requests in ([\d.]+\w+)", done).groups()
    broken = re.search(
        r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", done
    )
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", done)
    failed = sum(map(int, broken.groups())) if broken else 0
    return Load(
        int(count),
        milliseconds(took) / 1000,
        milliseconds(re.search(r"^ +50% +(\S+)", done, re.MULTILINE)[1]),
        milliseconds(re.search(r"^ +99% +(\S+)", done, re.MULTILINE)[1]),
        failed + (int(refused[1]) if refused else 0),
    )


@contextmanager
def loaded(folder: Path, url: str, seconds: float) -> Iterator[list[Load]]:
    """Load during a block and for so many seconds at least; what was seen is there afterwards."""
    seen: list[Load] = []
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        asked = pool.submit(load, folder, url, 8, seconds)
        time.sleep(3)
        yield seen
        seen.append(asked.result())


def milliseconds(text: str) -> float:
    """Of a time as wrk writes it."""
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000}[unit]


def told(seen: Load) -> str:
    """In words."""
    return (
        f"{seen.requests} requests, {seen.rate:.2f}/s, p50 {seen.median:.0f} ms, "
        f"p99 {seen.p99:.0f} ms, {seen.failed} failed"
    )


def batches(url: str) -> Counter[int]:
    """Batches painted so far, by the bound of rows that they fall under."""
    page = requests.get(f"{url}/metrics").text
    found = re.findall(r'batch_rows_bucket\{le="(\d+)\.0",[^}]*work="paint"\} ([\d.]+)', page)
    below, counts = 0, Counter[int]()
    for bound, count in found:
        counts[int(bound)] = int(float(count)) - below
        below = int(float(count))
    return counts


# What the functions below find in the mixer's process.
_held: dict[str, Any] = {}


def begin(bundle: Path, folder: Path) -> None:
    """Load the mixer, as a replica does."""
    torch.set_num_threads(1)
    keep_freed_memory()
    _held.update(mixer=Mixer(load_bundle(bundle), batch_size=16), folder=folder)


def mixes(seconds: float) -> tuple[list[float], float]:
    """Mixes for so many seconds, one by one, from files to a PNG: each one's time, all CPU time."""
    mixer, folder, took = _held["mixer"], _held["folder"], []
    cpu = time.process_time()
    over = time.perf_counter() + seconds
    while time.perf_counter() < over:
        number = len(took) % FORMS
        began = time.perf_counter()
        picture = mixer.mix(
            **{factor: folder / f"{factor}-{number}.jpg" for factor in FACTORS}, mode="code"
        )
        encode_png(picture)
        took.append(time.perf_counter() - began)
    return took, time.process_time() - cpu


def alone_ratio(bundle: Path, folder: Path) -> float:
    """How much faster the mixer is with 16 mixes at once; without files, HTTP and PNG."""
    with ProcessPoolExecutor(1, get_context("spawn"), begin, (bundle, folder)) as pool:
        return pool.submit(_batched).result()


def _batched() -> float:
    mixer = _held["mixer"]
    random = torch.Generator().manual_seed(0)
    side = mixer.image_size
    sources = {name: 2 * torch.rand(16, 3, side, side, generator=random) - 1 for name in FACTORS}

    def seconds(size: int) -> float:
        began = time.perf_counter()
        for start in range(0, 16, size):
            mixer.mix_tensors(**{n: i[start : start + size] for n, i in sources.items()})
        return time.perf_counter() - began

    pairs = [(seconds(1), seconds(16)) for _ in range(4)][1:]
    return statistics.median(one / all_ for one, all_ in pairs)
