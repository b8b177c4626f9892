"""The cluster files are ones that Ray's launcher takes, and their commands ones that exist."""

import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from mixnmatch_platform import cli

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
FILES = ("aws", "gcp", "local")
SCRIPTS = ("node", "head", "start")
COMMANDS = (
    *("initialization_commands", "setup_commands", "head_setup_commands"),
    *("worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands"),
)
pytestmark = pytest.mark.integration


@pytest.fixture(params=FILES)
def config(request: pytest.FixtureRequest) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((CLUSTER / f"{request.param}.yaml").read_text())
    return content


def commands(config: dict[str, Any]) -> list[str]:
    return [line for key in COMMANDS for line in config.get(key, [])]


def parse(text: str) -> None:
    """Let the shell read a script, and run none of it."""
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def parse_ray(words: list[str]) -> None:
    """Let Ray's command line read its arguments, and do nothing."""
    from ray.scripts.scripts import cli as ray_cli

    command: click.Command = ray_cli
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    command.make_context("ray", words)


def test_it_is_valid_for_rays_launcher(config: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(config)
    validate_config(prepared)
    nodes = prepared["available_node_types"]
    assert prepared["head_node_type"] in nodes
    workers = [node for name, node in nodes.items() if name != prepared["head_node_type"]]
    assert sum(node["max_workers"] for node in workers) <= prepared["max_workers"]
    if config["provider"]["type"] != "local":
        assert nodes["head"]["max_workers"] == 0
        (gpu,) = workers
        assert (gpu["min_workers"], gpu["resources"]["GPU"]) == (0, 1)
        assert "spot" in str(gpu["node_config"]).lower()


def test_a_trial_of_the_published_sweep_fits_on_a_worker() -> None:
    sizes = re.findall(
        r"(cpus|gpus)_per_worker=(\d+)", (ROOT / "experiments/sweep_cub.py").read_text()
    )
    needed = {f"{kind[:-1].upper()}": int(amount) for kind, amount in sizes}
    assert set(needed) == {"CPU", "GPU"}
    for name in ("aws", "gcp"):
        nodes = yaml.safe_load((CLUSTER / f"{name}.yaml").read_text())["available_node_types"]
        assert all(nodes["gpu_spot"]["resources"][kind] >= n for kind, n in needed.items())


def test_its_commands_are_there_and_parse(config: dict[str, Any]) -> None:
    mounted = config["file_mounts"]
    for there, here in mounted.items():
        assert here.startswith("~") or (ROOT / here).is_file(), f"{there}: {here}"
    ran = []
    for line in commands(config):
        parse(line)
        shell, script, *rest = shlex.split(re.sub(r"\$\([^)]*\)", "HEAD", line))
        assert shell == "bash"
        assert script in mounted
        ran.append(Path(script).name)
        assert len(rest) >= 1, line
        if ran[-1] == "start.sh":
            parse_ray(["start", *rest[1:]])
        else:
            assert len(rest) == 1, line
    assert ran == ["node.sh", "head.sh", "start.sh", "start.sh"]
    assert "--dashboard-host=127.0.0.1" in config["head_start_ray_commands"][0]


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_parse_and_end_at_an_error(name: str) -> None:
    text = (CLUSTER / f"{name}.sh").read_text()
    parse(text)
    assert "set -euo pipefail" in text


def test_machines_get_versions_that_are_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    wanted = [*project["dependencies"], *project["optional-dependencies"]["cluster"]]
    names = {re.split(r"[\[<>=]", requirement)[0] for requirement in wanted}
    assert names <= pinned
    for file in (CLUSTER / "node.sh", CLUSTER / "kuberay" / "Dockerfile"):
        assert "--extra cluster" in file.read_text()
        assert "constraints.txt" in file.read_text()


def test_the_tracking_servers_command_parses() -> None:
    from mlflow.cli import cli as mlflow

    (line,) = re.findall(r"^ExecStart=\S*/mlflow (.*)$", (CLUSTER / "head.sh").read_text(), re.M)
    command, *arguments = shlex.split(line)
    context = mlflow.commands[command].make_context("mlflow", arguments)
    assert context.params["backend_store_uri"] == "postgresql+psycopg2:///mlflow"
    assert context.params["artifacts_destination"] == "$artifacts"


def shell_lines(text: str) -> Iterator[str]:
    """Commands of the ``sh`` blocks of a page, continued lines joined."""
    for block in re.findall(r"```sh\n(.*?)```", text, re.S):
        parse(block)
        yield from block.replace("\\\n", " ").splitlines()


def test_the_pages_commands_parse() -> None:
    seen = set()
    for line in shell_lines((CLUSTER / "README.md").read_text()):
        words = shlex.split(line, comments=True)
        while words and "=" in words[0]:
            words = words[1:]
        if words[:1] == ["ray"]:
            seen.add(words[1])
            parse_ray(words[1:])
        elif words[:1] == ["platform"]:
            seen.add("platform")
            cli.build_parser().parse_args(words[1:])
        for word in words:
            if word.startswith(("cluster/", "experiments/")):
                assert (ROOT / word).is_file(), line
    assert {"up", "down", "job", "platform"} <= seen
