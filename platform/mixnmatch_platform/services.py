"""Ray and MLflow in the background of this machine: what ``platform up`` and ``down`` do."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from mixnmatch.errors import InputError, RunError
from mixnmatch.files import whole_file
from mixnmatch_platform.store import artifact_location, tracking_uri

__all__ = [
    "LOOPBACK",
    "RAY_SETTINGS",
    "Ports",
    "Service",
    "end",
    "free_port",
    "is_free",
    "open_here",
    "ray_address",
    "services",
    "start",
]

LOOPBACK = "127.0.0.1"
FOLDER = ".services"
"""Below the home folder: what runs, and its logs."""
RAY = (sys.executable, "-m", "ray.scripts.scripts")
START_SECONDS = 90.0
END_SECONDS = 30.0
POLL_SECONDS = 0.3
RAY_SETTINGS = {
    # Ray would take 127.0.0.1 for this machine's outer address, as a head and as a driver.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # Its own servers listen on all interfaces; drivers of a named cluster do not expect a token.
    "RAY_AUTH_MODE": "token",
}
"""Variables that the head and all who talk to it need before they import Ray."""
STOP_WAIT_SECONDS = 300
"""How long ``ray job stop`` leaves a driver, which saves first; Ray's own 3 s are too few."""


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Where the services listen."""

    dashboard: int = 8265
    mlflow: int = 5000
    ray: int = 6379


@dataclass(frozen=True, kw_only=True)
class Service:
    """A process of ours that serves."""

    name: str
    """``ray`` or ``mlflow``."""
    pid: int
    """Its process."""
    created: float
    """When that was created, so that no later process of the number is taken for it."""
    url: str
    """Where people look at it."""
    address: str
    """Where programs find it."""

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return self.process() is not None

    @property
    def answers(self) -> bool:
        """Whether it serves pages."""
        return _answers(self.url)

    def process(self) -> psutil.Process | None:
        """The process, None if it is gone."""
        try:
            process = psutil.Process(self.pid)
            gone = abs(process.create_time() - self.created) > 1
            return None if gone or process.status() == psutil.STATUS_ZOMBIE else process
        except psutil.NoSuchProcess:
            return None


def services(home: Path) -> list[Service]:
    """The services of a home folder that are alive."""
    file = home / FOLDER / "services.json"
    if not file.is_file():
        return []
    noted = [Service(**entry) for entry in json.loads(file.read_text(encoding="utf-8"))]
    return [service for service in noted if service.alive]


def ray_address(home: Path) -> str | None:
    """Of the Ray cluster that ``start`` began for a home folder, None without one."""
    return next((s.address for s in services(home) if s.name == "ray"), None)


def start(
    home: Path, ports: Ports, *, cpus: float | None = None, gpus: float | None = None
) -> list[Service]:
    """Start what is not there yet, and wait until it answers.

    A tracking server named by ``MLFLOW_TRACKING_URI`` is used as it is, and none is started.

    Args:
        home: Folder of the runs and of the MLflow store.
        ports: Where to listen, on 127.0.0.1 only.
        cpus: CPUs of the Ray cluster; all without it.
        gpus: GPUs of the Ray cluster; all without it.

    Raises:
        InputError: If a port is taken.
        RunError: If a service does not come up; those begun by this call are ended again.
    """
    there = {service.name for service in services(home)}
    commands: dict[str, tuple[list[str], str, str]] = {}
    if "ray" not in there:
        for option, port in (("--ray-port", ports.ray), ("--dashboard-port", ports.dashboard)):
            _require_free(option, port)
        address = f"{LOOPBACK}:{ports.ray}"
        command = _ray_command(ports, cpus, gpus)
        commands["ray"] = command, f"http://{LOOPBACK}:{ports.dashboard}", address
    uri = tracking_uri(home)
    if "mlflow" not in there and not uri.startswith(("http://", "https://")):
        _require_free("--mlflow-port", ports.mlflow)
        url = f"http://{LOOPBACK}:{ports.mlflow}"
        commands["mlflow"] = _mlflow_command(home, uri, ports.mlflow), url, url
    if "ray" in commands:
        _make_token()
    begun: list[Service] = []
    try:
        for name, (command, url, address) in commands.items():
            begun.append(_begin(home, name, command, url=url, address=address))
            _note(home, begun[-1])
        for service in begun:
            _wait_for(home, service)
    except BaseException:
        for service in begun:
            _end(service)
        raise
    return services(home)


def end(home: Path) -> list[Service]:
    """End the services of a home folder with all their processes; no others.

    Returns:
        Those that were alive.
    """
    ended = services(home)
    for service in ended:
        _end(service)
    (home / FOLDER / "services.json").unlink(missing_ok=True)
    return ended


def is_free(port: int) -> bool:
    """Whether nothing listens on a port of this machine's own address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """One on which nothing of this machine listens now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _require_free(option: str, port: int) -> None:
    if not 1 <= port <= 65535:
        raise InputError(f"{option} is {port}: it must be from 1 to 65535")
    if not is_free(port):
        raise InputError(f"port {port} is in use by another program: take another {option}")


