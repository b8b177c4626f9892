"""What the published networks answer, worked out plainly from weights under the published keys.

Nothing here comes from the package: each layer is a call of ``torch.nn.functional`` with the
weights of its key. ``test_published_networks.py`` holds this to the answers of the published
networks themselves where the shared parity folder is there, and the package to this everywhere.

Run as a script it writes ``published/keys_<side>.tsv`` and ``published/answers_<side>.npz`` anew:
networks as narrow as still shows every rule of their form, at the smallest side and at the
published one, worked out in double precision.

    PYTHONPATH=tests python tests/parity/published_reference.py
"""

import math
from pathlib import Path

import numpy as np
import torch
from published_form import State, inputs, read_state, small, write_table
from torch import Tensor
from torch.nn import functional as F

FIXTURES = Path(__file__).with_name("published")
SIDES = (32, 128)
KEPT = 16  # pixels a side of the pictures in the fixtures


def normalise(x: Tensor, state: State, key: str) -> Tensor:
    mean, variance = state[f"{key}.running_mean"], state[f"{key}.running_var"]
    return F.batch_norm(x, mean, variance, state[f"{key}.weight"], state[f"{key}.bias"])


def gate(x: Tensor) -> Tensor:
    half = x.shape[1] // 2
    return x[:, :half] * torch.sigmoid(x[:, half:])


def planes(code: Tensor, like: Tensor) -> Tensor:
    return code[:, :, None, None] * torch.ones_like(like[:, :1])


def same(x: Tensor, state: State, key: str) -> Tensor:
    return gate(normalise(F.conv2d(x, state[f"{key}.0.weight"], padding=1), state, f"{key}.1"))


def residuals(x: Tensor, state: State, key: str) -> Tensor:
    i = 0
    while f"{key}.{i}.block.0.weight" in state:
        hidden = same(x, state, f"{key}.{i}.block")
        hidden = F.conv2d(hidden, state[f"{key}.{i}.block.3.weight"], padding=1)
        x = x + normalise(hidden, state, f"{key}.{i}.block.4")
        i += 1
    return x


def enlarge(x: Tensor, state: State, stage: str) -> Tensor:
    """A linear layer to 4×4, then each block: nearest ×2, convolution, norm, gate."""
    x = F.linear(x, state[f"{stage}.fc.0.weight"])
    x = gate(normalise(x, state, f"{stage}.fc.1"))
    x = x.reshape(len(x), -1, 4, 4)
    i = 1
    while f"{stage}.upsample{i}.1.weight" in state:
        x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        x = F.conv2d(x, state[f"{stage}.upsample{i}.1.weight"], padding=1)
        x = gate(normalise(x, state, f"{stage}.upsample{i}.2"))
        i += 1
    return x


def head(x: Tensor, state: State, key: str) -> Tensor:
    return F.conv2d(x, state[f"{key}.img.0.weight"], padding=1)


def background(state: State, z: Tensor, b: Tensor) -> Tensor:
    feature = enlarge(torch.cat([z, b], dim=1), state, "background_stage")
    return torch.tanh(head(feature, state, "background_image"))


def shape_feature(state: State, z: Tensor, p: Tensor) -> Tensor:
    x = enlarge(torch.cat([z, p], dim=1), state, "parent_stage")
    x = same(torch.cat([x, planes(p, x)], dim=1), state, "parent_stage.jointConv")
    return residuals(x, state, "parent_stage.residual")


def paint(state: State, feature: Tensor, c: Tensor, behind: Tensor) -> State:
    """What the parent and child stages paint of a shape feature over a background."""
    x = same(torch.cat([planes(c, feature), feature], dim=1), state, "child_stage.jointConv")
    x = same(residuals(x, state, "child_stage.residual"), state, "child_stage.samesample")
    painted = {}
    for stage, hidden in (("parent", feature), ("child", x)):
        foreground = torch.tanh(head(hidden, state, f"{stage}_image"))
        mask = torch.sigmoid(head(hidden, state, f"{stage}_mask"))
        behind = mask * foreground + (1 - mask) * behind
        painted |= {
            f"{stage}_foreground": foreground,
            f"{stage}_mask": mask,
            f"{stage}_image": behind,
        }
    return painted


