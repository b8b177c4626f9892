"""``mixnmatch convert``: what it makes of published checkpoints, and what it refuses."""

import hashlib
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from published_form import Sizes, State, entry, form, small
from torch import Tensor, nn

from mixnmatch import cli
from mixnmatch.bundle import load_bundle
from mixnmatch.data.store import Dataset
from mixnmatch.published import load_published

Refused = Callable[..., str]
Capture = pytest.CaptureFixture[str]
Edit = Callable[[State], Any]
FILES = ("G.pth", "E.pth", "EX.pth")
SMALL = small(32)
ONE_COUNT = torch.tensor(0)


def run(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def weights(sizes: Sizes, network: str) -> State:
    number = ("G", "E", "EX").index(network)
    shapes = form(sizes)[network].items()
    return {key: entry(key, shape, [7, number, n]) for n, (key, shape) in enumerate(shapes)}


@pytest.fixture(scope="module")
def states() -> dict[str, State]:
    return {network: weights(SMALL, network) for network in ("G", "E", "EX")}


@pytest.fixture
def published(states: dict[str, State], tmp_path: Path) -> Path:
    """A folder of published checkpoints."""
    folder = tmp_path / "published"
    folder.mkdir()
    for network, state in states.items():
        torch.save(state, folder / f"{network}.pth")
    return folder


@pytest.fixture
def refuse(published: Path, tmp_path: Path, refused: Refused) -> Callable[[], str]:
    """Convert, see it refused with nothing written, and give the line."""

    def convert() -> str:
        before = sorted(tmp_path.rglob("*"))
        line = refused("convert", published, tmp_path / "out")
        assert sorted(tmp_path.rglob("*")) == before
        return line

    return convert


def change(path: Path, edit: Edit) -> None:
    """Edit a checkpoint; what the edit gives takes its place, where it gives anything."""
    state = torch.load(path, weights_only=True)
    edited = edit(state)
    torch.save(state if edited is None else edited, path)


# The happy road


def test_convert(
    published: Path, states: dict[str, State], tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "new" / "out"
    assert run("convert", published, out) == 0
    said = "2 super and 4 fine categories, 5 noise dimensions, 32 px; stages 1 and 2"
    assert capsys.readouterr() == (f"wrote {out}: {said}\n", "")
    assert names(out.parent) == ["out"]
    bundle = load_bundle(out)
    model = bundle.config.model
    assert (model.image_size, model.super_categories, model.fine_categories) == (32, 2, 4)
    assert (model.noise_dim, model.generator_width, model.encoder_width) == (5, 8, 4)
    assert (model.extractor_width, model.discriminator_width, model.pair_width) == (2, 64, 16)
    assert bundle.stages == (1, 2)
    assert bundle.metrics == {}
    digests = {name: hashlib.sha256((published / name).read_bytes()).hexdigest() for name in FILES}
    assert bundle.data == {"source": "published checkpoints", "files": digests}
    state = bundle.generator.state_dict()
    assert torch.equal(
        state["parent_stage.0.weight"], states["G"]["module.parent_stage.fc.0.weight"]
    )
    assert torch.equal(
        state["child_same.0.weight"], states["G"]["module.child_stage.samesample.0.weight"]
    )


def test_without_an_extractor(
    published: Path, tmp_path: Path, capsys: Capture, refused: Refused
) -> None:
    (published / "EX.pth").unlink()
    out, photo = tmp_path / "out", tmp_path / "photo.png"
    assert run("convert", published, out) == 0
    assert capsys.readouterr().out.endswith(
        "32 px; stage 1 only, without feature mode, as there is no EX.pth\n"
    )
    assert load_bundle(out).stages == (1,)
    assert load_bundle(out).data["files"].keys() == {"G.pth", "E.pth"}
    Image.linear_gradient("L").save(photo)
    files = [part for name in ("background", "shape", "texture") for part in (f"--{name}", photo)]
    options = ("--model", out, "--out", tmp_path / "mix.png", "--mode", "feature")
    assert "no shape extractor" in refused("mix", *files, *options)


def test_a_dry_run_says_all_and_writes_nothing(
    published: Path, tmp_path: Path, capsys: Capture, refused: Refused
) -> None:
    out = tmp_path / "out"
    assert run("convert", published, out, "--dry-run") == 0
    assert capsys.readouterr().out.startswith(f"would write {out}: 2 super and 4 fine categories")
    assert run("convert", published, out, "--dry-run", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["written"], summary["stages"]) == (False, [1, 2])
    assert summary["model"]["noise_dim"] == 5
    change(published / "E.pth", lambda state: state.clear())
    assert "E.pth: holds an empty dictionary" in refused("convert", published, out, "--dry-run")
    assert names(tmp_path) == ["published"]


def test_a_summary_as_json(published: Path, tmp_path: Path, capsys: Capture) -> None:
    assert run("convert", published, tmp_path / "out", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    bundle = load_bundle(tmp_path / "out")
    assert summary.keys() == {"out", "written", "stages", "model", "data"}
    assert (summary["out"], summary["written"]) == (str(tmp_path / "out"), True)
    assert summary["data"] == bundle.data


@pytest.mark.parametrize(
    "edit",
    [
        lambda state: {key.removeprefix("module."): value for key, value in state.items()},
        lambda state: {key: nn.Parameter(v, False) if v.ndim else v for key, v in state.items()},
        lambda state: {k: torch.stack([v, v], dim=-1)[..., 0] for k, v in state.items()},
        lambda state: state | {k: ONE_COUNT for k, v in state.items() if not v.ndim},
        lambda state: {k: v.double() if v.is_floating_point() else v for k, v in state.items()},
    ],
    ids=["bare keys", "parameters", "not contiguous", "shared memory", "double"],
)
def test_other_ways_to_save_the_same(
    edit: Edit, published: Path, tmp_path: Path, capsys: Capture
) -> None:
    right = load_published(published)
    for name in FILES:
        change(published / name, edit)
    assert run("convert", published, tmp_path / "out") == 0
    assert_same_weights(load_bundle(tmp_path / "out"), right)


def test_old_files_of_torch(published: Path, states: dict[str, State]) -> None:
    right = load_published(published)
    for network, state in states.items():
        path = published / f"{network}.pth"
        torch.save(state, path, _use_new_zipfile_serialization=False)
    assert_same_weights(load_published(published), right)


def test_half_precision_becomes_float32(published: Path, tmp_path: Path) -> None:
    right = load_published(published)
    for name in FILES:
        change(
            published / name,
            lambda state: {k: v.half() if v.is_floating_point() else v for k, v in state.items()},
        )
    assert run("convert", published, tmp_path / "out") == 0
    ours = load_bundle(tmp_path / "out").encoders.state_dict()
    for key, value in right.encoders.state_dict().items():
        assert ours[key].dtype == value.dtype
        assert torch.equal(ours[key], value.half().float() if value.ndim else value)


def assert_same_weights(ours: Any, right: Any) -> None:
    for name in ("generator", "encoders", "extractor"):
        state = getattr(ours, name).state_dict()
        for key, value in getattr(right, name).state_dict().items():
            assert torch.equal(state[key], value), (name, key)


def test_an_older_model_is_replaced(published: Path, tmp_path: Path, stage1_bundle: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in names(stage1_bundle):
        (out / name).write_bytes((stage1_bundle / name).read_bytes())
    assert run("convert", published, out) == 0
    assert load_bundle(out).data["source"] == "published checkpoints"
    assert names(tmp_path) == ["out", "published"]


def test_a_converted_model_is_used_as_any_other(
    published: Path, tiny_dataset: Dataset, tmp_path: Path, capsys: Capture
) -> None:
    out, photo = tmp_path / "out", tmp_path / "photo.png"
    assert run("convert", published, out) == 0
    Image.linear_gradient("L").save(photo)
    factors = ("background", "pose", "shape", "texture")
    files = [part for name in factors for part in (f"--{name}", photo)]
    for mode in ("code", "feature"):
        picture = tmp_path / f"{mode}.png"
        assert run("mix", *files, "--mode", mode, "--model", out, "--out", picture) == 0
        assert Image.open(picture).size == (32, 32)
    sheet = ("--columns", 2, "--out", tmp_path / "sheet.png")
    assert run("sheet", out, tiny_dataset.path, *sheet) == 0
    description = json.loads((out / "bundle.json").read_text())
    # Networks that judge, in a moment.
    description["config"]["evaluation"] |= {"classifier_steps": 2, "localiser_steps": 2}
    (out / "bundle.json").write_text(json.dumps(description))
    capsys.readouterr()
    assert run("evaluate", out, tiny_dataset.path, "--samples", 8, "--json") == 0
    assert "mask_contrast" in json.loads(capsys.readouterr().out)["figures"]


# What is refused: files


def test_a_folder_that_is_not_there(published: Path, tmp_path: Path, refused: Refused) -> None:
    for folder in (tmp_path / "nowhere", published / "G.pth"):
        line = refused("convert", folder, tmp_path / "out")
        assert f"{folder}: no such folder: name the one that holds G.pth and E.pth" in line
    assert names(tmp_path) == ["published"]


@pytest.mark.parametrize("name", ["G.pth", "E.pth"])
def test_a_file_that_is_not_there(name: str, published: Path, refuse: Callable[[], str]) -> None:
    (published / name).unlink()
    assert f"{published / name}: no such file" in refuse()


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("nowhere")])
def test_an_extractor_that_is_no_file(
    make: Callable[[Path], None], published: Path, refuse: Callable[[], str]
) -> None:
    (published / "EX.pth").unlink()
    make(published / "EX.pth")
    assert "EX.pth: no such file" in refuse()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello world",
        b"<!DOCTYPE html><html><title>Virus scan warning</title></html>",
        b"PK\x03\x04 and no more",
        pickle.dumps({"weights": [1, 2]}),
        None,
    ],
    ids=["empty", "text", "page", "zip", "pickle", "half"],
)
@pytest.mark.parametrize("name", FILES)
def test_files_that_torch_did_not_write(
    content: bytes | None, name: str, published: Path, refuse: Callable[[], str]
) -> None:
    path = published / name
    half = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(half if content is None else content)
    line = refuse()
    assert f"{path}: not a file of weights that torch.save wrote, or damaged" in line
    assert "weights_only" not in line


