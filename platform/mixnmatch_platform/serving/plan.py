"""What is to be served, found and checked before anything is started."""

from dataclasses import dataclass
from pathlib import Path

from mixnmatch.bundle import load_bundle
from mixnmatch.data.store import Dataset, open_dataset
from mixnmatch.errors import DataError, InputError
from mixnmatch_platform.placing import Bundle, worker_bundle
from mixnmatch_platform.services import LOOPBACK, is_free
from mixnmatch_platform.serving.models import Served, resolve
from mixnmatch_platform.store import connect_existing, mlflow_errors
from mixnmatch_platform.tracking import DATA_TAG

__all__ = ["Plan", "Prepared", "describe", "prepare", "words_of"]

LOOPBACKS = (LOOPBACK, "localhost", "::1")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be served, where and by whom."""

    model: str
    """``models:/NAME@ALIAS``, ``models:/NAME/VERSION`` or a bundle's folder."""
    store: str
    """Tracking URI."""
    home: Path
    """Folder of the runs."""
    gallery: Path | None
    """Data set to choose pictures of; that of the model's run without it."""
    host: str
    port: int
    replicas: tuple[int, int]
    """The fewest and the most."""
    cpus_per_replica: float
    gpus_per_replica: float
    batch_size: int
    queue: int
    """Requests that may wait for a replica."""
    timeout_seconds: float
    """For a request, with its waiting."""
    follow_seconds: float
    """Between two looks at an alias."""
    token: str | None

    @property
    def url(self) -> str:
        """Where it is served, for this machine."""
        host = LOOPBACK if self.host in ("0.0.0.0", "::") else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def is_public(self) -> bool:
        """Whether other machines may reach it."""
        return self.host not in LOOPBACKS

    @property
    def follows(self) -> bool:
        """Whether the model is an alias."""
        return self.model.startswith("models:") and "@" in self.model


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A plan with all that must be known before anything is started."""

    plan: Plan
    served: Served
    image_size: int
    dataset: Dataset | None
    """Of the gallery."""
    replica: Bundle
    """What each takes of a machine."""


def prepare(plan: Plan) -> Prepared:
    """Find and check the model and the data set.

    Raises:
        InputError: If something is missing, damaged, in use or out of range.
    """
    replica = worker_bundle(
        gpus_per_worker=plan.gpus_per_replica, cpus_per_worker=plan.cpus_per_replica
    )
    if plan.host == LOOPBACK and not is_free(plan.port):
        raise InputError(f"port {plan.port} is in use by another program: take another --port")
    served = resolve(plan.model, plan.store)
    bundle = load_bundle(served.folder())
    if plan.gallery is not None:
        dataset: Dataset | None = open_dataset(plan.gallery)
    else:
        dataset = _training_data(served, bundle.data.get("fingerprint"))
    size = bundle.config.model.image_size
    return Prepared(plan=plan, served=served, image_size=size, dataset=dataset, replica=replica)


def describe(prepared: Prepared) -> str:
    """The plan in words."""
    plan, (fewest, most) = prepared.plan, prepared.plan.replicas
    replicas = f"{most}" if fewest == most else f"{fewest} to {most}"
    each = words_of(prepared.replica)
    followed = f", followed every {plan.follow_seconds:g} s" if plan.follows else ""
    gallery = "none" if prepared.dataset is None else str(prepared.dataset.path)
    return "\n".join(
        [
            f"model     {prepared.served} ({prepared.image_size} px{followed})",
            f"replicas  {replicas}, each {each}; batches of up to {plan.batch_size}",
            f"waiting   up to {plan.queue} requests, {plan.timeout_seconds:g} s each",
            f"gallery   {gallery}",
            f"token     {'asked for' if plan.token else 'none'}",
            f"address   {plan.url}",
        ]
    )


def words_of(bundle: Bundle) -> str:
    """What is taken, or free, of a machine."""
    return " and ".join(f"{amount:g} {kind}" for kind, amount in bundle.items())


def _training_data(served: Served, fingerprint: str | None) -> Dataset | None:
    """The data set of the model's run, where this machine has it unchanged."""
    if served.store is None:
        return None
    client = connect_existing(served.store)
    with mlflow_errors(f"the run of {served} cannot be looked up in {served.store}"):
        version = client.get_model_version(served.name, str(served.version))
        run = client.get_run(version.run_id) if version.run_id else None
    if run is None or not (data := run.data.params.get("data")) or "://" in data:
        return None
    try:
        dataset = open_dataset(data)
    except DataError:
        return None
    known = {fingerprint, run.data.tags.get(DATA_TAG)}
    return dataset if dataset.info.fingerprint in known else None
