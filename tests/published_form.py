"""Keys and shapes of the published networks at any size, and weights and inputs by rule.

The rule is that of the shared parity folder, so no file of weights is needed: entry n of network
number k is filled from ``PCG64([7, k, n])``, and input i comes from ``PCG64([7, 100, i])``.
"""

import csv
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

State = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]


class Sizes(NamedTuple):
    """The published configuration by default."""

    side: int = 128
    supers: int = 20
    fine: int = 200
    noise: int = 100
    generator: int = 64
    encoder: int = 64
    extractor: int = 32


def small(side: int) -> Sizes:
    """Those of the fixtures."""
    return Sizes(side, supers=2, fine=4, noise=5, generator=8, encoder=4, extractor=2)


def form(sizes: Sizes) -> dict[str, Shapes]:
    """Keys and shapes of the published G, E and EX, in their order, at any size."""
    return {
        network: {f"module.{key}": shape for key, shape in shapes.items()}
        for network, shapes in (
            ("G", _generator(sizes)),
            ("E", _encoders(sizes)),
            ("EX", _extractor(sizes)),
        )
    }


UPS = {
    32: ((2, 4, 16), (2, 4, 32)),
    64: ((2, 4, 8, 16), (2, 4, 8, 32)),
    128: ((2, 4, 8, 8, 16), (2, 4, 8, 32, 32)),
    256: ((2, 4, 8, 8, 16, 16), (2, 4, 8, 32, 32, 32)),
}
"""Parts of the first width that each up-block of the background and the parent stage has left."""


def _norm(key: str, n: int) -> Shapes:
    names = ("weight", "bias", "running_mean", "running_var")
    return {**{f"{key}.{name}": (n,) for name in names}, f"{key}.num_batches_tracked": ()}


def _gated(key: str, inputs: int, outputs: int, first: int = 0) -> Shapes:
    weight = {f"{key}.{first}.weight": (2 * outputs, inputs, 3, 3)}
    return weight | _norm(f"{key}.{first + 1}", 2 * outputs)


def _residuals(key: str, count: int, n: int) -> Shapes:
    shapes: Shapes = {}
    for i in range(count):
        shapes |= _gated(f"{key}.{i}.block", n, n)
        shapes[f"{key}.{i}.block.3.weight"] = (n, n, 3, 3)
        shapes |= _norm(f"{key}.{i}.block.4", n)
    return shapes