class _Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_objects_are_never_unpickled(
    zipped: bool, published: Path, tmp_path: Path, refuse: Callable[[], str]
) -> None:
    def replace(held: object) -> None:
        torch.save(held, published / "G.pth", _use_new_zipfile_serialization=zipped)

    replace(nn.Linear(2, 2))
    line = refuse()
    assert "G.pth: holds an object (torch.nn.modules.linear.Linear) that is not opened" in line
    assert "it must be a state dict" in line
    replace({"module.fc": _Trap(tmp_path / "sprung")})
    assert ".mkdir) that is not opened" in refuse()
    assert names(tmp_path) == ["published"]


@pytest.mark.parametrize(
    ("held", "named"),
    [
        ([torch.ones(2)], "holds a value of type list"),
        (torch.ones(2), "holds a value of type Tensor"),
        ({}, "holds an empty dictionary"),
        (
            {"state_dict": {"a": torch.ones(2)}, "epoch": 3},
            "holds a value of type dict under 'state_dict'",
        ),
        ({"a": torch.ones(2), "epoch": 3}, "holds a value of type int under 'epoch'"),
        ({1: torch.ones(2)}, "holds a value of type Tensor under 1"),
        ({"a": torch.eye(2).to_sparse()}, "a holds no plain values"),
        ({"a": torch.empty(2, device="meta")}, "a holds no plain values"),
    ],
)
def test_what_is_no_state_dict(
    held: object, named: str, published: Path, refuse: Callable[[], str]
) -> None:
    torch.save(held, published / "E.pth")
    assert f"{published / 'E.pth'}: {named}" in refuse()


