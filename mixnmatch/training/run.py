"""A run: stage 1, its evaluation, stage 2, its evaluation, and the model bundle."""

import contextlib
import json
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from tqdm import tqdm

from mixnmatch.bundle import ModelBundle, load_bundle, save_bundle
from mixnmatch.config import EvaluationConfig, RunConfig, Stage1Config, Stage2Config
from mixnmatch.data.batches import TrainingSet
from mixnmatch.data.store import Dataset
from mixnmatch.device import keep_freed_memory
from mixnmatch.errors import DataError, InputError, Stopped
from mixnmatch.files import whole_file
from mixnmatch.metrics.evaluate import Evaluation, applicable, evaluate, metric_names
from mixnmatch.metrics.measure import Subject
from mixnmatch.metrics.protocol import PROTOCOL
from mixnmatch.metrics.weights import find_weights
from mixnmatch.recorder import Recorder
from mixnmatch.training.checkpoints import (
    Checkpoints,
    State,
    check_same_run,
    load_state,
    save_state,
)
from mixnmatch.training.journal import Journal, current_bundle, finite
from mixnmatch.training.stage1 import CodeStage
from mixnmatch.training.stage2 import ShapeStage
from mixnmatch.training.state import TrainingStage
from mixnmatch.training.supervision import Supervisor, Unsupervised

SHOWN = ("child_d/real", "child_d/fake", "generator/pair", "extractor/feature_l1")
"""Losses beside the progress bar."""
BUNDLE = "bundle"


@dataclass(frozen=True, kw_only=True)
class Worker:
    """One of the data-parallel workers of a run."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Where it trains."""
    rank: int = 0
    """Its number; worker 0 records, evaluates and saves."""
    world_size: int = 1
    """Number of workers."""

    @property
    def leads(self) -> bool:
        """Whether this is worker 0."""
        return self.rank == 0


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything that a run needs beside its configuration."""

    config: RunConfig
    """What to train."""
    dataset: Dataset
    """On which pictures."""
    out: Path
    """Folder of the model bundle."""
    recorder: Recorder
    """Where figures and pictures go; used by worker 0 alone."""
    checkpoints: Checkpoints
    """Where states are kept."""
    begin_from: Path | None = None
    """State of an earlier run to go on from, where this one has no checkpoint yet."""
    worker: Worker = field(default_factory=Worker)
    """Which worker this is."""
    progress: bool = True
    """Whether worker 0 shows a progress bar, where stderr is a terminal."""
    supervisor: Supervisor = field(default_factory=Unsupervised)
    """May end the run early."""
    clock: "Clock" = field(default_factory=lambda: Clock())
    """Of this process's part of the run."""


