import contextlib
import json
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest
import torch

from mixnmatch.config import RunConfig
from mixnmatch.data.places import Place
from mixnmatch.data.store import Dataset
from mixnmatch.errors import ConfigError, InputError, ModelError, RunError
from mixnmatch.metrics.figures import Figure
from mixnmatch.recorder import FolderRecorder
from mixnmatch.settings import override, to_dict
from mixnmatch.training.checkpoints import (
    FolderCheckpoints,
    KeptStates,
    check_same_run,
    folder_checkpoints,
    load_state,
    save_state,
    tensor_bytes,
)
from mixnmatch.training.run import Run, check, train
from mixnmatch.training.size import kept_line, state_bytes
from mixnmatch.training.stage1 import CodeStage
from mixnmatch.training.stored import StoredCheckpoints


def state_of(step: int = 3, stage: int = 1) -> dict[str, Any]:
    return {
        "stage": stage,
        "config": to_dict(RunConfig()),
        "steps_done": step,
        "random": torch.Generator().get_state(),
        "modules": {"net": {"weight": torch.arange(500.0)}},
        "optimisers": {},
    }


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refused(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_state(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: not a checkpoint of ours")
    assert "\n" not in message
    return message


def test_a_state_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "state.pt"
    save_state(state_of(), path)
    state = load_state(path)
    assert torch.equal(state["modules"]["net"]["weight"], torch.arange(500.0))
    assert (state["stage"], state["steps_done"]) == (1, 3)
    assert names(path.parent) == ["state.pt"]


def test_a_failed_save_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.pt"
    save_state(state_of(step=1), path)

    def full(state: object, file: IO[bytes]) -> None:
        file.write(b"half a state")
        try:
            raise OSError(28, "No space left on device")
        finally:
            raise RuntimeError("unexpected pos 576 vs 534")  # what torch makes of it

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(
        RunError, match=r"state\.pt: the disk is full: .* needs [\d,]+ bytes, [\d,]+"
    ):
        save_state(state_of(step=2), path)
    assert names(tmp_path) == ["state.pt"]
    assert load_state(path)["steps_done"] == 1


def test_a_folder_keeps_the_last_two(tmp_path: Path) -> None:
    checkpoints = FolderCheckpoints(tmp_path / "checkpoints")
    assert checkpoints.load() is None
    assert not (tmp_path / "checkpoints").exists()
    for step in (500, 1000, 1500):
        checkpoints.save(state_of(step), {})
    assert names(checkpoints.folder) == ["stage1-step00001000.pt", "stage1-step00001500.pt"]
    checkpoints.save(None, {})  # what the other workers do
    state = checkpoints.load()
    assert state is not None
    assert state["steps_done"] == 1500
    # Stage 2 counts its own steps, and comes after all of stage 1.
    checkpoints.save(state_of(200, stage=2), {})
    state = checkpoints.load()
    assert state is not None
    assert (state["stage"], state["steps_done"]) == (2, 200)
    assert names(checkpoints.folder) == ["stage1-step00001500.pt", "stage2-step00000200.pt"]


def test_what_a_killed_save_left_is_no_checkpoint(tmp_path: Path) -> None:
    checkpoints = FolderCheckpoints(tmp_path)
    checkpoints.save(state_of(1), {})
    (tmp_path / ".stage1-step00000002.pt.77.partial").write_bytes(b"half")
    assert [path.name for path in checkpoints.files()] == ["stage1-step00000001.pt"]


@pytest.mark.parametrize("kept", [0, 1, 2, 30, 200, 1000, -1, -30])
def test_truncated_files_are_refused(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "state.pt"
    save_state(state_of(), path)
    path.write_bytes(path.read_bytes()[:kept])
    refused(path)


@pytest.mark.parametrize("place", range(0, 3000, 97))
def test_a_flipped_byte_is_refused_or_harmless(tmp_path: Path, place: int) -> None:
    path = tmp_path / "state.pt"
    save_state(state_of(), path)
    data = bytearray(path.read_bytes())
    data[place] ^= 0xFF
    path.write_bytes(data)
    with contextlib.suppress(ModelError):
        load_state(path)


@pytest.mark.parametrize(
    "content",
    [b"hello", b"\x80\x02.", b"\x80\x04N.", b"{}", b"PK\x03\x04", b"\x00" * 100, bytes(range(256))],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.pt"
    path.write_bytes(content)
    refused(path)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "nowhere.pt")
    refused(tmp_path)


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("form", ["pickle", "torch", "legacy"])
def test_a_file_that_would_run_something_is_refused_unrun(tmp_path: Path, form: str) -> None:
    path, made = tmp_path / "state.pt", tmp_path / "made"
    content = {**state_of(), "modules": Bomb(made)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "torch")
    refused(path)
    assert not made.exists()


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(3), {}, {"stage": 1, "steps_done": 2}])
def test_something_else_that_torch_saved_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "state.pt")
    refused(tmp_path / "state.pt")