# What is refused: weights


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("G.pth", "background_stage.fc.0.weight"),
        ("G.pth", "parent_stage.fc.1.running_mean"),
        ("G.pth", "background_stage.upsample3.1.weight"),
        ("G.pth", "parent_stage.residual.2.block.4.num_batches_tracked"),
        ("G.pth", "child_stage.jointConv.0.weight"),
        ("G.pth", "child_mask.img.0.weight"),
        ("E.pth", "model_z.0.0.weight"),
        ("E.pth", "model_z.0.2.weight"),
        ("E.pth", "model_p.3.weight"),
        ("E.pth", "model_c.3.bias"),
        ("EX.pth", "first.0.0.weight"),
        ("EX.pth", "down1.0.weight"),
        ("EX.pth", "up4.1.running_var"),
        ("EX.pth", "last.0.block.0.weight"),
    ],
)
def test_a_missing_key(name: str, key: str, published: Path, refuse: Callable[[], str]) -> None:
    change(published / name, lambda state: state.__delitem__(f"module.{key}"))
    assert f"{published / name}: misses the key {key!r}: it must hold" in refuse()


def test_all_missing_and_unknown_keys_are_counted(
    published: Path, refuse: Callable[[], str]
) -> None:
    def rename(state: State) -> None:
        for i in (0, 1, 2):
            state[f"module.child_stage.more{i}"] = state.pop(
                f"module.parent_stage.residual.{i}.block.0.weight"
            )

    change(published / "G.pth", rename)
    assert (
        "misses the key 'parent_stage.residual.0.block.0.weight' and 2 more, "
        "has beyond its network the key 'child_stage.more0' and 2 more: it must hold"
    ) in refuse()


