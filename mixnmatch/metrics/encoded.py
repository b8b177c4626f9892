"""Codes of real pictures, encoded once and then mixed many times."""

import numpy as np
import torch
from jaxtyping import Int

from mixnmatch.codes import Codes
from mixnmatch.metrics.measure import Observations, Preparation, Subject


class EncodedPictures(Preparation):
    """The codes of held-out pictures: each is encoded once, for all mixes that it gives to.

    Args:
        subject: What is measured.
        pictures: Indices of held-out pictures.
    """

    def __init__(self, subject: Subject, pictures: Int[np.ndarray, "P"]) -> None:
        self.subject = subject
        self.pictures = np.unique(pictures)
        self._codes: Codes | None = None

    @property
    def count(self) -> int:
        """Different pictures."""
        return len(self.pictures)

    @torch.no_grad()
    def observe(self, cases: range) -> Observations:
        """Their four codes: ``z``, ``b``, ``p`` and ``c``."""
        rows = self.subject.held_out_rows[self.pictures[cases.start : cases.stop]]
        bundle = self.subject.bundle
        codes = bundle.encoders(self.subject.read(rows).images.to(bundle.device))
        return {name: code.cpu().numpy() for name, code in codes._asdict().items()}

    def keep(self, seen: Observations) -> None:
        """Hold them in memory."""
        self._codes = Codes(**{name: torch.from_numpy(code) for name, code in seen.items()})

    def codes(self, pictures: Int[np.ndarray, "B"]) -> Codes:
        """Codes of some of the pictures, on the model's device; only once they are kept."""
        assert self._codes is not None, "needs() come first"
        rows = np.searchsorted(self.pictures, pictures)
        return Codes(*(code[rows] for code in self._codes)).to(self.subject.bundle.device)
