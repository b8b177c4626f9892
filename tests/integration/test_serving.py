"""A service of two replicas on Ray Serve, asked all the time while things happen to it."""

import contextlib
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import requests
import torch
from mlflow import MlflowClient

from mixnmatch.bundle import ModelBundle, save_bundle
from mixnmatch.config import RunConfig
from mixnmatch.data.store import Dataset
from mixnmatch.errors import InputError
from mixnmatch.networks import Encoders, Generator, ShapeExtractor
from mixnmatch_platform.periodic import every
from mixnmatch_platform.services import free_port
from mixnmatch_platform.serving.follow import Follower
from mixnmatch_platform.serving.plan import Plan, prepare
from mixnmatch_platform.serving.server import serving
from mixnmatch_platform.tracking import DATA_TAG

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("ray_cluster")]

NAME = "birds"
MODEL = f"models:/{NAME}@champion"
ALTERED = {
    "background_code": "1",
    "shape_code": "1",
    "texture_code": "2",
    "pose_seed": "3",
}
PATIENCE_SECONDS = 60.0


class Registry(NamedTuple):
    """A registered model of three versions, of which the last one is broken."""

    uri: str
    client: MlflowClient
    run_id: str
    """Of the first version, trained on ``tiny_dataset``."""

    def promote(self, version: int) -> None:
        self.client.set_registered_model_alias(NAME, "champion", str(version))


class Running(NamedTuple):
    """The service."""

    plan: Plan
    board: Any
    registry: Registry

    def serving(self) -> dict[str, int | None]:
        """Versions by replica."""
        import ray

        told = ray.get(self.board.serving.remote())
        return {name: served.version for name, served in told.items()}


