"""Which model is served, and how it is loaded."""

from dataclasses import dataclass
from pathlib import Path

from mixnmatch.bundle import load_bundle
from mixnmatch.errors import ModelError
from mixnmatch.mixer import Mixer
from mixnmatch_platform.registry import MODEL_URI, fetch_model, named_version

__all__ = ["Served", "resolve"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """A model that stays the same: a version of a registered one, or a folder."""

    name: str
    """Of the registered model or the folder."""
    version: int | None
    """None for a folder."""
    source: str
    """``models:/NAME/VERSION``, or the folder."""
    store: str | None
    """Tracking URI of its registry; None for a folder."""

    def __str__(self) -> str:
        """Its name for people."""
        return self.source if self.version is None else f"{self.name} version {self.version}"

    def folder(self) -> Path:
        """Its bundle on this machine; see ``registry.fetch_model``."""
        return Path(self.source) if self.store is None else fetch_model(self.source, self.store)

    def load(self, device: str, batch_size: int) -> Mixer:
        """Read it.

        Raises:
            ModelError: If it is not there, or damaged.
            InputError: If its store is away.
        """
        return Mixer(load_bundle(self.folder()).to(device), batch_size=batch_size)


def resolve(model: str, store: str) -> Served:
    """What an address stands for now.

    Args:
        model: ``models:/NAME@ALIAS``, ``models:/NAME/VERSION`` or a bundle's folder.
        store: Tracking URI.

    Raises:
        ModelError: If there is no such model, alias or version.
        InputError: If the store is away.
    """
    if not model.startswith("models:"):
        folder = Path(model).absolute()
        if not folder.is_dir():
            raise ModelError(f"{model}: no such model folder")
        return Served(name=folder.name, version=None, source=str(folder), store=None)
    match = MODEL_URI.fullmatch(model)
    if match is None or not (match["alias"] or match["version"]):
        raise ModelError(f"{model!r}: write models:/NAME@ALIAS or models:/NAME/VERSION")
    version = named_version(model, store)
    name, number = version.name, int(version.version)
    return Served(name=name, version=number, source=f"models:/{name}/{number}", store=store)