def test_a_state_that_lacks_its_networks_is_refused(tmp_path: Path) -> None:
    state = state_of()
    del state["modules"]
    torch.save(state, tmp_path / "state.pt")
    refused(tmp_path / "state.pt")


def test_only_schedule_and_records_may_change() -> None:
    state = state_of()
    check_same_run(state, RunConfig())
    free = {
        "stage1.steps": 9,
        "stage1.lr": 1e-3,
        "stage2.steps": 9,
        "stage2.lr": 1e-3,
        "stage2.discriminator_lr": 1e-3,
        "evaluation.samples": 9,
        "log_every_steps": 9,
        "checkpoint_every_steps": 9,
        "sample_every_steps": 9,
    }
    check_same_run(state, override(RunConfig(), free))
    for key, value in {"seed": 1, "stage1.beta1": 0.9, "model.noise_dim": 9}.items():
        with pytest.raises(InputError) as caught:
            check_same_run(state, override(RunConfig(), {key: value}))
        message = str(caught.value)
        assert f"{key} = " in message
        assert f"not {value}" in message
        assert "\n" not in message


def test_settings_that_the_state_does_not_know_have_their_defaults() -> None:
    state = state_of()
    del state["config"]["weights"]["encode_z"]
    check_same_run(state, RunConfig())
    weights = replace(RunConfig().weights, encode_z=1.0)
    with pytest.raises(InputError, match=r"weights\.encode_z = 5\.0, not 1\.0"):
        check_same_run(state, replace(RunConfig(), weights=weights))


def figure(value: float, better: str | None = "lower") -> Figure:
    return Figure(value=value, better=better)


