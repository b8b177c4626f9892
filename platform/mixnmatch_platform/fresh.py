"""Proposals that no trial has had: the same settings trained twice give the same figures."""

import hashlib
import json
import random
from collections.abc import Iterable, Sequence
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from mixnmatch_platform.space import SearchSpace

__all__ = ["ATTEMPTS", "fresh_params", "seed_of"]

ATTEMPTS = 20
"""Proposals asked of the sampler before one is drawn from what is left."""


def seed_of(*parts: int) -> int:
    """A seed (32 bits) for a proposal, from whatever numbers it depends on."""
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:4])


def fresh_params(
    space: SearchSpace,
    own: Sequence[FrozenTrial],
    others: Sequence[FrozenTrial],
    samplers: Iterable[BaseSampler],
    directions: Sequence[StudyDirection],
    seed: int,
) -> dict[str, Any] | None:
    """What the sampler would propose in a space of choices only, among what was not tried yet.

    Args:
        space: The space.
        own: Trials so far; those that failed may be tried again.
        others: Those of earlier runs, which the sampler learns from.
        samplers: Of one attempt each, with seeds of their own.
        directions: Of the objectives.
        seed: For the draw when all samplers repeat what was tried.

    Returns:
        Optuna's parameters; None where the space has ranges, which repeat nothing, or is used up.
    """
    if space.size is None:
        return None
    tried = {_key(trial.params) for trial in own if trial.state != TrialState.FAIL}
    for sampler in samplers:
        copy = optuna.create_study(directions=list(directions), sampler=sampler)
        copy.add_trials([trial for trial in (*own, *others) if trial.params])
        trial = copy.ask()
        space.suggest(trial)
        if _key(trial.params) not in tried:
            return trial.params
    left = [params for params in space.all_params() if _key(params) not in tried]
    return random.Random(seed).choice(left) if left else None


def _key(params: dict[str, Any]) -> str:
    return json.dumps(params, sort_keys=True)