def _make_token() -> None:
    """The token of this user's Ray clusters, where there is none yet."""
    subprocess.run([*RAY, "get-auth-token", "--generate"], capture_output=True, check=True)


def _ray_command(ports: Ports, cpus: float | None, gpus: float | None) -> list[str]:
    command = [*RAY, "start", "--head", "--block"]
    command += [f"--node-ip-address={LOOPBACK}", f"--port={ports.ray}", "--disable-usage-stats"]
    command += [f"--dashboard-host={LOOPBACK}", f"--dashboard-port={ports.dashboard}"]
    # Ray's own choice is the same for every cluster, and whoever comes second runs no jobs.
    command += [f"--dashboard-agent-listen-port={free_port()}"]
    command += [] if cpus is None else [f"--num-cpus={cpus:g}"]
    return command + ([] if gpus is None else [f"--num-gpus={gpus:g}"])


def _mlflow_command(home: Path, uri: str, port: int) -> list[str]:
    command = [sys.executable, "-m", "mlflow", "server", "--host", LOOPBACK, "--port", str(port)]
    command += ["--backend-store-uri", uri, "--workers", "1"]
    root = artifact_location(uri) or (home / "artifacts").as_uri()
    return [*command, "--default-artifact-root", root]


def _begin(home: Path, name: str, command: list[str], *, url: str, address: str) -> Service:
    home.mkdir(parents=True, exist_ok=True)
    (home / FOLDER).mkdir(exist_ok=True)
    variables = {
        **os.environ,
        **RAY_SETTINGS,
        "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_SECONDS),
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    variables.pop("RAY_ADDRESS", None)
    with _log(home, name).open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=variables,
            start_new_session=True,
        )
    created = psutil.Process(process.pid).create_time()
    return Service(name=name, pid=process.pid, created=created, url=url, address=address)


def _note(home: Path, service: Service) -> None:
    known = [s for s in services(home) if s.name != service.name] + [service]
    with whole_file(home / FOLDER / "services.json") as partial:
        partial.write_text(json.dumps([dataclasses.asdict(s) for s in known], indent=2) + "\n")


def _wait_for(home: Path, service: Service) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not service.answers:
        log = _log(home, service.name)
        if not service.alive:
            lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
            said = next((line.strip() for line in reversed(lines) if line.strip()), "no reason")
            raise RunError(f"{service.name} ended at once: {said} (all of it in {log})")
        if time.monotonic() >= deadline:
            raise RunError(
                f"{service.name} does not answer at {service.url} after {START_SECONDS:g} s: "
                f"see {log}"
            )
        time.sleep(POLL_SECONDS)


def open_here(url: str, seconds: float) -> Any:
    """Ask this machine, past the environment's proxies, which do not know its ports."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return direct.open(url, timeout=seconds)


def _answers(url: str) -> bool:
    try:
        with open_here(url, 3) as reply:
            return bool(reply.status < 500)
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False


def _end(service: Service) -> None:
    """End a service and everything that it began: a head that is killed leaves workers behind."""
    root = service.process()
    if root is None:
        return
    tree = [root, *root.children(recursive=True)]
    root.terminate()
    _, left = psutil.wait_procs(tree, timeout=END_SECONDS)
    for process in left:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(left, timeout=END_SECONDS)
    if service.name == "ray":
        _forget(service.address)


def _forget(address: str) -> None:
    """Take back the note that Ray leaves of its latest cluster, where others would look for it."""
    note = Path(tempfile.gettempdir()) / "ray" / "ray_current_cluster"
    if note.is_file() and note.read_text(encoding="utf-8").strip() == address:
        note.unlink(missing_ok=True)


def _log(home: Path, name: str) -> Path:
    return home / FOLDER / f"{name}.log"
