"""What a step of stage 1 works on: a batch or its micro-batches, and what is painted for them."""

from typing import NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor

from mixnmatch.codes import Codes
from mixnmatch.data.batches import Batch
from mixnmatch.networks import Layers


class Part(NamedTuple):
    """What the networks are shown at once: a batch, or one of its micro-batches."""

    real: Batch
    tied: Codes
    """Codes that the generator paints from."""
    free: Bool[Tensor, "B 1 N N"]
    """Patches of the real background views that see nothing of the object."""


class Seen(NamedTuple):
    """What discriminators learn from, without a graph."""

    child_image: Float[Tensor, "B 3 S S"]
    background: Float[Tensor, "B 3 T T"]
    """The painted background, as its discriminator sees it."""
    encoded: Codes
    """Of the real pictures."""


class Shown(NamedTuple):
    """What generator and encoders make of a part."""

    layers: Layers
    background: Float[Tensor, "B 3 T T"]
    """The painted background, as its discriminator sees it."""
    encoded: Codes
    """Of the real pictures."""

    def seen(self) -> Seen:
        """What of it the discriminators learn from, cut from the graph that made it."""
        image = self.layers.child_image.detach()
        return Seen(image, self.background.detach(), self.encoded.detach())
