"""Features of real pictures, kept on disk for all later evaluations of any model."""

import hashlib
import json
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import PIL
from PIL import features as codecs
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mixnmatch.data.records import Split
from mixnmatch.data.views import VIEWS_VERSION
from mixnmatch.errors import RunError
from mixnmatch.files import cache_folder, whole_file
from mixnmatch.metrics.extractors import Extractor
from mixnmatch.metrics.measure import Observations, Preparation, Subject

_VERSION = 1  # of the files, and of how features are computed


class RealFeatures(Preparation):
    """Features of the pictures of a split, in the order of their rows, as evaluation sees them.

    Its file's name stands for all that changes a feature. Processes that write the same file at
    once do each other no harm: it appears whole, and the last one stays.

    Args:
        subject: Names the data set, the size of its pictures and the device.
        extractor: Whose features.
        split: ``train``, which generated pictures are compared with, or ``test``.
    """

    def __init__(self, subject: Subject, extractor: Extractor, split: Split = "train") -> None:
        self.subject = subject
        self.extractor = extractor
        self.split = split
        self.rows = subject.real_rows if split == "train" else subject.dataset.indices(split)
        key = [
            _VERSION,
            VIEWS_VERSION,
            PIL.__version__,
            codecs.version("libjpeg_turbo"),
            subject.dataset.info.fingerprint,
            split,
            subject.image_size,
            extractor.key,
            # Kinds of devices round in their own ways, and what is cached is to be what is seen.
            subject.bundle.device.type,
        ]
        self._key = hashlib.sha256(json.dumps(key).encode()).hexdigest()
        self.file = cache_folder() / f"features-{extractor.name}-{self._key[:16]}.safetensors"
        self._kept: Observations | None = None

    def __reduce__(self) -> "tuple[Callable[..., RealFeatures], tuple[Any, ...]]":
        """Without what was read: workers look at pictures, and have no use for it."""
        return RealFeatures, (self.subject, self.extractor, self.split)

    @cached_property
    def count(self) -> int:
        """Pictures to look at: none where the file was there at first."""
        return 0 if self.load() is not None else len(self.rows)

    def observe(self, cases: range) -> Observations:
        """See ``Preparation``."""
        images = self.subject.read(self.rows[cases.start : cases.stop]).images
        return self.extractor.features(images, self.subject.bundle.device)

    def keep(self, seen: Observations) -> None:
        """Write the file.

        Raises:
            RunError: If it cannot be written.
        """
        try:
            with whole_file(self.file) as partial:
                save_file(seen, partial, metadata={"sha256": self._checksum(seen)})
        except (OSError, SafetensorError) as error:
            raise RunError(
                f"{self.file}: features of real pictures cannot be written ({error}): set "
                "MIXNMATCH_CACHE to a folder with room"
            ) from error

    def load(self) -> Observations | None:
        """What was kept, read once; None where there is no such file, or it is damaged."""
        if self._kept is None:
            self._kept = self._read()
        return self._kept

    def _read(self) -> Observations | None:
        try:
            with safe_open(self.file, "numpy") as file:
                kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                expected = (file.metadata() or {}).get("sha256")
        except (OSError, SafetensorError):
            return None
        return kept if self._checksum(kept) == expected else None

    def _checksum(self, arrays: Observations) -> str:
        digest = hashlib.sha256(self._key.encode())  # so that no other pictures' features will do
        for name, values in sorted(arrays.items()):
            digest.update(f"{name} {values.shape} {values.dtype}".encode())
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()
