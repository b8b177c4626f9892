"""Small pictures and data sets for the tests of ``mixnmatch.data``."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mixnmatch.data.factors import FactorSpec, draw_factor_dataset
from mixnmatch.data.layouts.known import read_source
from mixnmatch.data.layouts.listing import LayoutOptions
from mixnmatch.data.places import Place
from mixnmatch.data.plan import Plan, read_entry
from mixnmatch.data.records import Factors, Record, Reject
from mixnmatch.data.store import Dataset, open_dataset, write_dataset

MakeCub = Callable[..., Path]
UPRIGHT = Factors(
    background=0,
    shape=0,
    texture=0,
    pose=1,
    position_x=0.5,
    position_y=0.5,
    scale=0.5,
    rotation=0.0,
    mirrored=False,
)


def encoded(width: int = 40, height: int = 30, mode: str = "RGB", form: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert(mode).save(buffer, form)
    return buffer.getvalue()


def plan_of(root: Path, layout: str = "auto", **options: Any) -> Plan:
    """How the command line would read a folder."""
    place = Place(root)
    listing = read_source(place, layout, LayoutOptions())
    return Plan(place=place, listing=listing, files=place.files(), **options)


def rows_of(plan: Plan) -> list[Record | Reject]:
    return [row for number in range(len(plan.listing.entries)) for row in read_entry(plan, number)]


def read_cub(root: Path) -> list[Record]:
    """The pictures of a CUB folder; the first bad one raises."""
    rows = rows_of(plan_of(root, "cub", strict=True))
    return [row for row in rows if isinstance(row, Record)]


@pytest.fixture
def make_cub(tmp_path: Path) -> MakeCub:
    """A CUB folder of pictures 3, 7 and 20, one of them grey, one box past the edge."""

    def make(name: str = "cub", **files: str | bytes) -> Path:
        root = tmp_path / name
        pictures = {
            "one/a.jpg": encoded(),
            "one/b.jpg": encoded(mode="L"),
            "two/c.jpg": encoded(60),
        }
        texts: dict[str, str | bytes] = {
            "images.txt": "3 one/a.jpg\n7 one/b.jpg\n20 two/c.jpg\n",
            "bounding_boxes.txt": "20 10 5 20 20\n3 1.5 2 30 20\n7 20.0 10.0 30.0 10.0\n",
            "image_class_labels.txt": "3 9\n7 9\n20 14\n",
            "classes.txt": "9 009.One\n14 014.Two\n",
            "train_test_split.txt": "3 1\n7 0\n20 1\n",
        }
        texts |= {f"images/{path}": data for path, data in pictures.items()}
        texts |= {key.replace("__", "."): value for key, value in files.items()}
        for path, content in texts.items():
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode() if isinstance(content, str) else content)
        return root

    return make


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """48 drawn pictures, 8 of them for judges."""
    out = tmp_path_factory.mktemp("drawn") / "set"
    spec = FactorSpec(count=40, side=48, judge_count=8)
    write_dataset(draw_factor_dataset(spec), out, kind="factors", factors=spec.cardinalities)
    return open_dataset(out)
