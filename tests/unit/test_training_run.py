import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from equality import same
from PIL import Image
from torch import distributed as dist
from torch import multiprocessing

from mixnmatch.bundle import load_bundle
from mixnmatch.config import RunConfig
from mixnmatch.data.batches import Batch
from mixnmatch.data.factors import FactorSpec, draw_factor_dataset
from mixnmatch.data.store import Dataset, open_dataset, write_dataset
from mixnmatch.errors import DataError, InputError, ModelError, RunError, Stopped
from mixnmatch.metrics.evaluate import evaluate, metric_names
from mixnmatch.metrics.measure import Subject
from mixnmatch.recorder import FolderRecorder
from mixnmatch.settings import override
from mixnmatch.training.checkpoints import FolderCheckpoints, load_state
from mixnmatch.training.optim import average_gradients
from mixnmatch.training.run import Run, check, train
from mixnmatch.training.stage1 import CodeStage


class StoppedError(Exception):
    pass


class Notes:
    """A recorder that remembers, and stops the run when the losses of a step reach it."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at = stop_at
        self.losses: dict[int, dict[str, float]] = {}
        self.figures: dict[int, dict[str, float]] = {}
        self.pictures: list[tuple[str, int]] = []
        self.artifacts: list[tuple[str, str]] = []

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        training = next(iter(values)).startswith("stage")
        if training and step == self.stop_at:
            raise StoppedError
        (self.losses if training else self.figures).setdefault(step, {}).update(values)

    def picture(self, name: str, image: Image.Image, step: int) -> None:
        self.pictures.append((name, step))

    def artifact(self, path: Path, folder: str = "") -> None:
        self.artifacts.append((path.name, folder))


@pytest.fixture(scope="module")
def config(tiny: RunConfig) -> RunConfig:
    return replace(tiny, log_every_steps=1)


MakeRun = Callable[..., Run]


@pytest.fixture
def make_run(config: RunConfig, tiny_dataset: Dataset, tmp_path: Path) -> MakeRun:
    def make(folder: str = "run", **changes: Any) -> Run:
        out = tmp_path / folder
        begun = Run(
            config=config,
            dataset=tiny_dataset,
            out=out,
            recorder=Notes(),
            checkpoints=FolderCheckpoints(out / "checkpoints"),
            progress=False,
        )
        return replace(begun, **changes)

    return make


@pytest.fixture(scope="module")
def undisturbed(
    config: RunConfig, tiny_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """Both stages in one go, with files."""
    out = tmp_path_factory.mktemp("undisturbed")
    run = Run(
        config=config,
        dataset=tiny_dataset,
        out=out,
        recorder=FolderRecorder(out),
        checkpoints=FolderCheckpoints(out / "checkpoints"),
        progress=False,
    )
    train(run)
    return run


def final(run: Run, stage: int) -> dict[str, Any]:
    return load_state(run.out / f"stage{stage}.pt")


def figures(run: Run) -> dict[str, float]:
    metrics = dict(load_bundle(run.out / "bundle").metrics)
    assert metrics.pop("evaluation/seconds") > 0
    assert 0 < metrics.pop("evaluation/time_share") <= 1
    return metrics


def test_what_a_run_leaves(undisturbed: Run) -> None:
    out = undisturbed.out
    assert [f.name for f in FolderCheckpoints(out / "checkpoints").files()] == [
        "stage2-step00000002.pt",
        "stage2-step00000004.pt",
    ]
    assert sorted(path.name for path in out.iterdir()) == [
        "bundle",
        "checkpoints",
        "evaluation-protocol.json",
        "metrics.jsonl",
        "samples",
        "stage1.pt",
        "stage2.pt",
    ]
    assert sorted(path.name for path in (out / "samples").iterdir()) == [
        "samples-0000000.png",
        "samples-0000004.png",
        "samples-0000008.png",
    ]
    with Image.open(out / "samples" / "samples-0000008.png") as sheet:
        assert sheet.width > 300
        assert sheet.getextrema() != ((255, 255),) * 3
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = [row for row in rows if "stage1/step_seconds" in row["values"]]
    assert [row["step"] for row in losses] == [1, 2, 3, 4]
    assert losses[-1]["values"]["stage1/images"] == 16
    assert not any("non_finite" in row for row in rows)
    measured = [row for row in rows if "disentanglement_accuracy" in row["values"]]
    assert [row["step"] for row in measured] == [0, 4, 8]
    assert "watch/mask_contrast" in {name for row in rows for name in row["values"]}
    names = metric_names(undisturbed.dataset, undisturbed.config.evaluation)
    figures = {
        name for name in measured[-1]["values"] if not name.startswith(("chance/", "low/", "high/"))
    }
    assert figures == names | {"evaluation/seconds", "evaluation/time_share"}
    assert 0 < measured[-1]["values"]["evaluation/time_share"] <= 1


def test_the_figures_are_those_of_the_bundle_in_eval_mode(undisturbed: Run) -> None:
    bundle = load_bundle(undisturbed.out / "bundle")
    config = undisturbed.config
    subject = Subject(
        bundle=bundle, dataset=undisturbed.dataset, config=config.evaluation, seed=config.seed
    )
    assert evaluate(subject).metrics == figures(undisturbed)
    assert bundle.stages == (1, 2)
    assert bundle.data["fingerprint"] == undisturbed.dataset.info.fingerprint


def test_evaluations_in_training_change_nothing_and_say_how_many_samples(
    make_run: MakeRun, config: RunConfig, undisturbed: Run
) -> None:
    often = replace(config.evaluation, every_steps=2, every_samples=9)
    run = make_run(config=replace(config, evaluation=often))
    train(run)
    assert same(final(run, 1)["modules"], final(undisturbed, 1)["modules"])
    assert isinstance(run.recorder, Notes)
    measured = run.recorder.figures
    assert [step for step in measured if "training/leak" in measured[step]] == [2, 4]
    assert measured[2]["training/evaluation/samples"] == 9
    assert measured[2]["training/frechet_factors_9"] > 0
    ends = [step for step in measured if "frechet_factors_8" in measured[step]]
    assert ends == [0, 4, 8]


def test_evaluation_leaves_the_networks_alone(undisturbed: Run) -> None:
    # Saved before the evaluation, and as the bundle after it.
    encoders = final(undisturbed, 1)["modules"]["encoders"]
    assert same(encoders, final(undisturbed, 2)["modules"]["encoders"])
    bundle = load_bundle(undisturbed.out / "bundle")
    assert same(dict(bundle.encoders.state_dict()), dict(encoders))
    assert int(encoders["z.0.3.num_batches_tracked"]) == 2 * 4  # real and painted, each step


@pytest.mark.parametrize("stop_at", [1, 4, 5, 7])
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(
    stop_at: int, make_run: MakeRun, undisturbed: Run
) -> None:
    first = Notes(stop_at)
    with pytest.raises(StoppedError):
        train(make_run(recorder=first))
    assert not (make_run().out / "stage2.pt").exists()
    second = Notes()
    run = make_run(recorder=second)
    train(run)
    begun = {1: 1, 4: 3, 5: 5, 7: 7}[stop_at]  # after the last even step
    assert min(second.losses) == begun
    assert max(second.losses) == 8
    for stage in (1, 2):
        assert same(final(run, stage), final(undisturbed, stage))
    assert figures(run) == figures(undisturbed)


def test_checkpoints_that_fail_stop_the_run_and_it_goes_on(
    make_run: MakeRun, undisturbed: Run
) -> None:
    class Failing(FolderCheckpoints):
        def save(self, state: Any, metrics: dict[str, float]) -> None:
            if state["steps_done"] == 4:
                raise OSError("no space")
            super().save(state, metrics)

    folder = make_run().out / "checkpoints"
    with pytest.raises(OSError, match="no space"):
        train(make_run(checkpoints=Failing(folder)), (1,))
    assert not (make_run().out / "bundle").exists()
    run = make_run()
    train(run, (1,))
    assert same(final(run, 1), final(undisturbed, 1))


def test_stages_one_after_the_other_are_both_at_once(make_run: MakeRun, undisturbed: Run) -> None:
    assert "feature_disentanglement_accuracy" not in train(make_run(), (1,))
    assert load_bundle(make_run().out / "bundle").stages == (1,)
    notes = Notes()
    assert "feature_disentanglement_accuracy" in train(make_run(recorder=notes), (2,))
    assert min(notes.losses) == 5
    assert notes.artifacts == [
        ("stage2.pt", "checkpoints"),
        ("evaluation-protocol.json", ""),
        ("bundle", ""),
    ]
    assert same(final(make_run(), 2), final(undisturbed, 2))


def test_a_finished_run_can_be_made_longer(make_run: MakeRun, config: RunConfig) -> None:
    longer = make_run("longer", config=override(config, {"stage1.steps": 6}))
    train(make_run(), (1,))
    whole = make_run("whole", config=longer.config)
    train(whole, (1,))
    for run in (
        replace(longer, begin_from=make_run().out / "stage1.pt"),
        make_run(config=longer.config),
    ):
        notes = Notes()
        train(replace(run, recorder=notes), (1,))
        assert sorted(notes.losses) == [5, 6]
        assert same(final(run, 1)["modules"], final(whole, 1)["modules"])


def test_own_checkpoints_come_before_another_runs_state(make_run: MakeRun) -> None:
    train(make_run(), (1,))
    notes = Notes()
    missing = make_run().out / "nowhere.pt"
    train(make_run(recorder=notes, begin_from=missing), (1,))
    assert notes.losses == {}
    with pytest.raises(ModelError, match=r"nowhere\.pt"):
        train(make_run("other", begin_from=missing), (1,))


def test_another_runs_checkpoint_is_refused(make_run: MakeRun, config: RunConfig) -> None:
    train(make_run(), (1,))
    with pytest.raises(InputError, match="the run to resume has seed = 0, not 1"):
        train(make_run(config=override(config, {"seed": 1})))


def test_stage_2_needs_a_finished_stage_1(make_run: MakeRun, config: RunConfig) -> None:
    run = make_run()
    with pytest.raises(InputError, match=r"bundle: stage 2 needs the model of stage 1"):
        train(run, (2,))
    # StoppedError before its first checkpoint: the first evaluation has left no model to mistake.
    with pytest.raises(StoppedError):
        train(replace(run, recorder=Notes(1)), (1,))
    with pytest.raises(InputError, match=r"bundle: stage 2 needs the model of stage 1"):
        train(run, (2,))
    train(run, (1,))
    other = override(config, {"model.noise_dim": 9})
    elsewhere = FolderCheckpoints(run.out / "elsewhere")
    with pytest.raises(InputError, match="noise_dim=5"):
        train(replace(run, config=other, checkpoints=elsewhere), (2,))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_not_saved(
    value: float, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = CodeStage.step

    def broken(self: CodeStage, batch: Batch, *, watch: bool = False) -> Any:
        losses = step(self, batch, watch=watch)
        if self.steps_done == 3:
            losses["generator/pair"] = torch.tensor(value)
        return losses

    monkeypatch.setattr(CodeStage, "step", broken)
    run = make_run()
    with pytest.raises(RunError, match=rf"stage 1, step 3: generator/pair = {value}; ") as caught:
        train(run)
    assert caught.value.exit_status == 1
    assert "\n" not in str(caught.value)
    state = run.checkpoints.load()
    assert state is not None
    assert state["steps_done"] == 2
    assert not (run.out / "bundle").exists()


def test_weights_that_are_no_numbers_are_not_saved(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses are of the weights before the update: one that spoils them looks well itself."""
    loss = CodeStage._generator_loss

    def spoilt(self: CodeStage, *arguments: Any) -> Any:
        if self.steps_done == 1:  # the step that a checkpoint follows
            weight = self.generator.background_image[0].weight
            weight.register_hook(lambda gradient: gradient * float("nan"))
        return loss(self, *arguments)

    monkeypatch.setattr(CodeStage, "_generator_loss", spoilt)
    run = make_run()
    with pytest.raises(RunError, match=r"stage 1, step 2: generator/gradient_norm = nan; "):
        train(run)
    assert run.checkpoints.load() is None


