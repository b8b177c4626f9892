"""What the documentation takes for granted, small: sources, pictures, runs and a service."""

import json
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import uvicorn
from PIL import Image, ImageDraw
from published_form import entry, form, small

from mixnmatch.animation import Frame, save_animation
from mixnmatch.bundle import load_bundle, save_bundle
from mixnmatch.data.store import Dataset
from mixnmatch.mixer import Mixer
from mixnmatch_platform.promotion.promote import promote
from mixnmatch_platform.promotion.request import Request
from mixnmatch_platform.promotion.transfer import import_model
from mixnmatch_platform.services import free_port
from mixnmatch_platform.serving.app import make_app
from mixnmatch_platform.serving.batching import Bench
from mixnmatch_platform.serving.gallery import choose_pictures
from mixnmatch_platform.serving.metrics import Metrics
from mixnmatch_platform.serving.models import Served
from mixnmatch_platform.serving.painter import Painter
from mixnmatch_platform.serving.service import Service, loaded_from
from mixnmatch_platform.tracking import Tracking

ROOT = Path(__file__).parents[2]
ACCURACY = "disentanglement_accuracy"


def make_world(work: Path, bundle: Path, data: Dataset) -> None:
    """Put everything in a folder that is the current one."""
    (work / "experiments").symlink_to(ROOT / "experiments")
    _make_sources(work)
    _make_pictures(work)
    _make_runs(work, bundle, data)


@contextmanager
def service(bundle: Path, data: Dataset) -> Iterator[str]:
    """The application of `platform serve` without Ray; gives its address."""
    metrics, bench = Metrics(), Bench(ThreadPoolExecutor(1))
    served = Served(name="mixnmatch-demo", version=1, source="models:/mixnmatch-demo/1", store="")
    painter = Painter(Mixer(load_bundle(bundle)), bench, metrics.batch)
    loaded = loaded_from(served, painter, choose_pictures(data, 4))
    app = make_app(Service(loaded=loaded, replica="r", bench=bench, metrics=metrics), _nobody)
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)


async def _nobody() -> dict[str, Any]:
    return {}


def _make_sources(work: Path) -> None:
    """Pictures with boxes in three layouts, and alone."""
    random = np.random.default_rng(0)
    names = [f"{number:02}.jpg" for number in range(60)]
    for folder in ("CUB_200_2011/images/001.Tern", "CUB_200_2011/images/002.Wren", "shoes"):
        (work / folder).mkdir(parents=True)
    for folder in ("photos", "pictures-alone"):
        (work / folder).mkdir()
    for number, name in enumerate(names):
        picture = Image.fromarray(random.integers(0, 256, (60, 80, 3), dtype=np.uint8))
        kind = ("001.Tern", "002.Wren")[number % 2]
        for folder in (f"CUB_200_2011/images/{kind}", "shoes", "photos", "pictures-alone"):
            picture.save(work / folder / name)
    cub = [f"{n % 2 + 1:03}.{('Tern', 'Wren')[n % 2]}/{name}" for n, name in enumerate(names)]
    tables = {
        "images.txt": cub,
        "bounding_boxes.txt": ["20.0 15.0 40.0 30.0"] * 60,
        "image_class_labels.txt": [n % 2 + 1 for n in range(60)],
        "train_test_split.txt": [int(n < 50) for n in range(60)],
    }
    for table, values in tables.items():
        text = "".join(f"{n} {value}\n" for n, value in enumerate(values, start=1))
        (work / "CUB_200_2011" / table).write_text(text)
    (work / "CUB_200_2011" / "classes.txt").write_text("1 001.Tern\n2 002.Wren\n")
    rows = [f"{name},20,15,60,45,40,30" for name in names]
    (work / "shoes/boxes.csv").write_text("\n".join(["file,left,top,right,bottom,w,h", *rows]))
    rows = [f"{name},20,15,40,30" for name in names]
    (work / "photos/boxes.csv").write_text("\n".join(["image,x,y,width,height", *rows]))


def _make_pictures(work: Path) -> None:
    """Pictures to mix, a drawing, films, and files of weights."""
    for number, name in enumerate(("a", "b", "c")):
        Image.linear_gradient("L").rotate(90 * number).convert("RGB").save(work / f"{name}.jpg")
    drawing = Image.new("RGB", (120, 120), "white")
    ImageDraw.Draw(drawing).ellipse((30, 40, 80, 90), outline="black", width=4)
    drawing.save(work / "drawing.png")
    frames = [Frame(drawing.rotate(10 * n), 0.1) for n in range(3)]
    for name in ("flying.mp4", "film.gif"):
        save_animation(frames, work / name)
    (work / "inception.pth").touch()
    (work / "published").mkdir()
    for network, shapes in form(small(32)).items():
        state = {key: entry(key, shape, [7, n]) for n, (key, shape) in enumerate(shapes.items())}
        torch.save(state, work / "published" / f"{network}.pth")


def _make_runs(work: Path, bundle: Path, data: Dataset) -> None:
    """Finished runs of several experiments, and a champion that the best of them can beat."""
    home = work / "runs"
    figures = {
        ("demo", "trial-0000"): 0.50,
        ("demo", "trial-0001"): 0.60,
        ("demo", "second"): 0.55,
        ("cub", "trial-0000"): 0.50,
        ("birds", "birds"): 0.50,
    }
    real = {"fingerprint": data.info.fingerprint}
    protocol = {"generated": {"protocol": "quick", "samples": 512}, "real": real}
    for (experiment, name), value in figures.items():
        metrics = {"fid_5k": 20.0, "frechet_factors_512": 30.0, "evaluation/samples": 512.0}
        for metric in (ACCURACY, f"feature_{ACCURACY}", "accuracy/shape"):
            ends = {f"low/{metric}": value - 0.01, f"high/{metric}": value + 0.01}
            metrics |= {metric: value, f"chance/{metric}": 0.3, **ends}
        metrics |= {"judge/held_out": 200.0}
        out = home / experiment / name / "bundle"
        known = {"kind": "factors", "count": len(data), "fingerprint": data.info.fingerprint}
        model = replace(load_bundle(bundle), metrics=metrics, data=known)
        with torch.no_grad():  # equal weights would be the same model
            next(model.generator.parameters()).mul_(1 + value / 100)
        save_bundle(model, out)
        (out / "evaluation-protocol.json").write_text(json.dumps(protocol))
        import_model(out, Tracking.at(home.absolute(), experiment), name)
    shutil.copytree(out, home / "birds" / "bundle")
    for name, experiment, run in (
        ("mixnmatch-demo", "demo", "trial-0000"),
        ("birds", "cub", "trial-0000"),
    ):
        request = Request(name=name, metric=ACCURACY, experiment=experiment, run=run)
        promote(Tracking.at(home.absolute(), experiment).uri, request)
