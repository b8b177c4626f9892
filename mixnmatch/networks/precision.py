"""What must not be computed in the few bits of autocast."""

import torch
from jaxtyping import Float
from torch import Tensor


def full_precision(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Float32 for what autocast made in fewer bits; anything else as it is."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
