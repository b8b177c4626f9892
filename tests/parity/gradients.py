"""The gradients of two steps, as their optimisers see them, and how far apart they are."""

from collections.abc import Mapping

import torch
from torch import Tensor


def watch(
    optimisers: Mapping[str, torch.optim.Optimizer], names: Mapping[int, str]
) -> dict[str, Tensor]:
    """Gradients as each optimiser sees them: filled at every step, by phase and weight.

    Args:
        optimisers: By phase.
        names: Names of the weights by their id.
    """
    seen: dict[str, Tensor] = {}

    def keep(phase: str, optimiser: torch.optim.Optimizer) -> None:
        def before(*_: object) -> None:
            for group in optimiser.param_groups:
                for weight in group["params"]:
                    seen[f"{phase}: {names[id(weight)]}"] = weight.grad.clone()

        optimiser.register_step_pre_hook(before)

    for phase, optimiser in optimisers.items():
        keep(phase, optimiser)
    return seen


def relative_differences(ours: dict[str, Tensor], reference: dict[str, Tensor]) -> dict[str, float]:
    """``‖ours − reference‖ / ‖reference‖`` of each gradient that ``watch`` saw.

    A gradient under 50 roundings of its phase's largest is zero but for rounding (that of a bias
    before a batch norm, say); its difference is measured against the largest.
    """
    largest: dict[str, float] = {}
    for name, gradient in reference.items():
        phase = name.split(":")[0]
        largest[phase] = max(largest.get(phase, 0.0), float(gradient.norm()))
    differences = {}
    for name, gradient in reference.items():
        size, most = float(gradient.norm()), largest[name.split(":")[0]]
        if size <= 50 * torch.finfo(gradient.dtype).eps * most:
            size = most
        difference = float((ours[name] - gradient).norm())
        differences[name] = difference / size if difference else 0.0
    return differences