@pytest.fixture(scope="module")
def registry(
    tiny: RunConfig, tiny_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Registry:
    folder = tmp_path_factory.mktemp("registry")
    uri = f"sqlite:///{folder}/mlflow.db"
    client = MlflowClient(tracking_uri=uri)
    client.create_registered_model(NAME)
    run_id = client.create_run("0").info.run_id
    client.log_param(run_id, "data", str(tiny_dataset.path))
    client.set_tag(run_id, DATA_TAG, tiny_dataset.info.fingerprint)
    for version in (1, 2, 3):
        torch.manual_seed(version)
        model = ModelBundle(
            config=tiny,
            generator=Generator(tiny.model),
            encoders=Encoders(tiny.model),
            extractor=ShapeExtractor(tiny.model),
        )
        bundle = save_bundle(model, folder / f"v{version}")
        trained = run_id if version == 1 else None
        client.create_model_version(NAME, source=str(bundle), run_id=trained)
    (bundle / "model.safetensors").write_bytes(b"damaged")
    client.set_registered_model_alias(NAME, "champion", "1")
    return Registry(uri, client, run_id)


@pytest.fixture(scope="module")
def plan(
    registry: Registry, tiny_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Plan:
    return Plan(
        model=MODEL,
        store=registry.uri,
        home=tmp_path_factory.mktemp("home"),
        gallery=tiny_dataset.path,
        host="127.0.0.1",
        port=free_port(),
        replicas=(2, 2),
        cpus_per_replica=0.5,
        gpus_per_replica=0,
        batch_size=8,
        queue=64,
        timeout_seconds=PATIENCE_SECONDS,
        follow_seconds=0.3,
        token=None,
    )


@pytest.fixture(scope="module")
def running(plan: Plan, registry: Registry, ray_cluster: None) -> Iterator[Running]:
    import ray

    prepared = prepare(plan)
    with serving(prepared, grows=False) as board:
        follower = Follower(
            MODEL,
            plan.store,
            prepared.served,
            want=lambda served: ray.get(board.want.remote(served)),
        )
        with every(plan.follow_seconds, follower.look, "follow"):
            yield Running(plan, board, registry)


class Seen(NamedTuple):
    """An answer to a mix."""

    status: int
    version: str | None
    body: bytes


@contextmanager
def asked_all_the_time(url: str, clients: int = 4) -> Iterator[list[Seen]]:
    """Mixes during a block, by clients that try nothing twice, on connections that they keep."""
    seen: list[Seen] = []
    over = threading.Event()

    def ask() -> None:
        with requests.Session() as session:
            while not over.is_set():
                try:
                    answer = session.post(f"{url}/mix", data=ALTERED, timeout=PATIENCE_SECONDS)
                except requests.RequestException as error:
                    seen.append(Seen(0, None, repr(error).encode()))
                else:
                    version = answer.headers.get("X-Model-Version")
                    seen.append(Seen(answer.status_code, version, answer.content))

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        over.set()
        for thread in threads:
            thread.join()


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_it_answers_over_http(running: Running) -> None:
    url = running.plan.url
    healthz = requests.get(f"{url}/healthz")
    assert healthz.json() == {"status": "ok", "model": NAME, "version": 1}
    ids = requests.get(f"{url}/about").json()["gallery"]
    fields = dict.fromkeys(("background", "shape", "texture"), f"gallery:{ids[0]}")
    answers = [requests.post(f"{url}/mix", files={n: (None, v) for n, v in fields.items()})]
    answers.append(requests.post(f"{url}/mix", json=fields | {"mode": "feature"}))
    for answer in answers:
        assert (answer.status_code, answer.headers["X-Model-Version"]) == (200, "1")
    assert requests.post(f"{url}/mix", json={}).status_code == 422
    assert requests.get(url).headers["content-type"].startswith("text/html")


def test_a_body_is_bounded_before_any_replica(running: Running) -> None:
    piece = b"x" * 2**20

    def endless() -> Iterator[bytes]:
        for _ in range(200):
            yield piece

    sent = {"headers": {"content-type": "application/json"}}
    for body in (endless(), piece * 60):
        try:
            answer = requests.post(f"{running.plan.url}/mix", data=body, **sent)
        except requests.ConnectionError:
            continue  # it was refused while it was still being sent
        assert answer.status_code == 413
        assert "x-replica" not in answer.headers
        assert "bytes" in answer.json()["error"]


def test_no_request_is_lost_when_the_alias_moves(running: Running) -> None:
    with asked_all_the_time(running.plan.url) as seen:
        wait_for(lambda: len(seen) > 20)
        running.registry.promote(2)
        wait_for(lambda: set(running.serving().values()) == {2})
        before = len(seen)
        wait_for(lambda: len(seen) > before + 20)
    assert {answer.status for answer in seen} == {200}
    assert {answer.version for answer in seen} == {"1", "2"}
    assert {answer.version for answer in seen[before + 8 :]} == {"2"}
    # What is painted is of the version that the answer names.
    pictures = Counter((answer.version, answer.body) for answer in seen)
    assert len(pictures) == 2
    assert len({body for _, body in pictures}) == 2


def test_a_broken_version_changes_nothing(
    running: Running, capfd: pytest.CaptureFixture[str]
) -> None:
    said = ""

    def has_said() -> bool:
        nonlocal said
        said += capfd.readouterr().err
        return "stays" in said

    running.registry.promote(3)
    wait_for(has_said)
    assert "version 2 stays" in said
    assert set(running.serving().values()) == {2}
    assert requests.post(f"{running.plan.url}/mix", data=ALTERED).status_code == 200
    running.registry.promote(2)


def test_no_request_is_lost_when_a_replica_dies(running: Running) -> None:
    running.registry.promote(2)
    wait_for(lambda: set(running.serving().values()) == {2})
    before = set(running.serving())
    assert len(before) == 2
    with asked_all_the_time(running.plan.url) as seen:
        wait_for(lambda: len(seen) > 20)
        os.kill(pid_of_a_replica(), signal.SIGKILL)
        wait_for(lambda: bool(set(running.serving()) - before))
        count = len(seen)
        wait_for(lambda: len(seen) > count + 20)
    assert Counter(answer.status for answer in seen).keys() == {200}, seen[-1]
    # The one that took its place has not begun with the version that the service began with.
    assert {answer.version for answer in seen} == {"2"}


def pid_of_a_replica() -> int:
    import ray
    from ray.util.state import list_actors

    alive = [("class_name", "=", "ServeReplica:mixnmatch:replica"), ("state", "=", "ALIVE")]
    address = ray.get_runtime_context().gcs_address
    return int(list_actors(address, filters=alive)[0].pid)


def test_figures_of_both_replicas(running: Running) -> None:
    names = set(running.serving())
    for _ in range(4):
        page = requests.get(f"{running.plan.url}/metrics").text
        lines = [line for line in page.splitlines() if line.startswith("mixnmatch_model_version{")]
        assert all(any(f'replica="{name}"' in line for line in lines) for name in names)
        assert "# TYPE mixnmatch_refused_requests_total counter" in page


def test_refusals_of_a_proxy_are_counted_under_its_machine(running: Running) -> None:
    import ray

    url, name = running.plan.url, f"proxy-{ray.get_runtime_context().get_node_id()[:8]}"

    def refused() -> float:
        page = requests.get(f"{url}/metrics").text
        line = re.search(rf'refused_requests_total{{replica="{name}",status="413"}} (.*)', page)
        return float(line[1]) if line else 0

    before = refused()
    sent = {"content-type": "application/json", "content-length": str(2**30)}
    with contextlib.suppress(requests.ConnectionError):
        requests.post(f"{url}/mix", data=b"", headers=sent, timeout=5)
    wait_for(lambda: refused() == before + 1)
    wait_for(lambda: ray.get(running.board.totals.remote())["refused"] >= before + 1)


def test_a_second_service_is_refused(running: Running) -> None:
    with pytest.raises(InputError, match=f"port {running.plan.port} is in use"):
        prepare(running.plan)
    prepared = prepare(replace(running.plan, port=free_port()))
    with pytest.raises(InputError, match="serves already"), serving(prepared, grows=False):
        pass
    assert requests.get(f"{running.plan.url}/healthz").status_code == 200


def test_the_gallery_is_of_the_training_data_where_that_is_unchanged(
    registry: Registry, plan: Plan, tiny_dataset: Dataset
) -> None:
    first, second = (
        replace(plan, model=f"models:/{NAME}/{version}", gallery=None, port=free_port())
        for version in (1, 2)
    )
    dataset = prepare(first).dataset
    assert dataset is not None
    assert dataset.path == tiny_dataset.path
    assert prepare(second).dataset is None, "nothing is known of its training"
    registry.client.set_tag(registry.run_id, DATA_TAG, "other")
    assert prepare(first).dataset is None
