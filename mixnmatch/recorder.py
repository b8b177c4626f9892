"""Where a run's figures, pictures and files go while it trains.

The training loop knows only ``Recorder``. ``FolderRecorder`` needs nothing but a disk; the platform
adds one that also fills MLflow, and ``Recorders`` feeds both.
"""

import json
import math
import os
import re
import shutil
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from PIL import Image

from mixnmatch.files import replace_folder

__all__ = ["FolderRecorder", "Recorder", "Recorders", "check_series"]


@runtime_checkable
class Recorder(Protocol):
    """Takes what a run produces."""

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Record some figures of one step.

        Args:
            values: Figures by name; those that are not finite are kept as such.
            step: Optimiser steps done.
        """
        ...

    def picture(self, name: str, image: Image.Image, step: int) -> None:
        """Record one picture of a series.

        Args:
            name: Name of the series, of letters, digits, ``_``, ``-`` and ``.``.
            image: The picture.
            step: Optimiser steps done.
        """
        ...

    def artifact(self, path: Path, folder: str = "") -> None:
        """Record a file or a whole folder, as ``cp -r PATH FOLDER/`` would.

        Args:
            path: What to keep; it keeps its own name inside ``folder``.
            folder: Folder among the run's artifacts; empty for their top.
        """
        ...


class FolderRecorder(Recorder):
    """Everything of a run as plain files in one folder.

    ``metrics.jsonl`` has one object a line with ``step``, ``time`` (Unix seconds) and ``values``.
    A value that is not finite is null there, and its name is listed in ``non_finite``. A run that
    resumes writes the steps since its checkpoint again: of equal steps the last line counts.
    Pictures are ``samples/NAME-STEP.png``.

    Args:
        out: The folder; it is created when missing.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._metrics = out / "metrics.jsonl"
        out.mkdir(parents=True, exist_ok=True)
        _end_last_line(self._metrics)

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Append one line to ``metrics.jsonl``."""
        numbers = {name: float(value) for name, value in values.items()}
        non_finite = [name for name, value in numbers.items() if not math.isfinite(value)]
        record: dict[str, Any] = {
            "step": step,
            "time": round(time.time(), 3),
            "values": {name: None if name in non_finite else v for name, v in numbers.items()},
        }
        if non_finite:
            record["non_finite"] = non_finite
        with self._metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def picture(self, name: str, image: Image.Image, step: int) -> None:
        """Write ``samples/NAME-STEP.png``, which appears whole."""
        check_series(name)
        path = self._out / "samples" / f"{name}-{step:07d}.png"
        path.parent.mkdir(exist_ok=True)
        new = _beside(path)
        try:
            image.save(new, format="PNG")
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)

    def artifact(self, path: Path, folder: str = "") -> None:
        """Copy a file or folder into the run's folder, unless it already lies there."""
        if path.resolve().is_relative_to(self._out.resolve()):
            return
        target = self._out / folder / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            _copy_folder(path, target)
        else:
            new = _beside(target)
            try:
                shutil.copyfile(path, new)
                new.replace(target)
            finally:
                new.unlink(missing_ok=True)


class Recorders(Recorder):
    """Hands everything on to several recorders, in order.

    Args:
        recorders: The first should be the one that must not lose anything.
    """

    def __init__(self, *recorders: Recorder) -> None:
        self._recorders = recorders

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Hand figures on."""
        for recorder in self._recorders:
            recorder.metrics(values, step)

    def picture(self, name: str, image: Image.Image, step: int) -> None:
        """Hand a picture on."""
        for recorder in self._recorders:
            recorder.picture(name, image, step)

    def artifact(self, path: Path, folder: str = "") -> None:
        """Hand a file or folder on."""
        for recorder in self._recorders:
            recorder.artifact(path, folder)


def check_series(name: str) -> None:
    """Refuse a name of pictures that is no file name everywhere.

    Raises:
        ValueError: If it has other characters than ASCII letters, digits, ``_``, ``-`` and ``.``.
    """
    if not re.fullmatch(r"[\w.-]+", name, re.ASCII):
        raise ValueError(f"picture name {name!r} must be of letters, digits, '_', '-' and '.'")


def _end_last_line(path: Path) -> None:
    # A killed run may leave half a line: without its end, the next record would be lost with it.
    if path.is_file() and path.stat().st_size:
        with path.open("rb+") as file:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")


def _copy_folder(source: Path, target: Path) -> None:
    new = _beside(target)
    try:
        shutil.copytree(source, new)
        replace_folder(new, target)
    finally:
        shutil.rmtree(new, ignore_errors=True)
