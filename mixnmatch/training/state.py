"""What both stages have in common: their state, saved and loaded as a whole."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mixnmatch.config import RunConfig
from mixnmatch.data.batches import Batch
from mixnmatch.errors import ModelError
from mixnmatch.settings import from_dict, to_dict


class TrainingStage(ABC):
    """Networks in training, with everything that a resumed run needs.

    Args:
        config: The run's configuration.
        device: Where networks and batches live.
        rank: Number of this data-parallel worker.
    """

    number: int
    """1 or 2."""

    def __init__(self, config: RunConfig, device: torch.device, rank: int) -> None:
        self.config = config
        self.device = device
        self.rank = rank
        self.steps_done = 0
        self.optimisers: dict[str, torch.optim.Optimizer] = {}
        self.random = torch.Generator(device)
        self._seed_random()

    @abstractmethod
    def modules(self) -> dict[str, nn.Module]:
        """All networks of the state by name."""

    @abstractmethod
    def step(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """One update of every network that this stage trains; returns the named losses."""

    def state_dict(self) -> dict[str, Any]:
        """Networks, averages, optimisers, step and random state, as tensors and plain types."""
        return {
            "stage": self.number,
            "config": to_dict(self.config),
            "steps_done": self.steps_done,
            "device": self.device.type,
            "random": self.random.get_state(),
            "modules": {name: module.state_dict() for name, module in self.modules().items()},
            "optimisers": {name: o.state_dict() for name, o in self.optimisers.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state.

        Raises:
            ModelError: If the state is another stage's, or of a model of other sizes.
        """
        if state.get("stage") != self.number:
            raise ModelError(
                f"checkpoint of stage {state.get('stage')!r}: stage {self.number} is needed"
            )
        model = from_dict(type(self.config.model), state["config"]["model"])
        if model != self.config.model:
            raise ModelError(
                f"checkpoint of {model}: the run is configured for {self.config.model}"
            )
        try:
            for name, module in self.modules().items():
                module.load_state_dict(state["modules"][name])
            for name, optimiser in self.optimisers.items():
                optimiser.load_state_dict(state["optimisers"][name])
        except (KeyError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[-1].strip()
            raise ModelError(f"checkpoint does not fit these networks: {reason}") from error
        self.steps_done = int(state["steps_done"])
        if self.rank == 0 and state.get("device") == self.device.type:
            self.random.set_state(state["random"].cpu())
        else:
            # Only worker 0 saves, and kinds of device have generators of their own: the others draw
            # afresh, each from a seed of its own.
            self._seed_random()

    @contextmanager
    def seeded_weights(self) -> Iterator[None]:
        """Initial weights from the configured seed, with torch's own random state left alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            yield

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """All networks in eval mode: what they are shown leaves their batch norm as it was."""
        training = [module for module in self.modules().values() if module.training]
        for module in training:
            module.eval()
        try:
            yield
        finally:
            for module in training:
                module.train()

    def _seed_random(self) -> None:
        # Primes keep (seed, stage, rank, step) apart without a table.
        seed = self.config.seed * 1_000_003 + self.number * 10_007 + self.rank * 101
        self.random.manual_seed(seed + self.steps_done * 1_000_000_007)
