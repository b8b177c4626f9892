"""Data sets for the tests of ``mixnmatch.data``."""

from pathlib import Path

import pytest
from made_data import MakeCub, encoded

from mixnmatch.data.factors import FactorSpec, draw_factor_dataset
from mixnmatch.data.store import Dataset, open_dataset, write_dataset


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