@pytest.mark.parametrize("name", FILES)
def test_an_unknown_key(name: str, published: Path, refuse: Callable[[], str]) -> None:
    change(published / name, lambda state: state.update({"module.extra.weight": torch.ones(2)}))
    assert f"{name}: has beyond its network the key 'extra.weight': it must hold" in refuse()


def test_a_prefix_on_some_keys_alone(published: Path, refuse: Callable[[], str]) -> None:
    change(published / "G.pth", lambda state: state.update(extra=torch.ones(2)))
    assert "G.pth: misses the key 'background_stage.fc.0.weight'" in refuse()


@pytest.mark.parametrize(
    ("name", "key", "shape", "named"),
    [
        ("G.pth", "parent_stage.upsample2.1.weight", (8, 8, 3, 3), "8×8×3×3: it must be 32×32×3×3"),
        ("G.pth", "parent_stage.fc.0.weight", (2048, 9), "2048×9: it must be 2048×7"),
        ("G.pth", "child_image.img.0.weight", (3,), "3: it must be 3×2×3×3"),
        ("G.pth", "background_stage.fc.0.weight", (), "a single number: it must have 2 dimensions"),
        ("G.pth", "parent_mask.img.0.weight", (0, 2, 3, 3), "0×2×3×3: it must be 1×2×3×3"),
        ("E.pth", "model_c.3.weight", (5, 32, 4, 4), "5×32×4×4: it must be 4×32×4×4"),
        ("E.pth", "model_z.0.3.num_batches_tracked", (1,), "1: it must be a single number"),
        ("E.pth", "model_p.3.weight", (2,), "2: it must have 4 dimensions"),
        ("EX.pth", "up2.0.weight", (16, 32, 4, 4), "16×32×4×4: it must be"),
        ("EX.pth", "first.0.0.weight", (4, 3, 3), "4×3×3: it must have 4 dimensions"),
    ],
)
def test_a_wrong_shape(
    name: str,
    key: str,
    shape: tuple[int, ...],
    named: str,
    published: Path,
    refuse: Callable[[], str],
) -> None:
    change(published / name, lambda state: state.update({f"module.{key}": torch.ones(shape)}))
    assert f"{published / name}: {key} is {named}" in refuse()


@pytest.mark.parametrize(
    ("name", "sizes", "named"),
    [
        ("E.pth", SMALL._replace(supers=4), "super_categories is 4, but 2 in"),
        ("E.pth", SMALL._replace(fine=6), "fine_categories is 6, but 4 in"),
        ("E.pth", SMALL._replace(noise=7), "noise_dim is 7, but 5 in"),
        ("E.pth", SMALL._replace(side=128), "image_size is 128, but 32 in"),
        ("EX.pth", SMALL._replace(side=64), "image_size is 64, but 32 in"),
        ("EX.pth", SMALL._replace(generator=16), "feature_channels is 4, but 2 in"),
    ],
)
def test_files_of_different_models(
    name: str, sizes: Sizes, named: str, published: Path, refuse: Callable[[], str]
) -> None:
    torch.save(weights(sizes, name.removesuffix(".pth")), published / name)
    g = published / "G.pth"
    assert f"{published / name}: {named} {g}: the files must be of one model" in refuse()


