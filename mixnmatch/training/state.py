"""What both stages have in common: their state, saved and loaded, and how a phase updates."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mixnmatch.codes import Codes
from mixnmatch.config import RunConfig
from mixnmatch.data.batches import Batch
from mixnmatch.device import uses_bfloat16
from mixnmatch.draws import Draws
from mixnmatch.errors import ModelError
from mixnmatch.settings import from_dict, to_dict
from mixnmatch.training.optim import average_gradients, gradient_norm, load_optimiser

Losses = dict[str, Float[Tensor, ""]]
LossOf = Callable[[int, Draws], tuple[Float[Tensor, ""], Losses]]


class TrainingStage(ABC):
    """Networks in training, with everything that a resumed run needs.

    Args:
        config: The run's configuration.
        device: Where networks and batches live.
        rank: Number of this data-parallel worker.
        world_size: Number of these workers.
    """

    number: int
    """1 or 2."""

    def __init__(self, config: RunConfig, device: torch.device, rank: int, world_size: int) -> None:
        self.config = config
        self.device = device
        self.rank = rank
        self.world_size = world_size
        self.bfloat16 = uses_bfloat16(config.compute.precision, device)
        self.steps_done = 0
        self.optimisers: dict[str, torch.optim.Optimizer] = {}
        self.random = torch.Generator(device)
        self._seed_random()

    @abstractmethod
    def modules(self) -> dict[str, nn.Module]:
        """All networks of the state by name."""

    @abstractmethod
    def step(self, batch: Batch, *, watch: bool = False) -> Losses:
        """One update of every network that this stage trains.

        Args:
            batch: Real pictures, on the stage's device.
            watch: Whether to measure what tells of a collapse, too: logits and gradient norms.

        Returns:
            Every loss term before its weight, detached and still on the device.
        """

    def settle(self) -> None:  # noqa: B027  # most have nothing to do
        """Make the networks ready to be evaluated or saved as a model."""

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
                load_optimiser(optimiser, state["optimisers"][name])
        except (KeyError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[-1].strip()
            raise ModelError(f"checkpoint does not fit these networks: {reason}") from error
        self.steps_done = int(state["steps_done"])
        if state.get("device") == self.device.type:
            self.random.set_state(state["random"].cpu())
        else:
            # Kinds of device have generators of their own.
            self._seed_random()

    def update(self, phase: str, loss_of: LossOf, *, watch: bool) -> Losses:
        """One step of an optimiser, with the gradients of all parts of the batch on all workers.

        Args:
            phase: Name of the optimiser.
            loss_of: What it minimises, and the named terms of that, by the number of a part of the
                batch and the random numbers for it.
            watch: Whether to measure the norm of the gradients.

        Returns:
            The terms, detached: means over the parts.
        """
        optimiser = self.optimisers[phase]
        optimiser.zero_grad(set_to_none=True)
        parts = self.config.compute.micro_batches
        means: Losses = {}
        for part, draws in enumerate(self._draws()):
            with self.autocast():
                loss, terms = loss_of(part, draws)
            (loss / parts).backward()
            for name, term in terms.items():
                means[name] = means.get(name, 0) + term.detach() / parts
        weights = [p for group in optimiser.param_groups for p in group["params"]]
        average_gradients(weights)
        if watch:
            means[f"{phase}/gradient_norm"] = gradient_norm(weights)
        optimiser.step()
        return means

    def autocast(self) -> torch.autocast:
        """The precision in which the networks compute."""
        # Without its cache, which would outlive the update of the weights that are in it.
        return torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.bfloat16, cache_enabled=False
        )

    def worker_draws(self) -> Draws:
        """Random numbers for this worker's whole batch."""
        return Draws(self.random, self.rank, self.world_size)

    def sample(self, kind: Callable[..., Codes], count: int, draws: Draws) -> Codes:
        """Codes for a part of the batch.

        Args:
            kind: ``sample_tied`` or ``sample_free``.
            count: Number of the part's codes.
            draws: Of the part.
        """
        codes = kind(self.config.model, count * draws.parts, draws.generator)
        return codes.part(draws.part, draws.parts)

    def _draws(self) -> Iterator[Draws]:
        """Random numbers for each part of the batch, all from the same state."""
        parts = self.config.compute.micro_batches
        state = self.random.get_state() if parts > 1 else None
        for part in range(parts):
            if state is not None:
                self.random.set_state(state)
            yield Draws(self.random, self.rank * parts + part, self.world_size * parts)

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
        # Primes keep (seed, stage, step) apart without a table. Workers begin alike: see ``Draws``.
        seed = self.config.seed * 1_000_003 + self.number * 10_007
        self.random.manual_seed(seed + self.steps_done * 1_000_000_007)
