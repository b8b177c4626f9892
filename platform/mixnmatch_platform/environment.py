"""What a run is made with: code, command, versions and machine."""

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

__all__ = ["CODE_DIFF", "environment_tags", "machine_tags"]

CODE_DIFF = "code.diff"
"""Key of the changes that are not committed; runs keep them as an artifact of that name."""
DIFF_BYTES = 1_000_000
PACKAGES = ("mixnmatch-platform", "torch", "torchvision", "numpy", "ray", "optuna", "mlflow")


def environment_tags() -> dict[str, str]:
    """Tags of code, command and versions, and under ``CODE_DIFF`` what is not committed."""
    tags = {
        "mlflow.source.name": sys.argv[0],
        "mlflow.source.type": "LOCAL",
        "mixnmatch.command": shlex.join(sys.argv),
        "mixnmatch.python": platform.python_version(),
    }
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            tags[f"mixnmatch.{package}"] = importlib.metadata.version(package)
    if commit := _git("rev-parse", "HEAD"):
        tags["mlflow.source.git.commit"] = commit
        changes = _git("status", "--porcelain") or ""
        tags["mixnmatch.git_dirty"] = str(bool(changes)).lower()
        if changes:
            tags[CODE_DIFF] = _diff(changes)
    return tags


def _diff(changes: str) -> str:
    """What git says of changed files, and the names of those that it does not know."""
    unknown = [line[3:] for line in changes.splitlines() if line.startswith("??")]
    lines = [_git("diff", "HEAD") or "", *(f"# not in git: {name}" for name in unknown)]
    whole = ("\n".join(lines).strip() + "\n").encode()
    if len(whole) <= DIFF_BYTES:
        return whole.decode()
    return whole[:DIFF_BYTES].decode(errors="ignore") + f"\n# cut: {len(whole)} bytes in all\n"


def machine_tags() -> dict[str, str]:
    """Tags of the machine that this process runs on."""
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "mixnmatch.host": platform.node(),
        "mixnmatch.host_cpu": _cpu_model(),
        "mixnmatch.host_cpus": str(os.cpu_count()),
        "mixnmatch.host_memory_gib": f"{memory / 2**30:.1f}",
        "mixnmatch.host_gpus": ", ".join(gpus) or "none",
    }


def _cpu_model() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git(*arguments: str) -> str | None:
    """What a git command says of the folder that holds this code; None outside a repository."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, timeout=10, check=True)
        return done.stdout.decode(errors="replace").strip("\n")
    return None