def test_what_would_fail_later_is_refused_first(
    config: RunConfig, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    check(config, tiny_dataset)
    large = override(config, {"stage2.batch_size": 100})
    with pytest.raises(DataError, match="too few for batches of 100"):
        check(large, tiny_dataset)
    check(large, tiny_dataset, (1,))
    with pytest.raises(DataError, match="too few for batches of 4 on 20 worker"):
        check(config, tiny_dataset, world_size=20)
    weights = {"evaluation.inception_weights": str(tmp_path / "none.pth")}
    with pytest.raises(ModelError, match=r"none\.pth: no such file"):
        check(override(config, weights), tiny_dataset)
    spec = FactorSpec(count=12, side=40)
    records = [replace(record, split="train") for record in draw_factor_dataset(spec)]
    write_dataset(records, tmp_path / "set", kind="factors", factors=spec.cardinalities)
    with pytest.raises(DataError, match="no pictures of split 'test'"):
        check(config, open_dataset(tmp_path / "set"))


def _worker(rank: int, config: RunConfig, batches: list[list[Batch]], folder: str) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    mine, none = torch.zeros(3, requires_grad=True), torch.zeros(2, requires_grad=True)
    scalar = torch.zeros((), requires_grad=True)
    mine.grad, scalar.grad = torch.tensor([1.0, 2.0, 3.0]) * 3**rank, torch.tensor(float(rank))
    average_gradients([mine, none, scalar])
    assert none.grad is None
    # The second worker makes other first weights, and must take those of the first.
    own = override(config, {"seed": config.seed + rank})
    stage = CodeStage(own, rank=rank, world_size=2)
    stage.random.manual_seed(config.seed)  # workers draw alike
    for batch in batches[rank]:
        stage.step(batch)
    torch.save([mine.grad, scalar.grad, stage.state_dict()], f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_workers_stay_together(
    tiny: RunConfig, make_batch: Callable[..., Batch], tmp_path: Path
) -> None:
    batches = [[make_batch(10 * rank + step) for step in range(3)] for rank in range(2)]
    multiprocessing.spawn(_worker, (tiny, batches, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    for vector, scalar, _ in (first, second):
        assert torch.equal(vector, torch.tensor([2.0, 4.0, 6.0]))
        assert torch.equal(scalar, torch.tensor(0.5))
    for name, module in CodeStage(tiny).modules().items():
        left, right = first[2]["modules"][name], second[2]["modules"][name]
        for key, begun in module.named_parameters():
            assert torch.equal(left[key], right[key]), f"{name} {key}"
            assert key.endswith("bias") or not torch.equal(left[key], begun), f"{name} {key}"
    for name, state in first[2]["optimisers"].items():
        assert same(state, second[2]["optimisers"][name])
    assert torch.equal(first[2]["random"], second[2]["random"])


def test_one_worker_alone_averages_nothing() -> None:
    parameter = torch.zeros(2, requires_grad=True)
    parameter.grad = torch.ones(2)
    average_gradients([parameter])
    assert torch.equal(parameter.grad, torch.ones(2))


class Impatient:
    """Ends a run with a certain step."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def stop(self) -> str | None:
        self.left -= 1
        return "enough" if self.left == 0 else None


@pytest.mark.parametrize("steps", [1, 3, 4, 5])
def test_a_run_that_is_asked_to_end_saves_the_step_it_was_at(
    steps: int, make_run: MakeRun, undisturbed: Run
) -> None:
    with pytest.raises(Stopped, match="enough: stopped at step"):
        train(make_run(supervisor=Impatient(steps)))
    second = Notes()
    run = make_run(recorder=second)
    train(run)
    assert min(second.losses) == steps + 1
    for stage in (1, 2):
        assert same(final(run, stage), final(undisturbed, stage))


def test_states_come_with_the_figures_of_evaluations(
    make_run: MakeRun, config: RunConfig, tmp_path: Path
) -> None:
    class Kept(FolderCheckpoints):
        def save(self, state: Any, metrics: dict[str, float]) -> None:
            super().save(state, metrics)
            heard[metrics["step"]] = metrics

    heard: dict[float, dict[str, float]] = {}
    often = replace(config.evaluation, every_steps=3, every_samples=9)
    run = make_run(
        config=replace(config, evaluation=often, stage1=replace(config.stage1, steps=6)),
        checkpoints=Kept(tmp_path / "kept"),
    )
    train(run, (1,))
    assert list(heard) == [2, 3, 4, 6]
    assert [figures.get("images") for figures in heard.values()] == [None, 12, None, 24]
    assert heard[3]["training/evaluation/samples"] == heard[6]["training/evaluation/samples"] == 9