class Clock:
    """How much of the time goes into evaluations."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._evaluating = 0.0

    def evaluated(self, seconds: float) -> float:
        """Take note of an evaluation; returns the share of the time that all of them took."""
        self._evaluating += seconds
        return self._evaluating / max(time.monotonic() - self._began, self._evaluating)


def check(
    config: RunConfig,
    dataset: Dataset,
    stages: tuple[int, ...] = (1, 2),
    out: Path | None = None,
    world_size: int = 1,
) -> None:
    """Refuse what would fail only after hours of training.

    Args:
        config: Of the run.
        dataset: Its pictures.
        stages: That it goes through.
        out: Its folder, where stage 2 alone finds the bundle of stage 1.
        world_size: Number of its workers.

    Raises:
        InputError: If the weights of a measure are missing, or the bundle that stage 2 begins with,
            or nothing measures the figure that the best state is kept by.
        DataError: If there are no pictures, or too few for a batch, or none to evaluate.
    """
    applicable(dataset, config.evaluation)
    find_weights(config.evaluation.inception_weights)
    if config.checkpoint_best is not None:
        _check_best(config.checkpoint_best, config.evaluation, dataset)
    if stages == (2,) and out is not None:
        _stage1_bundle(config, out / BUNDLE)
    pictures = TrainingSet(dataset, config.model.image_size, "train")
    for stage, schedule in ((1, config.stage1), (2, config.stage2)):
        if stage in stages:
            pictures.check_batches(schedule.batch_size, world_size)
    if dataset.info.factors and not len(dataset.indices("test")):
        raise DataError(f"{dataset.path}: has no pictures of split 'test' to mix")


def _check_best(name: str, config: EvaluationConfig, dataset: Dataset) -> None:
    names = metric_names(dataset, replace(config, samples=config.every_samples))
    # What stage 2 alone has is not measured within stage 1.
    names = {name for name in names if not name.startswith("feature_")}
    if name not in names:
        raise InputError(
            f"checkpoint_best is {name}: no evaluation in training measures it; they measure "
            f"{', '.join(sorted(name for name in names if '/' not in name))}"
        )


def train(run: Run, stages: tuple[int, ...] = (1, 2)) -> dict[str, float]:
    """Train and evaluate; goes on from the latest checkpoint where there is one.

    Args:
        run: What, on which pictures, and where to.
        stages: (1,), (2,) or both. Stage 2 alone begins with the bundle of stage 1 in ``run.out``.

    Returns:
        The last evaluation's figures (of worker 0; empty on the others).

    Raises:
        InputError: If there is nothing for stage 2 to begin with, or the checkpoint is another
            run's.
        RunError: If a loss is no longer finite.
    """
    if run.worker.device.type == "cpu":
        keep_freed_memory()
    state = run.checkpoints.load()
    fresh = state is None
    if state is None and run.begin_from is not None:
        state = load_state(run.begin_from)
    if state is not None:
        check_same_run(state, run.config, fingerprint=run.dataset.info.fingerprint, stages=stages)
    metrics: dict[str, float] = {}
    stage1: CodeStage | None = None
    if 1 in stages and (state is None or state["stage"] == 1):
        stage1 = CodeStage(
            run.config,
            run.worker.device,
            rank=run.worker.rank,
            world_size=run.worker.world_size,
        )
        if fresh and run.worker.leads:
            # The untrained model's figures: what every later one is compared with.
            _evaluate(run, stage1, 0)
        metrics = _train_stage(run, stage1, run.config.stage1, state)
    if 2 in stages:
        config = run.config
        if stage1 is not None:
            stage2 = ShapeStage.after(stage1)
            state = stage1 = None  # lets go of its networks
        else:
            stage2 = ShapeStage(
                config,
                run.worker.device,
                rank=run.worker.rank,
                world_size=run.worker.world_size,
            )
            if state is None or state["stage"] == 1:
                finished = _stage1_bundle(config, run.out / BUNDLE)
                stage2.begin_with(finished.generator, finished.encoders)
                state = None
        metrics = _train_stage(run, stage2, config.stage2, state)
    return metrics


def _train_stage(
    run: Run, stage: TrainingStage, schedule: Stage1Config | Stage2Config, state: State | None
) -> dict[str, float]:
    if state is not None:
        stage.load_state_dict(state)
    config, worker = run.config, run.worker
    pictures = TrainingSet(run.dataset, config.model.image_size, "train", worker.device)
    batches = pictures.batches(
        schedule.batch_size,
        seed=config.seed + stage.number,
        start_step=stage.steps_done,
        rank=worker.rank,
        world_size=worker.world_size,
    )
    journal = Journal(run.recorder, stage, schedule, run.dataset, worker.world_size)
    bar = tqdm(
        desc=f"stage {stage.number}",
        total=schedule.steps,
        initial=stage.steps_done,
        unit="step",
        # None: only where stderr is a terminal.
        disable=None if run.progress and worker.leads else True,
    )

    def due(every: int, ahead: int = 0) -> bool:
        step = stage.steps_done + ahead
        return step % every == 0 or step == schedule.steps

    if stage.number == 1 and not stage.steps_done and worker.leads:
        # The untrained model's, as of its figures: and viewers open at step 0.
        journal.sample_sheet()
    with bar, contextlib.closing(batches):
        while stage.steps_done < schedule.steps:
            batch = journal.next_batch(batches)
            reason = run.supervisor.stop()
            evaluates = _evaluates_after(run, stage)
            log = due(config.log_every_steps, 1)
            save = due(config.checkpoint_every_steps, 1) or evaluates or reason is not None
            # Losses are of the weights before the step; the norms of its gradients tell whether
            # those after it, which are saved, are numbers as well.
            losses = stage.step(batch, watch=log or save)
            bar.update()
            # Read only when needed: a look at the losses waits for the device.
            values = finite(losses, stage) if log or save else {}
            if log and worker.leads:
                journal.losses(values)
                bar.set_postfix_str(" ".join(f"{k} {values[k]:.2f}" for k in SHOWN if k in values))
            if due(config.sample_every_steps) and worker.leads:
                journal.sample_sheet()
            # Saved with the state, so that whoever takes the one has the other.
            figures = {"stage": float(stage.number), "step": float(journal.step)}
            if evaluates and worker.leads:
                figures |= _watch(run, stage, journal)
            if stage.steps_done == schedule.steps:
                stage.settle()
            if save:
                run.checkpoints.save(_state(run, stage) if worker.leads else None, figures)
            if reason is not None:
                raise Stopped(
                    f"{reason}: stopped at step {stage.steps_done} of stage {stage.number}, which "
                    "is saved; run the same again to go on"
                )
    return _finish_stage(run, stage, journal.step) if worker.leads else {}


def _finish_stage(run: Run, stage: TrainingStage, step: int) -> dict[str, float]:
    state = run.out / f"stage{stage.number}.pt"
    save_state(_state(run, stage), state)
    run.recorder.artifact(state, "checkpoints")
    metrics = _evaluate(run, stage, step)
    # Only now: stage 2 alone takes the bundle that it finds for a finished one.
    save_bundle(replace(current_bundle(stage, run.dataset), metrics=metrics), run.out / BUNDLE)
    run.recorder.artifact(run.out / BUNDLE)
    return metrics


def _state(run: Run, stage: TrainingStage) -> State:
    return {**stage.state_dict(), "data": run.dataset.info.fingerprint}


def _evaluates_after(run: Run, stage: TrainingStage) -> bool:
    """Whether the step to come is followed by an evaluation within stage 1.

    Its end has one beside that of the model: runs are compared by them, at equal numbers of
    pictures seen and of samples.
    """
    every = run.config.evaluation.every_steps
    return stage.number == 1 and every > 0 and (stage.steps_done + 1) % every == 0


def _watch(run: Run, stage: TrainingStage, journal: Journal) -> dict[str, float]:
    """Evaluate in training, on fewer pictures, under names that say so."""
    config = run.config.evaluation
    metrics, evaluation = _measured(run, stage, replace(config, samples=config.every_samples))
    figures = {f"training/{name}": value for name, value in metrics.items()}
    run.recorder.metrics(figures, journal.step)
    if (name := run.config.checkpoint_best) is not None:
        run.checkpoints.save_best(_state(run, stage), name, evaluation.figures[name])
    journal.pause(metrics["evaluation/seconds"])
    return {**figures, "images": float(journal.images)}


def _evaluate(run: Run, stage: TrainingStage, step: int) -> dict[str, float]:
    metrics, evaluation = _measured(run, stage, run.config.evaluation)
    run.recorder.metrics(metrics, step)
    file = run.out / PROTOCOL
    with whole_file(file) as partial:
        partial.write_text(json.dumps(evaluation.protocol, indent=2) + "\n", encoding="utf-8")
    run.recorder.artifact(file)
    return metrics


def _measured(
    run: Run, stage: TrainingStage, config: EvaluationConfig
) -> tuple[dict[str, float], Evaluation]:
    """The numbers to record, and the evaluation that they are from."""
    began = time.monotonic()
    stage.settle()
    with stage.evaluating():
        bundle = current_bundle(stage, run.dataset)
        subject = Subject(bundle=bundle, dataset=run.dataset, config=config, seed=run.config.seed)
        evaluation = evaluate(subject)
    metrics, seconds = evaluation.metrics, time.monotonic() - began
    metrics["evaluation/samples"] = float(config.samples)
    metrics["evaluation/seconds"] = seconds
    metrics["evaluation/time_share"] = run.clock.evaluated(seconds)
    return metrics, evaluation


def _stage1_bundle(config: RunConfig, path: Path) -> ModelBundle:
    if not path.is_dir():
        raise InputError(
            f"{path}: stage 2 needs the model of stage 1 there (train --stage 1 first)"
        )
    bundle = load_bundle(path)
    if bundle.config.model != config.model:
        raise InputError(f"{path} is {bundle.config.model}: the run is for {config.model}")
    return bundle