@pytest.fixture(params=["folder", "memory", "file"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> KeptStates:
    """The same contract wherever the states are."""
    if request.param == "folder":
        return FolderCheckpoints(tmp_path / "states")
    if request.param == "memory":
        return StoredCheckpoints(Place(f"memory://{tmp_path.name}/states"))
    return StoredCheckpoints(Place(f"file://{tmp_path}/states"))


def test_the_last_and_the_best_are_kept_anywhere(kept: KeptStates) -> None:
    assert (kept.load(), kept.latest(), kept.best()) == (None, None, None)
    for step, value in [(10, 9.0), (20, 4.0), (30, 5.0), (40, float("nan"))]:
        kept.save_best(state_of(step), "frechet_8", figure(value))
        kept.save(state_of(step), {})
    assert [name for name in kept.names() if name.endswith(".pt")] == [
        "best-stage1-step00000020.pt",
        "stage1-step00000030.pt",
        "stage1-step00000040.pt",
    ]
    best = kept.best()
    assert best == "best-stage1-step00000020.pt"
    assert kept.read(best)["steps_done"] == 20
    state = kept.load()
    assert state is not None
    assert state["steps_done"] == 40
    assert torch.equal(state["modules"]["net"]["weight"], torch.arange(500.0))
    kept.save_best(state_of(50), "frechet_8", figure(1.0))
    assert [name for name in kept.names() if name.startswith("best-")] == [
        "best-stage1-step00000050.pt"
    ]
    kept.save(None, {})  # what the other workers do


def test_more_is_better_of_other_figures(kept: KeptStates) -> None:
    for step, value in [(10, 0.2), (20, 0.4), (30, 0.3)]:
        kept.save_best(state_of(step), "accuracy", figure(value, "higher"))
    assert kept.best() == "best-stage1-step00000020.pt"
    # Values of another figure say nothing about this one.
    kept.save_best(state_of(40), "frechet_8", figure(300.0))
    assert kept.best() == "best-stage1-step00000040.pt"
    with pytest.raises(InputError, match="checkpoint_best is seconds: neither more nor less"):
        kept.save_best(state_of(50), "seconds", figure(1.0, None))


def test_an_object_that_cannot_be_moved_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = StoredCheckpoints(Place(f"file://{tmp_path}/states"))
    kept.save(state_of(1), {})

    def broken(self: Place, path: str, to: str) -> None:
        raise RunError(f"{to}: the storage failed")

    monkeypatch.setattr(Place, "move", broken)
    with pytest.raises(RunError, match="the storage failed"):
        kept.save(state_of(2), {})
    assert names(tmp_path / "states") == ["stage1-step00000001.pt"]


def test_what_killed_saves_left_is_cleared_away(tmp_path: Path) -> None:
    checkpoints = FolderCheckpoints(tmp_path)
    (tmp_path / ".stage1-step00000002.pt.77.partial").write_bytes(b"half")
    checkpoints.save(state_of(3), {})
    assert names(tmp_path) == ["stage1-step00000003.pt"]


def test_the_size_is_known_before(tiny: RunConfig, tmp_path: Path, make_batch: Any) -> None:
    stage = CodeStage(tiny)
    stage.step(make_batch())
    size = tensor_bytes(stage.state_dict())
    assert state_bytes(tiny.model) == pytest.approx(size, rel=0.02)
    save_state(stage.state_dict(), tmp_path / "state.pt")
    assert (tmp_path / "state.pt").stat().st_size == pytest.approx(size, rel=0.1)
    assert "the last 2 kept: at most" in kept_line(tiny)
    watched = override(tiny, {"evaluation.every_steps": 2, "checkpoint_best": "frechet_factors_8"})
    assert "and the best one kept" in kept_line(watched)


def test_settings_of_the_best_state_are_checked(tiny: RunConfig, tiny_dataset: Dataset) -> None:
    with pytest.raises(ConfigError, match=r"none without evaluations in training"):
        override(tiny, {"checkpoint_best": "frechet_factors_8"})
    with pytest.raises(ConfigError, match="checkpoint_keep is 0: it must be at least 1"):
        override(tiny, {"checkpoint_keep": 0})
    every = {"evaluation.every_steps": 2, "evaluation.every_samples": 16}
    check(override(tiny, {**every, "checkpoint_best": "frechet_factors_16"}), tiny_dataset)
    for name in ("frechet_factors_8", "feature_disentanglement_accuracy"):
        with pytest.raises(InputError, match=f"checkpoint_best is {name}: no evaluation in train"):
            check(override(tiny, {**every, "checkpoint_best": name}), tiny_dataset)


def test_a_run_keeps_its_best_state(tiny: RunConfig, tiny_dataset: Dataset, tmp_path: Path) -> None:
    changes = {
        "stage1.steps": 3,
        "evaluation.every_steps": 1,
        "evaluation.every_samples": 8,
        "checkpoint_keep": 1,
        "checkpoint_best": "frechet_factors_8",
    }
    config = override(tiny, changes)
    kept = folder_checkpoints(tmp_path, config)
    recorder = FolderRecorder(tmp_path)
    run = Run(
        config=config, dataset=tiny_dataset, out=tmp_path, recorder=recorder, checkpoints=kept
    )
    train(run, (1,))
    lines = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    seen = {
        line["step"]: line["values"]["training/frechet_factors_8"]
        for line in lines
        if "training/frechet_factors_8" in line["values"]
    }
    best = kept.best()
    assert best is not None
    assert set(seen) == {1, 2, 3}
    assert kept.read(best)["steps_done"] == min(seen, key=lambda step: (seen[step], step))
    assert [path.name for path in kept.files()] == ["stage1-step00000003.pt"]
