"""A sweep whose records are in a real PostgreSQL and whose artifacts are in an S3 store."""

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import boto3
import pytest
from mlflow import MlflowClient
from moto.server import ThreadedMotoServer
from PIL import Image

from mixnmatch import cli
from mixnmatch.config import RunConfig
from mixnmatch.data.store import open_dataset
from mixnmatch_platform import cli as platform_cli
from mixnmatch_platform.services import free_port
from mixnmatch_platform.sweep import Objective, SearchSpace, Sweep
from mixnmatch_platform.tuning import run_sweep

START_SECONDS = 120
BUCKET = "mixnmatch"


def programs() -> Path | None:
    """Folder of PostgreSQL's server programs, of which Debian puts none into the path."""
    found = [shutil.which("initdb"), *sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))]
    return next((Path(each).parent for each in reversed(found) if each), None)


def unprivileged() -> list[str]:
    """What runs a program as PostgreSQL's own user, for it refuses to be run by root."""
    user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    return user if os.geteuid() == 0 else []


pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(programs() is None, reason="PostgreSQL's server is not installed"),
]


@contextmanager
def postgres() -> Iterator[str]:
    """A server of its own on a free port of 127.0.0.1, with an empty database.

    Yields:
        The database's URI.
    """
    where, port = programs(), free_port()
    assert where is not None
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))  # short: it holds a socket
    if unprivileged():
        os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
    data = folder / "data"
    initialise = [*unprivileged(), where / "initdb", "--auth=trust", "--username=mlflow", data]
    subprocess.run(initialise, cwd=folder, check=True, capture_output=True)
    serve = [where / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", folder]
    with (folder.parent / f"{folder.name}.log").open("w+") as log:
        server = subprocess.Popen([*unprivileged(), *serve], cwd=folder, stdout=log, stderr=log)
        try:
            create = [
                where / "createdb",
                "-h",
                "127.0.0.1",
                "-p",
                str(port),
                "-U",
                "mlflow",
                "mlflow",
            ]
            end = time.monotonic() + START_SECONDS
            while subprocess.run(create, capture_output=True).returncode:
                assert server.poll() is None, Path(log.name).read_text()
                assert time.monotonic() < end, Path(log.name).read_text()
                time.sleep(0.2)
            yield f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/mlflow"
        finally:
            server.terminate()
            server.wait(timeout=60)
            Path(log.name).unlink()
            shutil.rmtree(folder)


@contextmanager
def object_store() -> Iterator[dict[str, str]]:
    """An S3 store with an empty bucket.

    Yields:
        The variables by which clients find it.
    """
    port = free_port()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    variables = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }
    try:
        s3_client(variables).create_bucket(Bucket=BUCKET)
        yield variables
    finally:
        server.stop()


def s3_client(variables: dict[str, str]):  # type: ignore[no-untyped-def]  # boto3 has no types
    return boto3.client(
        "s3",
        endpoint_url=variables["MLFLOW_S3_ENDPOINT_URL"],
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
        region_name=variables["AWS_DEFAULT_REGION"],
    )


@contextmanager
def mlflow_server(database: str, variables: dict[str, str], log: Path) -> Iterator[str]:
    """MLflow's server as ``cluster/head.sh`` starts it; only it knows the store's keys.

    Yields:
        Its address.
    """
    port = free_port()
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", "1", "--backend-store-uri", database, "--serve-artifacts"),
        *("--artifacts-destination", f"s3://{BUCKET}/artifacts"),
    ]
    with log.open("w") as file:
        server = subprocess.Popen(
            command, env=os.environ | variables, stdout=file, stderr=file, start_new_session=True
        )
        try:
            address = f"http://127.0.0.1:{port}"
            end = time.monotonic() + START_SECONDS
            while True:
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                try:
                    urllib.request.urlopen(f"{address}/health", timeout=5).close()
                    break
                except OSError:
                    time.sleep(0.5)
            yield address
        finally:
            server.terminate()
            server.wait(timeout=60)


@pytest.mark.usefixtures("ray_cluster")
def test_sweep_compare_and_promote(
    home: Path,
    drawn_data: Path,
    tiny_config: RunConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    metric = "disentanglement_accuracy"
    with ExitStack() as servers:
        database = servers.enter_context(postgres())
        variables = servers.enter_context(object_store())
        log = tmp_path / "mlflow.log"
        address = servers.enter_context(mlflow_server(database, variables, log))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        sweep = Sweep(
            name="small",
            data=drawn_data,
            config=tiny_config,
            space=SearchSpace(super_categories=(2,), fine_per_super=(1, 2)),
            trials=2,
            concurrent=2,
            objectives=(Objective(metric, "max"),),
            home=home,
        )
        result = run_sweep(sweep)
        assert (result.finished, result.failed) == (2, 0)
        assert not (home / "mlflow.db").exists()

        # Compare: the server itself sorts the trials, and each has every figure it should.
        client = MlflowClient(address)
        experiment = client.get_experiment_by_name("small")
        assert experiment.artifact_location.startswith("mlflow-artifacts:")
        trials = client.search_runs(
            [experiment.experiment_id],
            "tags.`mixnmatch.kind` = 'trial'",
            order_by=[f"metrics.{metric} DESC"],
        )
        accuracies = [run.data.metrics[metric] for run in trials]
        assert accuracies == sorted(accuracies, reverse=True)
        assert accuracies[0] == pytest.approx(result.best[0].values[0])
        for run in trials:
            losses = client.get_metric_history(run.info.run_id, "stage1/generator/pair")
            assert [each.step for each in losses] == [1, 2, 3, 4, 5, 6]
        capsys.readouterr()
        assert platform_cli.main(["runs", "small", "--json"]) == 0
        assert len(json.loads(capsys.readouterr().out)) >= 2
        assert platform_cli.main(["compare", "small", "--json"]) == 0
        compared = json.loads(capsys.readouterr().out)
        best = {run.info.run_name for run in trials if run.data.metrics[metric] == accuracies[0]}
        (first,) = compared["front"]
        assert first in best
        assert list(compared["protocols"].values()) == [2]

        promote = f"promote --experiment small --metric {metric} --model birds"
        assert platform_cli.main(promote.split()) == 0
        assert "promoted birds v1" in capsys.readouterr().out
        listed = s3_client(variables).list_objects_v2(Bucket=BUCKET, Prefix="artifacts/")
        names = [item["Key"] for item in listed["Contents"]]
        assert any(name.endswith(".safetensors") for name in names)

        picture, out = tmp_path / "a.png", tmp_path / "mixed.png"
        picture.write_bytes(open_dataset(drawn_data)[0].image)
        sources = [f"--{name}={picture}" for name in ("background", "pose", "shape", "texture")]
        mix = ["mix", *sources, "--model", "models:/birds@champion", "--out", str(out)]
        assert cli.main(mix) == 0
        with Image.open(out) as mixed:
            assert mixed.size == (32, 32)

        # A session more of the same sweep finds its study and its parent run again.
        assert run_sweep(replace(sweep)).finished == 2
        assert len(client.search_runs([experiment.experiment_id])) == 3