@pytest.mark.parametrize(
    ("sizes", "named"),
    [
        (SMALL._replace(fine=5), "G.pth: model.fine_categories is 5: it must be a multiple of"),
        (SMALL._replace(encoder=6), "E.pth: model.encoder_width is 6: it must be a positive"),
    ],
)
def test_sizes_that_no_model_has(
    sizes: Sizes, named: str, published: Path, refuse: Callable[[], str]
) -> None:
    for network in ("G", "E"):
        torch.save(weights(sizes, network), published / f"{network}.pth")
    assert named in refuse()


@pytest.mark.parametrize(
    ("name", "held", "named"),
    [
        ("G.pth", "E", "holds encoders (model_z.0.0.weight): it must hold a generator"),
        ("E.pth", "G", "holds a generator (background_stage.fc.0.weight): it must hold encoders"),
        ("E.pth", "EX", "holds a shape extractor (down1.0.weight): it must hold encoders"),
        ("EX.pth", "E", "holds encoders (model_z.0.0.weight): it must hold a shape extractor"),
    ],
)
def test_files_under_each_other_s_names(
    name: str,
    held: str,
    named: str,
    published: Path,
    states: dict[str, State],
    refuse: Callable[[], str],
) -> None:
    torch.save(states[held], published / name)
    assert f"{published / name}: {named}" in refuse()


@pytest.mark.parametrize(
    ("key", "named"),
    [
        ("encode_img.0.weight", "a discriminator"),
        ("encode_mask.0.weight", "a discriminator"),
        ("BD_z.image_layer.0.model.0.weight", "pair discriminators"),
    ],
)
@pytest.mark.parametrize("name", FILES)
def test_discriminators(
    name: str, key: str, named: str, published: Path, refuse: Callable[[], str]
) -> None:
    torch.save({f"module.{key}": torch.ones(2)}, published / name)
    assert f"{published / name}: holds {named} ({key}): it must hold" in refuse()


@pytest.mark.parametrize(
    ("name", "key", "value", "named"),
    [
        ("G.pth", "parent_mask.img.0.weight", float("nan"), "1 of 18 values that are not finite"),
        ("E.pth", "model_b.1.1.running_var", float("inf"), "1 of 32 values that are not finite"),
        ("EX.pth", "up1.0.bias", 1e300, "1 of 16 values that are not finite"),
    ],
)
def test_weights_that_are_not_finite(
    name: str, key: str, value: float, named: str, published: Path, refuse: Callable[[], str]
) -> None:
    def spoil(state: State) -> None:
        weights: Tensor = state[f"module.{key}"].double()
        weights.view(-1)[-1] = value
        state[f"module.{key}"] = weights

    change(published / name, spoil)
    assert f"{published / name}: {key} has {named}" in refuse()


@pytest.mark.parametrize(
    ("key", "kind", "named"),
    [
        ("up1.0.bias", torch.int64, "is of torch.int64: it must be of torch.float32"),
        ("up1.0.bias", torch.complex64, "is of torch.complex64: it must be of torch.float32"),
        ("up1.1.num_batches_tracked", torch.complex64, "is of torch.complex64: it must be of"),
        ("up1.1.num_batches_tracked", torch.half, "is of torch.float16: it must be of torch.int64"),
    ],
)
def test_a_wrong_type(
    key: str, kind: torch.dtype, named: str, published: Path, refuse: Callable[[], str]
) -> None:
    change(
        published / "EX.pth",
        lambda state: state.update({f"module.{key}": state[f"module.{key}"].to(kind)}),
    )
    assert f"EX.pth: {key} {named}" in refuse()


# What is refused: the place to write to


def test_places_that_are_not_written_to(published: Path, tmp_path: Path, refused: Refused) -> None:
    taken, file = tmp_path / "taken", tmp_path / "file"
    taken.mkdir()
    (taken / "bundle.json").touch()
    (taken / "letters.txt").touch()
    file.touch()
    before = sorted(tmp_path.rglob("*"))
    for out, named in (
        (file, f"{file}: is not a folder"),
        (file / "below" / "out", f"{file}: is not a folder"),
        (taken, f"{taken}: exists and is no model: it holds 'letters.txt'"),
        (published, f"{published}: exists and is no model: it holds 'E.pth'"),
    ):
        for options in ((), ("--dry-run",)):
            assert named in refused("convert", published, out, *options)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_empty_folder_is_a_place(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert run("convert", published, ".") == 0
    assert load_bundle(tmp_path / "empty").stages == (1, 2)
