"""What a cluster can never place is refused; what it may grow to have is waited for."""

import time
from pathlib import Path

import pytest
import ray
import yaml

from mixnmatch.errors import InputError
from mixnmatch_platform.placing import check_placeable, may_grow, worker_bundle

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("ray_cluster")]


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that only drives, and two machines of 4 CPUs with a GPU each; a third one is lost."""
    gpu = {"Alive": True, "Resources": {"CPU": 4.0, "GPU": 1.0}}
    nodes = [{"Alive": True, "Resources": {"memory": 1.0}}, gpu, gpu, gpu | {"Alive": False}]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)


def test_a_cluster_of_this_machine_has_what_it_has() -> None:
    deadline = time.monotonic() + 60
    while may_grow():  # so it is where nothing is known yet
        assert time.monotonic() < deadline
        time.sleep(0.5)
    check_placeable({"CPU": 1}, 2, grows=False)
    with pytest.raises(
        InputError,
        match=r"99 × 1 CPU needed at once, the cluster has room for 2 \(machines: 1 × 2 CPU\): ask",
    ):
        check_placeable({"CPU": 1}, 99, grows=False)
    with pytest.raises(InputError, match=r"1 × 1 CPU and 1 GPU needed at once, .* room for 0"):
        check_placeable({"CPU": 1, "GPU": 1}, 1, grows=False)


@pytest.mark.usefixtures("machines")
@pytest.mark.parametrize(
    ("gpus", "cpus", "most"), [(0, 1, 8), (1, 4, 2), (0.5, 2, 4), (0.5, 3, 2), (0.25, 0.5, 8)]
)
def test_workers_share_machines(gpus: float, cpus: float, most: int) -> None:
    bundle = worker_bundle(gpus_per_worker=gpus, cpus_per_worker=cpus)
    check_placeable(bundle, most, grows=False)
    with pytest.raises(InputError, match=f"has room for {most} "):
        check_placeable(bundle, most + 1, grows=False)


@pytest.mark.usefixtures("machines")
def test_a_worker_needs_one_machine_whatever_all_have_together() -> None:
    with pytest.raises(InputError, match=r"room for 0 \(machines: 1 × 0 CPU, 2 × 4 CPU\)"):
        check_placeable({"CPU": 5}, 1, grows=False)


@pytest.mark.usefixtures("machines")
def test_a_cluster_that_grows_is_waited_for_unless_it_has_no_such_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    check_placeable({"CPU": 8}, 3, grows=True)
    assert capsys.readouterr().err.endswith("; waiting for more\n")

    types = {
        "head": {"resources": {"CPU": 4}, "max_workers": 0},
        "large": {"resources": {"CPU": 8}, "max_workers": 2},
        "measured": {"max_workers": 9},  # by the provider, when it is there
    }
    description = {"available_node_types": types}
    (tmp_path / "ray_bootstrap_config.yaml").write_text(yaml.safe_dump(description))
    check_placeable({"CPU": 8}, 2, grows=True)
    with pytest.raises(InputError, match=r"can have room for 2 \(machines: 2 × 8 CPU\)"):
        check_placeable({"CPU": 8}, 3, grows=True)
    with pytest.raises(InputError, match="can have room for 0"):
        check_placeable({"CPU": 16}, 1, grows=True)


@pytest.mark.parametrize(
    ("gpus", "cpus", "said"),
    [(0, 0, r"CPUs per worker are 0: must be more than 0\.1"), (2, 1, "GPUs per worker are 2")],
)
def test_impossible_workers_are_refused(gpus: float, cpus: float, said: str) -> None:
    with pytest.raises(InputError, match=said):
        worker_bundle(gpus_per_worker=gpus, cpus_per_worker=cpus)
