"""Checkpoints: files that appear whole or not at all, and are read without unpickling."""

import json
import os
import warnings
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from mixnmatch.config import RunConfig
from mixnmatch.errors import InputError, ModelError
from mixnmatch.settings import flatten, from_dict

State = dict[str, Any]
FILE_NAME = "state.pt"
STATE_KEYS = {"stage", "config", "steps_done", "random", "modules", "optimisers"}
FREE_KEYS = (
    "stage1.steps",
    "stage1.lr",
    "stage2.steps",
    "stage2.lr",
    "stage2.discriminator_lr",
    "evaluation.",
    "compute.",
    "log_every",
    "checkpoint_every",
    "sample_every",
)
"""What may differ between a run and the one that it goes on from."""


@runtime_checkable
class Checkpoints(Protocol):
    """Where a run keeps its states."""

    def load(self) -> State | None:
        """The latest state, or None at the beginning."""

    def save(self, state: State | None, metrics: dict[str, float]) -> None:
        """Keep a state; every worker calls this at the same step, worker 0 alone with a state."""


class FolderCheckpoints:
    """The last few states of a run, as files in a folder.

    Args:
        folder: Made at the first save.
        keep: Number of files kept.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder
        self.keep = keep

    def files(self) -> list[Path]:
        """The files, oldest first."""
        return sorted(self.folder.glob("stage?-step*.pt"))

    def load(self) -> State | None:
        """The latest state."""
        files = self.files()
        return load_state(files[-1]) if files else None

    def save(self, state: State | None, metrics: dict[str, float]) -> None:
        """Write a state and forget the oldest ones."""
        if state is None:
            return
        save_state(state, self.folder / f"{state_name(state)}.pt")
        for old in self.files()[: -self.keep]:
            old.unlink()


def state_name(state: State) -> str:
    """Name of a state; later states have later names."""
    return f"stage{state['stage']}-step{state['steps_done']:08d}"


def save_state(state: State, path: Path) -> None:
    """Write a state under a temporary name and rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        torch.save(state, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load_state(path: Path) -> State:
    """Read a state, onto the CPU.

    Raises:
        ModelError: If the file is damaged or no state.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # on what other files look like
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for bytes that are no state
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{path}: not a checkpoint of ours, or damaged ({reason})") from error
    if not isinstance(state, dict) or STATE_KEYS - state.keys():
        raise ModelError(f"{path}: not a checkpoint of ours")
    return state


def check_same_run(
    state: State,
    config: RunConfig,
    *,
    fingerprint: str | None = None,
    stages: tuple[int, ...] = (1, 2),
) -> None:
    """Refuse to go on from a state that another run has left.

    Args:
        state: Where the run to go on with is.
        config: What is asked for now.
        fingerprint: Of the data set that is asked for now.
        stages: That are asked for now.

    Raises:
        InputError: Naming the first setting that differs, the other data set, or the stage that is
            over.
    """
    if fingerprint is not None and state.get("data", fingerprint) != fingerprint:
        raise InputError(
            f"the run to resume was trained on the data set {state['data'][:12]}, not "
            f"{fingerprint[:12]}: resume with its data, or start a new run in another folder"
        )
    if state["stage"] == 2 and stages == (1,):
        raise InputError("the run to resume is past stage 1: train stage 2, or start a new run")
    before, now = flatten(from_dict(RunConfig, state["config"])), flatten(config)
    for key, value in now.items():
        over = key == "stage1.steps" and state["stage"] == 2
        if before[key] != value and (over or not key.startswith(FREE_KEYS)):
            raise InputError(
                f"the run to resume has {key} = {json.dumps(before[key])}, "
                f"not {json.dumps(value)}: "
                "resume with its settings, or start a new run in another folder"
            )
