"""The Kubernetes files have the fields of Kubernetes' and KubeRay's schemas, and no others.

KubeRay's own fields are listed here by name and type, as its Go types of ``ray.io/v1`` (release
1.5.1) have them; what lies under a pod template is checked against Kubernetes' own schema.
"""

import shlex
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from test_cluster import parse

FILES = Path(__file__).parents[2] / "cluster" / "kuberay"
KUBERNETES = "1.34"
pytestmark = pytest.mark.integration


def strict(required: str = "", **fields: Any) -> dict[str, Any]:
    """Schema of an object with these fields and no others."""
    return {
        "type": "object",
        "properties": fields,
        "required": required.split(),
        "additionalProperties": False,
    }


TEXT, FLAG, COUNT, ANY = {"type": "string"}, {"type": "boolean"}, {"type": "integer"}, {}
TEXTS = {"type": "object", "additionalProperties": TEXT}
GROUP = {"rayStartParams": TEXTS, "template": ANY, "resources": TEXTS, "labels": TEXTS}
RAY_CLUSTER = strict(
    "headGroupSpec",
    rayVersion=TEXT,
    enableInTreeAutoscaling=FLAG,
    suspend=FLAG,
    managedBy=TEXT,
    headServiceAnnotations=TEXTS,
    authOptions=strict(mode={"enum": ["disabled", "token"]}),
    gcsFaultToleranceOptions=ANY,
    upgradeStrategy=ANY,
    autoscalerOptions=strict(
        version={"enum": ["v1", "v2"]},
        idleTimeoutSeconds=COUNT,
        upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
        image=TEXT,
        imagePullPolicy=TEXT,
        resources=ANY,
        env=ANY,
        envFrom=ANY,
        volumeMounts=ANY,
        securityContext=ANY,
    ),
    headGroupSpec=strict(
        "template", **GROUP, serviceType=TEXT, headService=ANY, enableIngress=FLAG
    ),
    workerGroupSpecs={
        "type": "array",
        "items": strict(
            "groupName template minReplicas maxReplicas",
            **GROUP,
            groupName=TEXT,
            suspend=FLAG,
            replicas=COUNT,
            minReplicas=COUNT,
            maxReplicas=COUNT,
            idleTimeoutSeconds=COUNT,
            numOfHosts=COUNT,
            scaleStrategy=ANY,
        ),
    },
)
RAY_JOB = strict(
    "entrypoint",
    entrypoint=TEXT,
    entrypointNumCpus={"type": "number"},
    entrypointNumGpus={"type": "number"},
    entrypointResources=TEXT,
    runtimeEnvYAML=TEXT,
    clusterSelector=TEXTS,
    rayClusterSpec=RAY_CLUSTER,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
    submitterPodTemplate=ANY,
    submitterConfig=ANY,
    shutdownAfterJobFinishes=FLAG,
    ttlSecondsAfterFinished=COUNT,
    activeDeadlineSeconds=COUNT,
    backoffLimit=COUNT,
    metadata=TEXTS,
    jobId=TEXT,
    suspend=FLAG,
    managedBy=TEXT,
    deletionStrategy=ANY,
)
RAY_KINDS = {"RayCluster": RAY_CLUSTER, "RayJob": RAY_JOB}


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FILES / f"{name}.yaml").read_text()))


def check(document: dict[str, Any]) -> None:
    """Refuse what a cluster would refuse, or would ignore."""
    schema = RAY_KINDS.get(document["kind"])
    if schema is None:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
        return
    assert document["apiVersion"] == "ray.io/v1"
    jsonschema.validate(document["spec"], schema)
    for template in templates(document["spec"]):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}} | template
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def templates(spec: dict[str, Any]) -> list[dict[str, Any]]:
    groups = [spec[k] for k in ("headGroupSpec",) if k in spec] + spec.get("workerGroupSpecs", [])
    return [group["template"] for group in groups]


def pods() -> list[dict[str, Any]]:
    (cluster,) = documents("raycluster")
    own = [d["spec"]["template"] for d in documents("tracking") if "template" in d["spec"]]
    return [template["spec"] for template in [*templates(cluster["spec"]), *own]]


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
    with pytest.raises(kubernetes_validate.ValidationError):
        check(cluster)


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
