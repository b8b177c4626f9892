"""Who made which version champion, when, from which run and why; and the way back."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mixnmatch.bundle import load_bundle
from mixnmatch.errors import InputError, ModelError
from mixnmatch.metrics.report import columns
from mixnmatch_platform.promotion.decisions import (
    AT_TAG,
    BY_TAG,
    CANDIDATE,
    CHAMPION,
    PREVIOUS,
    REPLACED_TAG,
    STATE_TAG,
    take_turn,
)
from mixnmatch_platform.promotion.promote import (
    ACTION_TAG,
    METRIC_TAG,
    RUN_TAG,
    VALUE_TAG,
    WHY_TAG,
)
from mixnmatch_platform.registry import bundle_in, decided_versions, fetched, known_model
from mixnmatch_platform.store import connect_existing, mlflow_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["Entry", "Rollback", "history", "history_table", "roll_back"]

RESTORES_TAG = "mixnmatch.restores"
"""Tag of a version: the version whose files it has again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One decision."""

    version: int
    """The version that came of it."""
    action: str
    """``promotion``, ``candidate``, ``rollback``, or ``registered`` without this platform."""
    aliases: list[str]
    """That the version has now."""
    at: str
    """UTC."""
    by: str
    """User and machine."""
    run_name: str
    """The run that trained it."""
    run_id: str
    """Its id."""
    metric: str
    """The figure that decided."""
    value: float | None
    """As the run recorded it."""
    replaced: int | None
    """The champion before."""
    restores: int | None
    """The version whose files it has again."""
    why: str
    """What was given as the reason."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollback:
    """What a rollback did, or would do."""

    name: str
    """Name of the registered model."""
    version: int | None
    """The new champion's version; None in a dry run."""
    restores: int
    """The version whose files it has."""
    replaced: int
    """The champion before."""


def history(store: str, name: str) -> list[Entry]:
    """All decisions about a model, oldest first.

    Args:
        store: Tracking URI.
        name: Name of the registered model.

    Raises:
        ModelError: If there is no such model.
        InputError: If the store is away.
    """
    client = connect_existing(store)
    with mlflow_errors(f"the history of {name} could not be read"):
        model = known_model(client, store, name)
        return [_entry(version, model.aliases) for version in decided_versions(client, model)]


def history_table(entries: list[Entry]) -> str:
    """Decisions as text in columns, newest first."""
    rows = [("version", "what", "when (UTC)", "by", "run", "figure", "why")]
    for entry in reversed(entries):
        marks = f" ({', '.join(entry.aliases)})" if entry.aliases else ""
        what = entry.action
        if entry.restores is not None:
            what += f" to v{entry.restores}"
        elif entry.replaced is not None:
            what += f" over v{entry.replaced}"
        figure = "" if entry.value is None else f"{entry.metric} {entry.value:.4g}"
        rows.append(
            (
                f"v{entry.version}{marks}",
                what,
                entry.at,
                entry.by,
                entry.run_name,
                figure,
                entry.why,
            )
        )
    return "\n".join(columns(rows, left=range(len(rows[0]))))


def roll_back(
    store: str, name: str, *, to: int | None = None, why: str = "", dry_run: bool = False
) -> Rollback:
    """Make an earlier champion's files the champion again, as a new version.

    The new version points at the same files, so that it paints what the earlier one did, bit by
    bit; the numbers keep the order of the decisions.

    Args:
        store: Tracking URI.
        name: Name of the registered model.
        to: Version to go back to; the one before the champion by default.
        why: For the history.
        dry_run: Only say what would happen.

    Raises:
        InputError: If there is no champion, or nothing to go back to.
        ModelError: If there is no such model, or its earlier files are missing or damaged.
    """
    client = connect_existing(store)
    with mlflow_errors(f"{name} could not be rolled back"):
        target, champion = _target(client, store, name, to)
        earlier = client.get_model_version(name, str(target))
        _check_files(client, store, earlier)
        if dry_run:
            return Rollback(name=name, version=None, restores=target, replaced=champion)
        kept = {
            key: value
            for key, value in earlier.tags.items()
            if key not in (STATE_TAG, AT_TAG, BY_TAG, REPLACED_TAG)
        }
        with take_turn(
            client,
            name,
            source=earlier.source,
            run_id=earlier.run_id,
            tags={
                **kept,
                ACTION_TAG: "rollback",
                WHY_TAG: why,
                RESTORES_TAG: earlier.tags.get(RESTORES_TAG) or str(target),
            },
            description=f"The files of v{target} again. {why}".strip(),
        ) as turn:
            now, replaced = _target(client, store, name, to)
            if now != target or replaced != champion:
                raise InputError(
                    f"{name} was changed meanwhile: champion is v{replaced} now, not v{champion}; "
                    "look at platform history, then roll back again"
                )
            turn.crown()
        return Rollback(name=name, version=turn.version, restores=target, replaced=champion)


def _target(client: "MlflowClient", store: str, name: str, to: int | None) -> tuple[int, int]:
    """The version to go back to, and the champion."""
    model = known_model(client, store, name)
    if CHAMPION not in model.aliases:
        raise InputError(f"model {name!r} has no champion: promote one first")
    champion = int(model.aliases[CHAMPION])
    known = {int(version.version): version.tags for version in decided_versions(client, model)}
    if to is None:
        # Its tag is there before it is champion; the alias is set after that.
        to = _number(known[champion].get(REPLACED_TAG, str(model.aliases.get(PREVIOUS))))
        if to is None:
            raise InputError(
                f"v{champion} is the first champion of {name!r}: nothing to go back to"
            )
    if to == champion or to not in known:
        others = ", ".join(f"v{number}" for number in known if number != champion) or "none"
        what = "is the champion" if to == champion else "does not exist"
        raise InputError(f"v{to} of {name!r} {what}: there is {others} to go back to")
    return to, champion


def _check_files(client: "MlflowClient", store: str, earlier: Any) -> None:
    """Look whether a version has a whole model still."""
    try:
        with fetched(client, store, earlier.source) as folder:
            load_bundle(bundle_in(folder))
    except ModelError as error:
        raise ModelError(
            f"v{earlier.version} of {earlier.name!r} cannot be champion again: {error}"
        ) from error


def _entry(version: Any, aliases: dict[str, str]) -> Entry:
    tags, number = version.tags, int(version.version)
    order = (CHAMPION, PREVIOUS, CANDIDATE)
    own = [alias for alias, holder in aliases.items() if int(holder) == number]
    return Entry(
        version=number,
        action=tags.get(ACTION_TAG, "registered"),
        aliases=sorted(own, key=lambda a: (order.index(a) if a in order else len(order), a)),
        at=tags.get(AT_TAG, ""),
        by=tags.get(BY_TAG, ""),
        run_name=tags.get(RUN_TAG, ""),
        run_id=version.run_id or "",
        metric=tags.get(METRIC_TAG, ""),
        value=float(tags[VALUE_TAG]) if tags.get(VALUE_TAG) else None,
        replaced=_number(tags.get(REPLACED_TAG)),
        restores=_number(tags.get(RESTORES_TAG)),
        why=tags.get(WHY_TAG, ""),
    )


def _number(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"\d+", text) else None
