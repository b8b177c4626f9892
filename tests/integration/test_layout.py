"""The source root `platform/` leaves the standard library's module of that name alone."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]


def test_from_the_repository_root() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import platform; print(platform.system())"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "Linux"


@pytest.mark.usefixtures("ray_cluster")
def test_inside_a_ray_worker_with_the_root_on_its_path() -> None:
    import ray

    @ray.remote(num_cpus=0.1)
    def ask() -> tuple[str, list[str]]:
        import platform
        import sys

        import mixnmatch_platform

        assert mixnmatch_platform
        return platform.system(), sys.path

    system, path = ray.get(ask.remote())
    assert system == "Linux"
    assert str(ROOT) in path


def test_the_top_level_is_what_the_readme_shows() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    folders = {line.split("/")[0] for line in listed if "/" in line}
    assert {name for name in folders if not name.startswith(".")} == {
        "platform",
        "mixnmatch",
        "experiments",
        "cluster",
        "tests",
        "docs",
    }
    assert not (ROOT / "platform" / "__init__.py").exists()


def test_commands_that_only_look_import_nothing_heavy() -> None:
    looking = ("stop", "resume", "runs", "logs", "status", "down", "sync", "reap", "promote")
    code = f"""
import sys
from mixnmatch_platform import cli
for command in {looking}:
    try:
        cli.main([command, "--help"])
    except SystemExit:
        pass
from mixnmatch_platform import folders, listing, reap, services, stopping, sync
from mixnmatch_platform.promotion import decisions
print([name for name in ("torch", "ray", "mlflow", "optuna") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
