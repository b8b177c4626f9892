"""The study of a sweep: what was proposed, what came of it, and what to propose next.

It is Optuna's, in a journal file of the sweep's folder, and survives whoever drives the sweep: see
docs/adr/0019. Trials are known by their numbers in it.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.samplers import BaseSampler, PartialFixedSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FixedTrial, FrozenTrial, Trial, TrialState

from mixnmatch_platform.fresh import ATTEMPTS, fresh_params, seed_of
from mixnmatch_platform.pareto import front
from mixnmatch_platform.space import Constraint, Halving, Objective, SearchSpace

__all__ = ["JOURNAL", "Proposal", "Study", "trial_name"]

JOURNAL = "study.journal"
"""File in the folder of a sweep."""
RANDOM_TRIALS = 10
"""Proposed at random before the sampler has something to go by, as Optuna does; a third of a short
sweep at most."""
REASON, SOURCE = "failed", "warm_start_run"
CONSTRAINTS, FIGURES = "constraints", "figures"
DIRECTIONS = {"min": StudyDirection.MINIMIZE, "max": StudyDirection.MAXIMIZE}
SETTLED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def trial_name(number: int) -> str:
    """The name of a trial, its folder and its MLflow run."""
    return f"trial-{number:04d}"


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A trial to run."""

    number: int
    """Its number in the study."""
    settings: dict[str, Any]
    """What was proposed and what follows from it, by dotted key."""

    @property
    def name(self) -> str:
        """Of its folder and its MLflow run."""
        return trial_name(self.number)


