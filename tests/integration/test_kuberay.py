"""The Kubernetes files have the fields of Kubernetes' and KubeRay's schemas, and no others.

Those of ``RayCluster`` and ``RayJob`` are checked against KubeRay's own definitions, which lie in
``../shared/kuberay`` or where ``MIXNMATCH_KUBERAY`` says; without them these checks are left out.
"""

import os
import shlex
from functools import lru_cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from test_cluster import parse

FILES = Path(__file__).parents[2] / "cluster" / "kuberay"
DEFINITIONS = Path(
    os.environ.get("MIXNMATCH_KUBERAY", Path(__file__).parents[3] / "shared" / "kuberay")
)
KUBERNETES = "1.34"
RAY_KINDS = {"RayCluster": "rayclusters", "RayJob": "rayjobs"}
pytestmark = pytest.mark.integration


@lru_cache
def definition(kind: str) -> dict[str, Any]:
    """Schema of a kind of KubeRay's, made strict: a field that it does not name is wrong."""
    file = DEFINITIONS / f"{RAY_KINDS[kind]}.yaml"
    if not file.is_file():
        pytest.skip(f"{kind} is not checked: {file} is not there, KubeRay's definition of it")
    content = yaml.load(file.read_text(), yaml.CSafeLoader)
    (version,) = [v for v in content["spec"]["versions"] if v["name"] == "v1"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    schema["properties"]["metadata"] = {}  # Kubernetes' own, which the definition leaves out
    return strict(schema)


def strict(schema: Any) -> Any:
    """As a Kubernetes server reads it that is asked to refuse unknown fields."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    if made.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
        made["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    open_ended = made.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in made
    if isinstance(made.get("properties"), dict) and made.get("type") == "object" and not open_ended:
        made["additionalProperties"] = False
    return made


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FILES / f"{name}.yaml").read_text()))


def check(document: dict[str, Any]) -> None:
    """Refuse what a cluster would refuse, or would ignore."""
    if document["kind"] not in RAY_KINDS:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
        return
    assert document["apiVersion"] == "ray.io/v1"
    jsonschema.validate(document, definition(document["kind"]))
    for group in document["spec"].get("workerGroupSpecs", []):
        assert 0 <= group["minReplicas"] <= group["maxReplicas"]


def pods() -> list[dict[str, Any]]:
    (cluster,) = documents("raycluster")
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    own = [document["spec"] for document in documents("tracking")]
    return [each["template"]["spec"] for each in (*groups, *own) if "template" in each]


@pytest.mark.parametrize("name", sorted(path.stem for path in FILES.glob("*.yaml")))
def test_it_has_the_fields_that_it_may_have(name: str) -> None:
    for document in documents(name):
        check(document)


def test_a_misspelt_field_is_refused() -> None:
    (cluster,) = documents("raycluster")
    cluster["spec"]["workerGroupSpecs"][0]["maxReplica"] = 4
    with pytest.raises(jsonschema.ValidationError, match="maxReplica"):
        check(cluster)
    (cluster,) = documents("raycluster")
    cluster["spec"]["headGroupSpec"]["template"]["spec"]["container"] = []
    with pytest.raises(jsonschema.ValidationError, match="container"):
        check(cluster)
    (claim,) = documents("storage")
    claim["spec"]["accessMode"] = "ReadWriteMany"
    with pytest.raises(kubernetes_validate.ValidationError):
        check(claim)


def test_names_that_refer_to_each_other_agree() -> None:
    (cluster,) = documents("raycluster")
    (job,) = documents("rayjob")
    assert job["spec"]["clusterSelector"] == {"ray.io/cluster": cluster["metadata"]["name"]}
    (claim,) = documents("storage")
    services = {d["metadata"]["name"] for d in documents("tracking") if d["kind"] == "Service"}
    for pod in pods():
        volumes = {volume["name"] for volume in pod.get("volumes", [])} | {"data"}
        for volume in pod.get("volumes", []):
            if "persistentVolumeClaim" in volume:
                claimed = volume["persistentVolumeClaim"]["claimName"]
                assert claimed == claim["metadata"]["name"]
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            for variable in container.get("env", []):
                if variable["name"] == "MLFLOW_TRACKING_URI":
                    assert variable["value"] == "http://mlflow:5000"
    assert services == {"mlflow", "postgres"}


def test_rays_version_is_the_tested_one() -> None:
    pins = (FILES.parents[1] / "constraints.txt").read_text().splitlines()
    (cluster,) = documents("raycluster")
    assert f"ray=={cluster['spec']['rayVersion']}" in pins


def test_its_commands_parse() -> None:
    from mlflow.cli import cli as mlflow

    commands = [c["command"] for pod in pods() for c in pod["containers"] if "command" in c]
    ((program, server, *arguments),) = commands
    assert program == "mlflow"
    mlflow.commands[server].make_context("mlflow", arguments)
    (job,) = documents("rayjob")
    parse(job["spec"]["entrypoint"])
    python, script, *_ = shlex.split(job["spec"]["entrypoint"])
    assert python == "python"
    assert (FILES.parents[1] / Path(script).relative_to("/opt/mixnmatch")).is_file()