def _generator(sizes: Sizes) -> Shapes:
    n, w = 8 * sizes.generator, sizes.generator // 4

    def stage(name: str, inputs: int, parts: tuple[int, ...]) -> Shapes:
        shapes: Shapes = {f"{name}.fc.0.weight": (32 * n, inputs)}
        shapes |= _norm(f"{name}.fc.1", 32 * n)
        widths = [n, *(n // part for part in parts)]
        for i in range(len(parts)):
            shapes |= _gated(f"{name}.upsample{i + 1}", widths[i], widths[i + 1], first=1)
        return shapes

    def heads(name: str) -> Shapes:
        return {
            f"{name}_image.img.0.weight": (3, w, 3, 3),
            f"{name}_mask.img.0.weight": (1, w, 3, 3),
        }

    behind, parent = UPS[sizes.side]
    return {
        **stage("background_stage", sizes.noise + sizes.fine, behind),
        "background_image.img.0.weight": (3, n // 16, 3, 3),
        **stage("parent_stage", sizes.noise + sizes.supers, parent),
        **_gated("parent_stage.jointConv", sizes.supers + w, w),
        **_residuals("parent_stage.residual", 3, w),
        **heads("parent"),
        **_gated("child_stage.jointConv", sizes.fine + w, 2 * w),
        **_residuals("child_stage.residual", 2, 2 * w),
        **_gated("child_stage.samesample", 2 * w, w),
        **heads("child"),
    }


def _encoders(sizes: Sizes) -> Shapes:
    w, strided = sizes.encoder, int(math.log2(sizes.side // 4))
    widths = [3] + [w * min(2**i, 16) for i in range(strided)]
    shapes: Shapes = {}
    outputs = {"z": sizes.noise, "b": sizes.fine, "p": sizes.supers, "c": sizes.fine}
    for code, count in outputs.items():
        key = f"model_{code}"
        shapes[f"{key}.0.0.weight"] = (w, 3, 4, 4)
        for i in range(1, min(strided, 4)):
            shapes[f"{key}.0.{3 * i - 1}.weight"] = (widths[i + 1], widths[i], 4, 4)
            shapes |= _norm(f"{key}.0.{3 * i}", widths[i + 1])
        blocks = [(widths[i + 1], widths[i], 4, 4) for i in range(4, strided)]
        blocks += [(8 * w, widths[-1], 3, 3), (8 * w, 8 * w, 3, 3)]
        for i, shape in enumerate(blocks, start=1):
            shapes[f"{key}.{i}.0.weight"] = shape
            shapes |= _norm(f"{key}.{i}.1", shape[0])
        shapes[f"{key}.{len(blocks) + 1}.weight"] = (count, 8 * w, 4, 4)
        shapes[f"{key}.{len(blocks) + 1}.bias"] = (count,)
    return shapes


def _extractor(sizes: Sizes) -> Shapes:
    w, depth = sizes.extractor, int(math.log2(sizes.side // 2))
    downs = [w * min(2**i, 16) for i in range(depth)]
    shapes = _gated("first.0", 3, w) | _gated("first.1", w, w)
    inputs = w
    for i, outputs in enumerate(downs, start=1):
        shapes |= {
            f"down{i}.0.weight": (2 * outputs, inputs, 4, 4),
            f"down{i}.0.bias": (2 * outputs,),
        }
        shapes |= _norm(f"down{i}.1", 2 * outputs)
        inputs = outputs
    for i in range(1, depth + 1):
        skip = 0 if i == 1 else downs[-i]
        outputs = downs[-1] // 2 if i == 1 else skip
        outputs = sizes.generator // 4 if i == depth else outputs
        # The weights of a transposed convolution have the inputs first.
        shapes |= {
            f"up{i}.0.weight": (inputs + skip, 2 * outputs, 4, 4),
            f"up{i}.0.bias": (2 * outputs,),
        }
        shapes |= _norm(f"up{i}.1", 2 * outputs)
        inputs = outputs
    return shapes | _residuals("last", 2, sizes.generator // 4)


def entry(key: str, shape: tuple[int, ...], seed: list[int]) -> Tensor:
    """The weights of one entry."""
    rng = np.random.Generator(np.random.PCG64(seed))
    if key.endswith("num_batches_tracked"):
        return torch.tensor(0)
    if key.endswith("running_var"):
        return torch.from_numpy(0.5 + rng.random(shape)).float()
    values = rng.standard_normal(shape)
    if len(shape) >= 2:
        values = values * np.sqrt(2 / (values.size / shape[0]))
    elif key.endswith("weight"):
        values = 1 + 0.1 * values
    else:
        values = 0.1 * values
    return torch.from_numpy(values).float()


def read_state(table: Path, network: str) -> State:
    """The weights of one network of a table of keys."""
    with table.open() as lines:
        rows = [row for row in csv.reader(lines, delimiter="\t") if row[0] == network]
    return {
        key: entry(key, _shape(shape), [7, int(number), int(n)])
        for _, number, n, key, shape, _ in rows
    }


def read_shapes(table: Path) -> dict[str, Shapes]:
    """The shapes of all networks of a table of keys."""
    shapes: dict[str, Shapes] = {}
    with table.open() as lines:
        for network, _, _, key, shape, _ in csv.reader(lines, delimiter="\t"):
            shapes.setdefault(network, {})[key] = _shape(shape)
    return shapes


def inputs(sizes: Sizes) -> State:
    """The inputs, two of each."""

    def rng(i: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64([7, 100, i]))

    def normal(i: int, n: int) -> Tensor:
        return torch.from_numpy(rng(i).standard_normal((2, n)))

    def picture(i: int, side: int) -> Tensor:
        return torch.from_numpy(2 * rng(i).random((2, 3, side, side)) - 1).float()

    return {
        "background_z": normal(0, sizes.noise).float(),
        "z": normal(1, sizes.noise).float(),
        "b": torch.softmax(2 * normal(2, sizes.fine), 1).float(),
        "p": torch.softmax(2 * normal(3, sizes.supers), 1).float(),
        "c": torch.softmax(2 * normal(4, sizes.fine), 1).float(),
        "image": picture(5, sizes.side),
        "background_image": picture(6, sizes.side - 2),
    }


def _shape(text: str) -> tuple[int, ...]:
    return () if text == "scalar" else tuple(int(n) for n in text.split("x"))


def write_table(sizes: Sizes, path: Path) -> None:
    """Network, its number, entry, key, shape and type, as in the shared parity folder."""
    rows = [
        (
            network,
            number,
            n,
            key,
            "x".join(map(str, shape)) or "scalar",
            "float32" if shape else "int64",
        )
        for number, (network, shapes) in enumerate(form(sizes).items())
        for n, (key, shape) in enumerate(shapes.items())
    ]
    with path.open("w", newline="") as lines:
        csv.writer(lines, delimiter="\t", lineterminator="\n").writerows(rows)
