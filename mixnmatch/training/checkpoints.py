"""Checkpoints: files that appear whole or not at all, and are read without unpickling."""

import errno
import json
import math
import os
import shutil
import warnings
from abc import ABC, abstractmethod
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from mixnmatch.config import RunConfig
from mixnmatch.errors import InputError, ModelError, RunError
from mixnmatch.files import whole_file
from mixnmatch.metrics.figures import Figure
from mixnmatch.settings import flatten, from_dict

State = dict[str, Any]
FILE_NAME = "state.pt"
BEST_NAME = "best.json"
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
    "checkpoint_",
    "sample_every",
)
"""What may differ between a run and the one that it goes on from."""


@runtime_checkable
class Checkpoints(Protocol):
    """Where a run keeps its states."""

    def load(self) -> State | None:
        """The latest state, or None at the beginning."""

    def save(self, state: State | None, metrics: dict[str, float]) -> None:
        """Keep a state; every worker calls this at the same step, worker 0 alone with a state.

        Args:
            state: What to go on from.
            metrics: ``stage`` and ``step``; after an evaluation within stage 1 also its figures
                (``training/…``) and ``images``, the training pictures seen till then.
        """

    def save_best(self, state: State, name: str, figure: Figure) -> None:
        """Keep a state of worker 0 beside the latest ones if no better one was seen.

        Args:
            state: That was evaluated.
            name: Of the figure.
            figure: Measured on it; it says which side is better.
        """


class KeptStates(ABC):
    """The last few states of a run, and the best one: ``best.json`` says which and how good it is.

    Args:
        keep: Number of the last states that are kept.
    """

    def __init__(self, keep: int = 2) -> None:
        self.keep = keep

    @abstractmethod
    def names(self) -> list[str]:
        """Names of the files there, in ascending order."""

    @abstractmethod
    def read(self, name: str) -> State:
        """The state in a file."""

    @abstractmethod
    def write(self, name: str, state: State) -> None:
        """Write a state, whole or not at all."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file."""

    @abstractmethod
    def read_note(self) -> str | None:
        """The text of ``best.json``, None without one."""

    @abstractmethod
    def write_note(self, text: str) -> None:
        """Write ``best.json``, whole or not at all."""

    def latest(self) -> str | None:
        """Name of the latest state."""
        return max(self._states("stage"), default=None)

    def load(self) -> State | None:
        """The latest state."""
        name = self.latest()
        return None if name is None else self.read(name)

    def save(self, state: State | None, metrics: dict[str, float]) -> None:
        """Write a state and forget the oldest ones."""
        if state is None:
            return
        self.write(f"{state_name(state)}.pt", state)
        for old in sorted(self._states("stage"))[: -self.keep]:
            self.remove(old)

    def save_best(self, state: State, name: str, figure: Figure) -> None:
        """Write a state if it is better than the best one yet, and forget that.

        Raises:
            InputError: If neither more nor less of the figure is better.
        """
        if figure.better is None:
            raise InputError(f"checkpoint_best is {name}: neither more nor less of it is better")
        note = self.read_note()
        before = json.loads(note) if note is not None else None
        if before is not None and before["figure"] == name:
            lead = figure.value - before["value"]
            if not (lead > 0 if figure.better == "higher" else lead < 0):
                return
        if math.isnan(figure.value):
            return
        file = f"best-{state_name(state)}.pt"
        self.write(file, state)
        # From here on it is the best one; a file that no note names is cleared away below.
        self.write_note(json.dumps({"file": file, "figure": name, "value": figure.value}) + "\n")
        for old in self._states("best-"):
            if old != file:
                self.remove(old)

    def best(self) -> str | None:
        """Name of the best state, None without one."""
        note = self.read_note()
        return None if note is None else str(json.loads(note)["file"])

    def _states(self, kind: str) -> list[str]:
        return [n for n in self.names() if n.startswith(kind) and n.endswith(".pt")]


class FolderCheckpoints(KeptStates):
    """The states as files in a folder.

    Args:
        folder: Made at the first save.
        keep: Number of the last states that are kept.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        super().__init__(keep)
        self.folder = folder

    def files(self) -> list[Path]:
        """The last states, oldest first."""
        return sorted(self.folder.glob("stage?-step*.pt"))

    def names(self) -> list[str]:
        """Names of the files there; none before the first save."""
        return sorted(path.name for path in self.folder.glob("*.pt"))

    def read(self, name: str) -> State:
        """The state in a file."""
        return load_state(self.folder / name)

    def write(self, name: str, state: State) -> None:
        """Write a state, after clearing away what a killed process has left of one."""
        for left in self.folder.glob(".*.pt.*.partial"):
            left.unlink(missing_ok=True)
        save_state(state, self.folder / name)

    def remove(self, name: str) -> None:
        """Remove a file."""
        (self.folder / name).unlink(missing_ok=True)

    def read_note(self) -> str | None:
        """The text of ``best.json``."""
        file = self.folder / BEST_NAME
        return file.read_text(encoding="utf-8") if file.is_file() else None

    def write_note(self, text: str) -> None:
        """Write ``best.json``."""
        with whole_file(self.folder / BEST_NAME) as partial:
            partial.write_text(text, encoding="utf-8")


def folder_checkpoints(out: Path, config: RunConfig) -> FolderCheckpoints:
    """The states of the run in a folder, as many as it is configured to keep."""
    return FolderCheckpoints(out / "checkpoints", config.checkpoint_keep)


def state_name(state: State) -> str:
    """Name of a state; later states have later names."""
    return f"stage{state['stage']}-step{state['steps_done']:08d}"


def tensor_bytes(value: object) -> int:
    """Bytes of all tensors in nested dictionaries, lists and tuples."""
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(map(tensor_bytes, value.values()))
    return sum(map(tensor_bytes, value)) if isinstance(value, list | tuple) else 0


def save_state(state: State, path: Path) -> None:
    """Write a state under a temporary name, to the disk, and rename it.

    Raises:
        RunError: If the disk is full: what was there is untouched, and nothing is left of the new.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        try:
            with partial.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())  # a name that a lost machine kept must have its content
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except Exception as error:
        if not _is_full(error):
            raise
        free = shutil.disk_usage(path.parent).free
        raise RunError(
            f"{path}: the disk is full: the checkpoint needs {tensor_bytes(state):,} bytes, "
            f"{free:,} are free; earlier ones are as they were: make room, and run the same again"
        ) from error


def load_state(path: Path) -> State:
    """Read a state, onto the CPU.

    Raises:
        ModelError: If the file is damaged or no state.
    """
    return read_state(path, str(path))


def read_state(source: Path | BytesIO, name: str) -> State:
    """``load_state`` of a file or of its content.

    Args:
        source: What to read.
        name: Of the source, for messages.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # on what other files look like
            state = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for bytes that are no state
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{name}: not a checkpoint of ours, or damaged ({reason})") from error
    if not isinstance(state, dict) or STATE_KEYS - state.keys():
        raise ModelError(f"{name}: not a checkpoint of ours")
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


def _is_full(error: BaseException | None) -> bool:
    """Whether a disk without room is at the bottom of an error; torch raises its own above it."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False