class Study:
    """Proposes trials and is told of them; opened again, it goes on where it was.

    Args:
        folder: Of the sweep.
        space: What to choose from.
        objectives: One or more.
        trials: Number that the sweep is to have.
        seed: Of the proposals: each depends on it, its number and what was told before.
        halving: When to stop a trial before its end; for one objective.
        constraints: What the figures of a trial that counts must satisfy.
    """

    def __init__(
        self,
        folder: Path,
        *,
        space: SearchSpace,
        objectives: Sequence[Objective],
        trials: int,
        seed: int = 0,
        halving: Halving | None = None,
        constraints: Sequence[Constraint] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space, self._objectives, self._constraints = space, objectives, constraints
        self._trials, self._seed = trials, seed
        self._storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
        self._study = optuna.create_study(
            study_name=folder.name,
            storage=self._storage,
            directions=[DIRECTIONS[goal.mode] for goal in objectives],
            pruner=_pruner(halving),
            load_if_exists=True,
        )
        self._open: dict[int, Trial] = {}
        self._waiting = [t.number for t in self._frozen() if t.state == TrialState.RUNNING]

    def next(self) -> Proposal | None:
        """A trial that was left running, else a new one, None when the sweep has all of its."""
        if self._waiting:
            number = self._waiting.pop(0)
            study_id = self._storage.get_study_id_from_name(self._study.study_name)
            trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, number)
            self._study.sampler = self._fresh_sampler(number)
            return self._proposal(Trial(self._study, trial_id))
        known = self._frozen()
        if sum(SOURCE not in trial.user_attrs for trial in known) >= self._trials:
            return None
        self._study.sampler = self._fresh_sampler(len(known))
        return self._proposal(self._study.ask())

    def stop_early(self, number: int, images: int, value: float) -> bool:
        """Tell of a figure on the way; a trial that is to be stopped is settled by this.

        Args:
            number: Of the trial.
            images: Training pictures seen.
            value: Of the objective, or of what the rungs compare.
        """
        trial = self._open[number]
        with warnings.catch_warnings(action="ignore"):  # of a step done again after a crash
            trial.report(value, images)
        if not trial.should_prune():
            return False
        self._study.tell(number, state=TrialState.PRUNED)
        return True

    def complete(self, number: int, figures: Mapping[str, float]) -> None:
        """Tell of a trial that is through; figures that are no numbers make it a failed one."""
        values = [figures.get(goal.metric, math.nan) for goal in self._objectives]
        for goal, value in zip(self._objectives, values, strict=True):
            if not math.isfinite(value):
                self.fail(number, f"{goal.metric} is {value}")
                return
        trial = self._open[number]
        measured = {name: v for name, v in figures.items() if math.isfinite(v)}
        trial.set_user_attr(FIGURES, measured)
        trial.set_user_attr(CONSTRAINTS, [c.violation(figures) for c in self._constraints])
        self._study.tell(number, values)

    def fail(self, number: int, reason: str, *, its_fault: bool = True) -> None:
        """Tell of a trial that came to nothing.

        Args:
            number: Of the trial.
            reason: Why.
            its_fault: Whether its settings are to blame: the sampler then takes it for one of the
                worst, once there are others; else it learns nothing of it.
        """
        trial = self._open[number]
        trial.set_user_attr(REASON, reason)
        through = [t.values for t in self.completed()]
        if not through or not its_fault:
            self._study.tell(number, state=TrialState.FAIL)
            return
        trial.set_user_attr(CONSTRAINTS, [math.inf for _ in self._constraints])
        worst = [
            max(values) if goal.mode == "min" else min(values)
            for goal, values in zip(self._objectives, zip(*through, strict=True), strict=True)
        ]
        self._study.tell(number, worst)

    def is_settled(self, number: int) -> bool:
        """Whether there is nothing more to say of a trial."""
        return self._frozen()[number].state in SETTLED

    def completed(self) -> list[FrozenTrial]:
        """Trials that are through, those of a warm start too."""
        return [
            trial
            for trial in self._frozen()
            if trial.state == TrialState.COMPLETE and REASON not in trial.user_attrs
        ]

    def counts(self) -> dict[str, int]:
        """Trials of this sweep: ``finished``, ``pruned``, ``failed`` and ``running``."""
        own = [trial for trial in self._frozen() if SOURCE not in trial.user_attrs]
        failed = [t for t in own if REASON in t.user_attrs]
        states = [t.state for t in own if REASON not in t.user_attrs]
        return {
            "finished": states.count(TrialState.COMPLETE),
            "pruned": states.count(TrialState.PRUNED),
            "failed": len(failed),
            "running": states.count(TrialState.RUNNING),
        }

    def best(self) -> list[tuple[Proposal, list[float]]]:
        """The best trials of this sweep that satisfy all constraints, and their figures.

        One for one objective; for several those that no other one beats in all of them.
        """
        own = [t for t in self.completed() if SOURCE not in t.user_attrs]
        feasible = [t for t in own if all(v <= 0 for v in t.user_attrs[CONSTRAINTS])]
        places = front([t.values for t in feasible], [goal.mode for goal in self._objectives])
        best = [feasible[n] for n in places[: 1 if len(self._objectives) == 1 else None]]
        return [(self._known_proposal(trial), trial.values) for trial in best]

    def endings(self) -> list[tuple[str, Literal["FINISHED", "FAILED"], str]]:
        """Trials that did not come to their end and never will: name, status and reason."""
        found: list[tuple[str, Literal["FINISHED", "FAILED"], str]] = []
        for trial in self._frozen():
            name = self._known_proposal(trial).name
            if REASON in trial.user_attrs:
                found.append((name, "FAILED", trial.user_attrs[REASON]))
            elif trial.state == TrialState.PRUNED:
                found.append((name, "FINISHED", f"stopped early, at {trial.last_step} pictures"))
        return found

    def reasons(self) -> list[str]:
        """Why trials failed."""
        return [t.user_attrs[REASON] for t in self._frozen() if REASON in t.user_attrs]

    def add(self, settings: Mapping[str, Any], figures: Mapping[str, float], run_id: str) -> bool:
        """Add what an earlier run found, if the space has it and no run was added twice.

        Args:
            settings: Flat configuration of the run.
            figures: It ended with.
            run_id: Its MLflow run.

        Returns:
            Whether it was added.
        """
        values = [figures.get(goal.metric, math.nan) for goal in self._objectives]
        params = self._space.params_of(settings)
        known = {trial.user_attrs.get(SOURCE) for trial in self._frozen()}
        if params is None or run_id in known or not all(map(math.isfinite, values)):
            return False
        attributes = {
            SOURCE: run_id,
            CONSTRAINTS: [c.violation(figures) for c in self._constraints],
        }
        self._study.add_trial(
            optuna.trial.create_trial(
                params=params,
                distributions=self._space.distributions(),
                values=values,
                user_attrs=attributes,
            )
        )
        return True

    def _frozen(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _proposal(self, trial: Trial) -> Proposal:
        derived = self._space.suggest(trial)
        self._open[trial.number] = trial
        return Proposal(number=trial.number, settings={**trial.params, **derived})

    def _known_proposal(self, trial: FrozenTrial) -> Proposal:
        derived = self._space.suggest(FixedTrial(trial.params)) if trial.params else {}
        return Proposal(number=trial.number, settings={**trial.params, **derived})

    def _fresh_sampler(self, number: int) -> BaseSampler:
        """TPE's, which proposes nothing that a trial of this sweep has had already."""
        known = self._frozen()
        own = [t for t in known if t.number != number and SOURCE not in t.user_attrs]
        others = [t for t in known if SOURCE in t.user_attrs]
        params = fresh_params(
            self._space,
            own,
            others,
            (self._sampler(number, attempt) for attempt in range(ATTEMPTS)),
            self._study.directions,
            seed_of(self._seed, number),
        )
        base = self._sampler(number)
        if params is None:
            return base
        with warnings.catch_warnings(action="ignore"):  # "experimental" as well
            return PartialFixedSampler(params, base)

    def _sampler(self, number: int, attempt: int = 0) -> BaseSampler:
        with warnings.catch_warnings(action="ignore"):  # constraints are "experimental" in Optuna
            return TPESampler(
                seed=seed_of(self._seed, number, *([attempt] if attempt else [])),
                n_startup_trials=min(RANDOM_TRIALS, max(1, self._trials // 3)),
                constraints_func=_violations if self._constraints else None,
            )


def _violations(trial: FrozenTrial) -> Sequence[float]:
    return trial.user_attrs.get(CONSTRAINTS, ())


def _pruner(halving: Halving | None) -> optuna.pruners.BasePruner:
    if halving is None:
        return optuna.pruners.NopPruner()
    return optuna.pruners.SuccessiveHalvingPruner(
        min_resource=halving.first_images, reduction_factor=halving.factor
    )
