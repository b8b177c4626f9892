"""The cluster file is one that Ray's launcher takes."""

from pathlib import Path

import pytest
import yaml

CLUSTER = Path(__file__).parents[2] / "cluster"
pytestmark = pytest.mark.integration


def test_aws_file_is_valid_for_rays_launcher() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((CLUSTER / "aws.yaml").read_text())
    validate_config(prepare_config(config))
    nodes = config["available_node_types"]
    assert config["head_node_type"] in nodes
    workers = [node for name, node in nodes.items() if name != config["head_node_type"]]
    assert all(0 <= node["min_workers"] <= node["max_workers"] for node in workers)
    assert sum(node["max_workers"] for node in workers) <= config["max_workers"]
    assert all("--dashboard-host=0" not in line for line in config["head_start_ray_commands"])
