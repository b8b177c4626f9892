"""A release: a model as a folder that stands alone, for MLflow's pyfunc and for people.

It holds the bundle, the code that reads it, ``MLmodel`` with signature and example, how its figures
were measured, the model card and a sheet of what it paints. Nothing in it is pickled.
"""

import importlib.util
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from mixnmatch.bundle import DESCRIPTION, ModelBundle
from mixnmatch.codes import sample_tied
from mixnmatch.contact_sheet import contact_sheet
from mixnmatch.data.pictures import encode_png
from mixnmatch.data.store import Dataset
from mixnmatch.errors import ModelError
from mixnmatch.files import whole_file
from mixnmatch.metrics.protocol import PROTOCOL
from mixnmatch.mixer import Mixer
from mixnmatch.sheets import grid, to_picture, zoom_of
from mixnmatch_platform.promotion.card import SHEET, model_card
from mixnmatch_platform.promotion.gates import Verdict
from mixnmatch_platform.registry import BUNDLE
from mixnmatch_platform.scoring import COLUMNS, PICTURE, REQUIRED

__all__ = ["CARD", "build_release", "smoke_test"]

CARD = "README.md"
LOADER = "mixnmatch_platform.scoring"
REQUIREMENTS = ("mlflow", "torch", "numpy", "pillow", "pyarrow", "safetensors", "jaxtyping", "tqdm")
"""What mixing imports, and pandas by way of mlflow."""
SHEET_COLUMNS = 8
SMOKE_SECONDS = 300

_SMOKE = """
import sys, json
import mlflow
from mlflow.models import Model
folder = sys.argv[1]
model = mlflow.pyfunc.load_model(folder)
example = Model.load(folder).load_input_example(folder)
sizes = {}
for mode in json.loads(sys.argv[2]):
    answer = model.predict(example, params={"mode": mode})
    from io import BytesIO
    from PIL import Image
    image = Image.open(BytesIO(answer["picture"][0]))
    image.load()
    sizes[mode] = image.size
print(json.dumps(sizes))
"""


def build_release(
    folder: Path,
    bundle_folder: Path,
    bundle: ModelBundle,
    *,
    name: str,
    run: str,
    protocol: Mapping[str, Any] | None,
    code: Mapping[str, str],
    dataset: Dataset | None,
    licence: str | None,
    data_licence: str | None,
) -> None:
    """Write a release.

    Args:
        folder: Its place; must not exist.
        bundle_folder: The model, a folder called ``bundle``.
        bundle: What was read from it.
        name: Of the registered model.
        run: Name of the run that trained it.
        protocol: How its figures were measured.
        code: Tags of its run.
        dataset: Pictures for the sheet; without them it shows what the model paints by itself.
        licence: Of the model, for the card.
        data_licence: Of the data.
    """
    mixer = Mixer(bundle)
    pictures = _own_pictures(mixer, SHEET_COLUMNS)
    sheet = (
        contact_sheet(mixer, dataset, columns=SHEET_COLUMNS)
        if dataset is not None
        else grid([pictures], zoom=zoom_of(mixer.image_size))
    )
    with tempfile.TemporaryDirectory(prefix="mixnmatch-code-") as work:
        _save_pyfunc(folder, bundle_folder, _code(Path(work)), _example(pictures))
    if protocol is not None:
        _write(folder / PROTOCOL, json.dumps(protocol, indent=2) + "\n")
    with whole_file(folder / SHEET) as partial:
        sheet.save(partial)
    card = model_card(
        bundle,
        name=name,
        run=run,
        metrics=bundle.metrics,
        protocol=protocol,
        code=code,
        sha256=_described(bundle_folder)["sha256"],
        licence=licence,
        data_licence=data_licence,
    )
    _write(folder / CARD, card)


def smoke_test(folder: Path) -> Verdict:
    """Load a release in a fresh process and mix its four example pictures in each mode."""
    described = _described(folder / "data" / BUNDLE)
    modes = ["code", "feature"] if 2 in described["stages"] else ["code"]
    side = described["config"]["model"]["image_size"]
    with tempfile.TemporaryDirectory(prefix="mixnmatch-smoke-") as elsewhere:
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-c", _SMOKE, str(folder.absolute()), json.dumps(modes)],
                cwd=elsewhere,
                capture_output=True,
                text=True,
                timeout=SMOKE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            said = f"mixing four pictures took more than {SMOKE_SECONDS} s"
            return Verdict(gate="smoke test", passed=False, said=said)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return Verdict(gate="smoke test", passed=False, said=f"a fresh process failed: {reason}")
    sizes = json.loads(done.stdout.strip().splitlines()[-1])
    passed = sizes == {mode: [side, side] for mode in modes}
    said = f"a fresh process has mixed four pictures in {' and '.join(modes)} mode, {sizes}"
    return Verdict(gate="smoke test", passed=passed, said=said)


def _save_pyfunc(folder: Path, bundle: Path, code: list[Path], example: Any) -> None:
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    signature = ModelSignature(
        inputs=Schema(
            [ColSpec(DataType.binary, each, required=each in REQUIRED) for each in COLUMNS]
        ),
        outputs=Schema([ColSpec(DataType.binary, PICTURE)]),
        params=ParamSchema([ParamSpec("mode", DataType.string, "code")]),
    )
    versions = {each: version(each).partition("+")[0] for each in REQUIREMENTS}
    logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MLflow about pandas
        mlflow.pyfunc.save_model(
            str(folder),
            loader_module=LOADER,
            data_path=str(bundle),
            code_paths=[str(path) for path in code],
            signature=signature,
            input_example=example,
            pip_requirements=[f"{name}=={number}" for name, number in versions.items()],
        )


def _example(pictures: torch.Tensor) -> Any:
    """Four pictures for the four columns."""
    import pandas as pd

    images = [to_picture(image) for image in pictures[: len(COLUMNS)]]
    return pd.DataFrame(
        {name: [encode_png(image)] for name, image in zip(COLUMNS, images, strict=True)}
    )


def _own_pictures(mixer: Mixer, count: int) -> torch.Tensor:
    """Pictures that a model paints of sampled codes."""
    codes = sample_tied(mixer.bundle.config.model, count, torch.Generator().manual_seed(0))
    with torch.no_grad():
        layers = mixer.bundle.generator(codes.to(mixer.device))
    images: torch.Tensor = layers.child_image.cpu()
    return images


def _code(work: Path) -> list[Path]:
    """Copies of the packages that a release needs: the model, and its form for pyfunc."""
    model, platform = work / "mixnmatch", work / "mixnmatch_platform"
    ignored = shutil.ignore_patterns("__pycache__", "commands", "*.html", "*.css", "*.js")
    shutil.copytree(_package("mixnmatch"), model, ignore=ignored)
    platform.mkdir()
    for name in ("__init__.py", "scoring.py"):
        shutil.copy(_package("mixnmatch_platform") / name, platform / name)
    return [model, platform]


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ModelError(f"the package {name} has no files here that a release could hold")
    return Path(spec.origin).parent


def _described(bundle_folder: Path) -> dict[str, Any]:
    described: dict[str, Any] = json.loads((bundle_folder / DESCRIPTION).read_text("utf-8"))
    return described


def _write(file: Path, text: str) -> None:
    with whole_file(file) as partial:
        partial.write_text(text, encoding="utf-8")