def encode(state: State, code: str, image: Tensor) -> Tensor:
    """4·tanh for z, logits for the other codes."""
    key = f"model_{code}"
    x = F.leaky_relu(F.conv2d(image, state[f"{key}.0.0.weight"], stride=2, padding=1), 0.2)
    layers = [(f"{key}.0.{i}", f"{key}.0.{i + 1}") for i in (2, 5, 8)]
    layers += [(f"{key}.{i}.0", f"{key}.{i}.1") for i in range(1, 9)]
    for convolution, norm in layers:
        if f"{norm}.running_mean" in state:
            weight = state[f"{convolution}.weight"]
            x = F.conv2d(x, weight, stride=2 if weight.shape[-1] == 4 else 1, padding=1)
            x = F.leaky_relu(normalise(x, state, norm), 0.2)
    last = next(f"{key}.{i}" for i in range(1, 9) if f"{key}.{i}.bias" in state)
    x = F.conv2d(x, state[f"{last}.weight"], state[f"{last}.bias"], stride=4).flatten(1)
    return 4 * torch.tanh(x) if code == "z" else x


def extract(state: State, image: Tensor) -> Tensor:
    """The shape extractor."""
    x = same(same(image, state, "first.0"), state, "first.1")
    skips = []
    i = 1
    while f"down{i}.0.weight" in state:
        x = F.conv2d(x, state[f"down{i}.0.weight"], state[f"down{i}.0.bias"], 2, 1)
        x = gate(normalise(x, state, f"down{i}.1"))
        skips.append(x)
        i += 1
    for j in range(1, i):
        x = skips.pop() if j == 1 else torch.cat([x, skips.pop()], dim=1)
        x = F.conv_transpose2d(x, state[f"up{j}.0.weight"], state[f"up{j}.0.bias"], 2, 1)
        x = gate(normalise(x, state, f"up{j}.1"))
    return residuals(x, state, "last")


@torch.no_grad()
def answers(states: dict[str, State], given: State) -> State:
    """All answers of generator, encoders and shape extractor, under the parity folder's names.

    Args:
        states: Of G, E and EX, with or without ``module.``; the work is done in their precision.
        given: See ``inputs``.
    """
    bare = {
        name: {key.removeprefix("module."): value for key, value in state.items()}
        for name, state in states.items()
    }
    kind = bare["G"]["child_mask.img.0.weight"].dtype
    given = {name: value.to(kind) for name, value in given.items()}
    behind = background(bare["G"], given["background_z"], given["b"])
    seen = behind.shape[-1] - 2
    found = {
        f"code_background_{seen}": F.interpolate(
            behind, (seen, seen), mode="bilinear", align_corners=True
        )
    }
    feature = shape_feature(bare["G"], given["z"], given["p"])
    painted = paint(bare["G"], feature, given["c"], behind)
    found |= {f"code_{name}": value for name, value in painted.items()}
    for code in ("z", "b", "p", "c"):
        found[f"encoder_{code}"] = encode(bare["E"], code, given["image"])
    found["shape_feature"] = extract(bare["EX"], given["image"])
    painted = paint(bare["G"], found["shape_feature"], given["c"], behind)
    found["feature_child_image"] = painted["child_image"]
    return found


def double(state: State) -> State:
    return {key: value.double() for key, value in state.items()}


def thinned(values: Tensor, kept: int) -> Tensor:
    """Every n-th pixel of pictures, so that ``kept`` are left a side; codes stay whole."""
    if values.ndim != 4:
        return values
    step = math.ceil(values.shape[-1] / kept)
    return values[..., ::step, ::step]


def main() -> None:
    for side in SIDES:
        table = FIXTURES / f"keys_{side}.tsv"
        table.parent.mkdir(exist_ok=True)
        write_table(small(side), table)
        states = {network: double(read_state(table, network)) for network in ("G", "E", "EX")}
        found = answers(states, inputs(small(side)))
        arrays = {name: thinned(value, KEPT).float().numpy() for name, value in found.items()}
        np.savez_compressed(FIXTURES / f"answers_{side}.npz", **arrays)


if __name__ == "__main__":
    main()
